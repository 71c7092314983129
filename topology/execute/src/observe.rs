//! Gathering the facts that the planner decides by.

use crate::world::{World, WorldError};
use domicile_core::ids::NodeId;
use domicile_topology::observed::NodeStatus;
use domicile_topology::plan::{Fact, Facts};
use futures_util::future::{join, join_all};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The longest one agent is waited for, milliseconds: a dead region must not hold up the decision about it.
const AGENT_TIMEOUT_MS: u64 = 1_000;

/// Asks everybody at once. An agent that does not answer is a fact too; a control plane that does not is an error.
pub async fn observe(world: &dyn World) -> Result<Facts, WorldError> {
    // First: a plan under a record that changed while the nodes were asked is refused as stale.
    let record = world.record().await?;
    let topology = world.topology();
    let ledgers = topology.ledgers.iter().map(|ledger| &ledger.node);
    let nodes = ledgers.chain(topology.readers.iter().map(|reader| &reader.node));
    let asked = Instant::now();
    let (answers, leases) =
        join(join_all(nodes.map(|node| ask(world, node))), world.leases()).await;
    let age_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let facts = answers.into_iter().map(|(node, outcome)| {
        let (status, error) = match outcome {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error)),
        };
        (node, Fact { status, age_ms, error })
    });
    Ok(Facts {
        topology: topology.clone(),
        record: record.value,
        record_revision: record.revision.0,
        nodes: facts.collect(),
        leases: leases?,
    })
}

async fn ask(world: &dyn World, node: &NodeId) -> (NodeId, Result<NodeStatus, String>) {
    let limit = Duration::from_millis(AGENT_TIMEOUT_MS);
    let outcome = match timeout(limit, world.status(node)).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("no answer within {AGENT_TIMEOUT_MS} ms")),
    };
    (node.clone(), outcome)
}
