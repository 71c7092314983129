//! Migrations through the agents: every reader before the ledger, so that no published column meets a table without it.

use crate::agents::Agents;
use crate::cli::MigrateArgs;
use crate::layout::Layout;
use crate::term;
use crate::up::Cluster;
use anyhow::{Context, Result};
use domicile_core::ids::NodeId;
use domicile_topology::Topology;
use domicile_topology::agent_api::{MigrateAnswer, MigrateRequest, paths};
use serde::Serialize;

/// What was done on one node.
#[derive(Debug, Serialize)]
pub(crate) struct Migrated {
    /// The node.
    pub(crate) node: NodeId,
    /// Migrations applied now.
    pub(crate) applied: u32,
    /// The schema's version afterwards.
    pub(crate) schema_version: u32,
}

/// The command.
pub(crate) async fn run(layout: &Layout, args: &MigrateArgs) -> Result<u8> {
    let topology = layout.topology()?;
    let agents = Agents::new(layout)?;
    let record = Cluster::connect(&topology, layout)?.record().await?;
    let record =
        record.context("the cluster has no control record yet; `domicile up` makes one")?;
    let done = all(&topology, &agents, &record.writer_node).await?;
    if args.json {
        term::json(&done)?;
    } else {
        for node in &done {
            term::say(format_args!(
                "{:<16} version {}, {} applied now",
                node.node, node.schema_version, node.applied
            ))?;
        }
    }
    Ok(0)
}

/// Migrates the readers, then the ledger on its primary.
pub(crate) async fn all(
    topology: &Topology,
    agents: &Agents,
    primary: &NodeId,
) -> Result<Vec<Migrated>> {
    let readers = topology.readers.iter().map(|reader| (&reader.node, &reader.agent));
    let ledger = topology.ledgers.iter().filter(|ledger| ledger.node == *primary);
    let mut done = Vec::new();
    for (node, agent) in readers.chain(ledger.map(|ledger| (&ledger.node, &ledger.agent))) {
        let answer: MigrateAnswer = agents
            .call(agent, paths::MIGRATE, &MigrateRequest {})
            .await
            .with_context(|| format!("migrating {node}"))?;
        done.push(Migrated {
            node: node.clone(),
            applied: answer.applied,
            schema_version: answer.schema_version,
        });
    }
    Ok(done)
}
