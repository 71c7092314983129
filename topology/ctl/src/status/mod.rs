//! `domicile status`: what every agent and service says right now; nothing is remembered or guessed.

mod page;

use crate::agents::Agents;
use crate::cli::StatusArgs;
use crate::health::{self, Health};
use crate::layout::Layout;
use crate::moves;
use crate::term;
use crate::unit::{self, Part};
use crate::up::Cluster;
use anyhow::Result;
use domicile_core::ids::{ClusterId, NodeId, RegionId};
use domicile_execute::chain;
use domicile_topology::Topology;
use domicile_topology::observed::{NodeKind, NodeStatus, PostgresState};
use domicile_topology::record::{DegradedBy, Record, Writes};
use serde::Serialize;
use std::time::Duration;

/// The pause between two pages of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Everything seen at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// The generation of the local copy of the topology.
    pub(crate) generation: u64,
    /// Whether nothing is wrong: see `problems`.
    pub(crate) healthy: bool,
    /// What a person should look at.
    pub(crate) problems: Vec<String>,
    /// The control record, if the control plane answers and has one.
    pub(crate) record: Option<Record>,
    /// The plan under way and who runs it, if there is one.
    pub(crate) plan: Option<String>,
    /// The databases, by their agents.
    pub(crate) databases: Vec<Database>,
    /// The other processes.
    pub(crate) services: Vec<Service>,
}

/// A database node.
#[derive(Debug, Serialize)]
pub(crate) struct Database {
    /// The node.
    pub(crate) node: NodeId,
    /// Its region.
    pub(crate) region: RegionId,
    /// What its agent says.
    pub(crate) status: Option<NodeStatus>,
    /// Why there is no status.
    pub(crate) error: Option<String>,
}

/// A process that is no database.
#[derive(Debug, Serialize)]
pub(crate) struct Service {
    /// `writer-mt/writer`.
    pub(crate) name: String,
    /// Its region.
    pub(crate) region: RegionId,
    /// Where it is reached.
    pub(crate) address: String,
    /// What it says of itself.
    pub(crate) health: Health,
    /// Whether it has to be ready: a writer outside the writing region stands by.
    pub(crate) expected: bool,
}

/// The command; 1 when something is wrong.
pub(crate) async fn run(layout: &Layout, args: &StatusArgs) -> Result<u8> {
    let topology = layout.topology()?;
    let agents = Agents::new(layout)?;
    let control = Cluster::connect(&topology, layout)?;
    loop {
        let report = observe(&topology, &agents, &control).await;
        if args.json {
            term::json(&report)?;
        } else {
            let clear = if args.watch { "\x1b[H\x1b[2J" } else { "" };
            term::say(format_args!("{clear}{}", page::render(&report, &topology)))?;
        }
        if !args.watch {
            return Ok(u8::from(!report.healthy));
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// The report as a person reads it.
pub(crate) fn page(report: &Report, topology: &Topology) -> String {
    page::render(report, topology)
}

/// Asks everybody once.
pub(crate) async fn observe(topology: &Topology, agents: &Agents, control: &Cluster) -> Report {
    let mut problems = Vec::new();
    let record = match control.record().await {
        Ok(Some(record)) => Some(record),
        Ok(None) => {
            problems.push("there is no control record".to_owned());
            None
        }
        Err(error) => {
            problems.push(format!("the control plane does not answer: {error:#}"));
            None
        }
    };
    if record.is_some()
        && control.client().enforces_roles().await.is_ok_and(|is_enforced| !is_enforced)
    {
        problems.push(
            "etcd does not enforce the roles in certificates: `domicile down`, then `up`"
                .to_owned(),
        );
    }
    let plan = moves::running(control.client()).await.unwrap_or_default();
    let databases = databases(topology, agents).await;
    let services = services(topology, agents, record.as_ref()).await;
    problems.extend(databases.iter().filter_map(database_problem));
    problems.extend(record.iter().flat_map(standing_problems));
    problems.extend(
        services
            .iter()
            .filter(|service| service.expected && !service.health.ready)
            .map(|service| format!("{} is not ready: {}", service.name, service.health.reason)),
    );
    Report {
        cluster: topology.cluster.clone(),
        generation: topology.generation,
        healthy: problems.is_empty(),
        problems,
        record,
        plan,
        databases,
        services,
    }
}

async fn databases(topology: &Topology, agents: &Agents) -> Vec<Database> {
    let ledgers = topology.ledgers.iter().map(|n| (&n.node, &n.region, &n.agent));
    let readers = topology.readers.iter().map(|n| (&n.node, &n.region, &n.agent));
    let mut databases = Vec::new();
    for (node, region, agent) in ledgers.chain(readers) {
        let (status, error) = match agents.status(agent).await {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(chain(&error))),
        };
        databases.push(Database { node: node.clone(), region: region.clone(), status, error });
    }
    databases
}

async fn services(topology: &Topology, agents: &Agents, record: Option<&Record>) -> Vec<Service> {
    let mut services = Vec::new();
    for unit in unit::all(topology).into_iter().filter(|unit| unit.name.part != Part::Agent) {
        let health = health::look(agents.client(), &unit).await;
        let expected = unit.name.part != Part::Writer
            || record.is_none_or(|record| record.writer_region == unit.region);
        services.push(Service {
            name: unit.name.to_string(),
            region: unit.region.clone(),
            address: unit.address.to_string(),
            health,
            expected,
        });
    }
    services
}

/// What is wrong with who writes and who could take over.
fn standing_problems(record: &Record) -> Vec<String> {
    let mut problems = Vec::new();
    if !record.promotable {
        let by = match record.degraded_by {
            DegradedBy::Course => "",
            DegradedBy::Person => ", chosen by a person: `domicile restore-durability` ends it",
        };
        let text = format!("no standby is promotable (durability {:?}{by})", record.durability);
        problems.push(text.to_ascii_lowercase());
    }
    if record.writes == Writes::Closing {
        problems.push("the writer takes no work: writes are closing".to_owned());
    }
    problems
}

/// What is wrong with one database, if anything.
fn database_problem(database: &Database) -> Option<String> {
    let node = &database.node;
    let Some(status) = &database.status else {
        return Some(format!(
            "the agent of {node} does not answer: {}",
            database.error.as_deref().unwrap_or_default()
        ));
    };
    let state = status.postgres.state;
    if !matches!(state, PostgresState::Primary | PostgresState::Standby) {
        return Some(format!("the database of {node} is {}", page::state(state)));
    }
    if let Some(probe) = status.probe.filter(|probe| !probe.ok) {
        return Some(format!(
            "{node} takes no writes: the last one was given up after {} ms",
            probe.latency_ms
        ));
    }
    if let Some(refusal) = &status.postgres.refusal {
        return Some(format!("the database of {node} is not started: {refusal}"));
    }
    if let Some(stalled) = status.postgres.stalled.first() {
        return Some(format!(
            "{node}: {} {} is stopped and moves nothing",
            stalled.process, stalled.pid
        ));
    }
    if let Some(slot) = status.slots.iter().find(|slot| slot.invalidation_reason.is_some()) {
        return Some(format!("slot {} on {node} is lost", slot.name));
    }
    let idle = status.subscriptions.iter().find(|s| !s.enabled || !s.tables_ready);
    idle.filter(|_| status.kind == NodeKind::Reader)
        .map(|s| format!("{node} does not follow: subscription {} is not ready", s.name))
}
