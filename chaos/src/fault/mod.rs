//! Faults: each is injected, looked at whether it really happened, and taken away again.
//!
//! Invariant: `inject` returns only when the fault was seen; what it cannot see it does not claim.

pub mod freezer;
mod kill;
mod slot;

use crate::delay::{self, Delayed};
use crate::namespaces::OneWay;
use crate::process::{self, Process};
use crate::system::{System, UnitName};
use crate::{database, term};
use anyhow::{Context, Result, bail};
use domicile_core::ids::NodeId;
use freezer::Frozen;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the kernel may take until a signal has had its effect.
const SIGNAL_WITHIN: Duration = Duration::from_secs(5);

/// What is done to the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// `kill -9` of one process: `{primary-writer}/writer`, `{primary-ledger}/postgres`.
    KillUnit {
        /// Which.
        unit: String,
    },
    /// `kill -9` of everything a node has, its Postgres included.
    KillNode {
        /// Which.
        node: String,
    },
    /// `kill -9` of everything in a region.
    KillRegion {
        /// Which: `{primary}`.
        region: String,
        /// Whether its etcd member dies as well.
        etcd: bool,
    },
    /// One process and its children stand still.
    FreezeUnit {
        /// Which.
        unit: String,
    },
    /// Everything in a region stands still.
    FreezeRegion {
        /// Which.
        region: String,
        /// Whether its etcd member does as well.
        etcd: bool,
    },
    /// `kill -9` of every member of etcd, and of nothing else.
    KillControlPlane,
    /// Every member of etcd stands still: connections stay open and nothing answers.
    FreezeControlPlane,
    /// The process that streams to a standby or a reader stands still.
    FreezeWalsender {
        /// The node it runs on.
        node: String,
        /// How the name of its client begins.
        client: String,
    },
    /// A reader's place in the log is not kept on the standby.
    SlotNotReady {
        /// The reader's node.
        reader: String,
    },
    /// Packets between regions take their time.
    Delay {
        /// There and back, in milliseconds.
        round_trip_ms: u64,
    },
    /// Packets from one region to another are lost.
    Cut {
        /// From this region.
        from: String,
        /// To that one.
        to: String,
        /// And back.
        both_ways: bool,
    },
}

/// A fault that was seen.
pub struct Injected {
    /// In words.
    pub what: String,
    heal: Heal,
}

enum Heal {
    Start(Vec<String>),
    Thaw(Frozen),
    Continue(Vec<Process>),
    Slot(NodeId),
    Join(Vec<OneWay>),
    Near(Delayed),
    Nothing,
}

/// Injects a fault whose roles were filled in.
pub async fn inject(system: &System, fault: &Fault) -> Result<Injected> {
    match fault {
        Fault::KillUnit { unit } => kill::unit(system, unit).await,
        Fault::KillNode { node } => {
            let units = kill::of_node(system, node)?;
            kill::all(system, units, format!("killed everything of {node}")).await
        }
        Fault::KillRegion { region, etcd } => {
            let units = kill::of_region(system, region, *etcd)?;
            kill::all(system, units, format!("killed everything in {region}")).await
        }
        Fault::FreezeUnit { unit } => {
            let process = system.process(unit).with_context(|| format!("{unit} does not run"))?;
            let frozen = Frozen::freeze(&process.tree()).await?;
            let what = format!("{unit} stands still, by {}", frozen.how());
            Ok(Injected { what, heal: Heal::Thaw(frozen) })
        }
        Fault::FreezeRegion { region, etcd } => {
            freeze(system, &kill::of_region(system, region, *etcd)?, region).await
        }
        Fault::KillControlPlane => {
            let units = kill::of_control_plane(system)?;
            kill::all(system, units, "killed every member of etcd".to_owned()).await
        }
        Fault::FreezeControlPlane => {
            freeze(system, &kill::of_control_plane(system)?, "the control plane").await
        }
        Fault::FreezeWalsender { node, client } => walsender(system, node, client).await,
        Fault::SlotNotReady { reader } => {
            let reader = NodeId::parse(reader)?;
            let what = slot::unready(system, &reader).await?;
            Ok(Injected { what, heal: Heal::Slot(reader) })
        }
        Fault::Delay { round_trip_ms } => {
            let delayed = delay::inject(system, Duration::from_millis(*round_trip_ms)).await?;
            Ok(Injected { what: delayed.describe()?, heal: Heal::Near(delayed) })
        }
        Fault::Cut { from, to, both_ways } => cut(system, from, to, *both_ways),
    }
}

/// Several units at once, with everything that descends from them.
async fn freeze(system: &System, units: &[UnitName], whose: &str) -> Result<Injected> {
    let all = process::trees(units.iter().filter_map(|unit| system.process(unit)).collect());
    let frozen = Frozen::freeze(&all).await?;
    let what = format!("{} processes of {whose} stand still, by {}", all.len(), frozen.how());
    Ok(Injected { what, heal: Heal::Thaw(frozen) })
}

/// A way that is not to be cut must still be open, or the cut is not what it claims to be.
fn cut(system: &System, from: &str, to: &str, both_ways: bool) -> Result<Injected> {
    let (there, back) = (OneWay::new(system, from, to)?, OneWay::new(system, to, from)?);
    there.cut()?;
    let mut ways = vec![there.clone()];
    if both_ways {
        back.cut()?;
        ways.push(back.clone());
    }
    if there.passes() || back.passes() == both_ways {
        ways.iter().try_for_each(OneWay::join)?;
        bail!("the router does not do what the rules say");
    }
    let arrow = if both_ways { "<->" } else { "->" };
    Ok(Injected { what: format!("nothing passes {from} {arrow} {to}"), heal: Heal::Join(ways) })
}

async fn walsender(system: &System, node: &str, client: &str) -> Result<Injected> {
    let node = NodeId::parse(node)?;
    let named = client.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if !named {
        bail!("`{client}` cannot be the beginning of a client's name");
    }
    let sql = format!(
        "SELECT pid FROM pg_stat_replication WHERE starts_with(application_name, '{client}') ORDER BY 1"
    );
    let pid = database::number(system, &node, &sql).await?;
    let process = Process::of(i32::try_from(pid)?).context("the walsender has ended")?;
    if !process.title().contains("walsender") {
        bail!("process {pid} is `{}`, no walsender", process.title());
    }
    process.signal(Signal::STOP)?;
    process::until(&[process], SIGNAL_WITHIN, "stopped", |state| state == Some('T')).await?;
    let what = format!("the walsender of {node} for {client} stands still (pid {pid})");
    Ok(Injected { what, heal: Heal::Continue(vec![process]) })
}

impl Injected {
    /// Takes the fault away.
    pub async fn heal(self, system: &System) -> Result<()> {
        match self.heal {
            Heal::Start(nodes) => start(system, nodes).await,
            Heal::Thaw(frozen) => frozen.thaw(),
            Heal::Continue(processes) => {
                processes.iter().try_for_each(|process| process.signal(Signal::CONT))
            }
            Heal::Near(delayed) => delayed.heal().await,
            Heal::Join(ways) => ways.iter().try_for_each(OneWay::join),
            Heal::Slot(reader) => slot::again(system, &reader).await,
            Heal::Nothing => Ok(()),
        }
    }
}

/// Starts nodes side by side. One that is not ready in time says so; whether the system becomes whole is looked at later.
async fn start(system: &System, nodes: Vec<String>) -> Result<()> {
    let mut starting = tokio::task::JoinSet::new();
    for node in nodes {
        let system = system.clone();
        starting.spawn(async move {
            let output = system.start(&node).await;
            (node, output)
        });
    }
    while let Some(started) = starting.join_next().await {
        let (node, output) = started?;
        let output = output?;
        if !output.status.success() {
            term::say(format_args!(
                "      `domicile start {node}`: {}",
                crate::system::said(&output)
            ));
        }
    }
    Ok(())
}
