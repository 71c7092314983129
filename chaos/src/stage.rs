//! The system an experiment runs on: three regions of the example document, on ports of their own.

use crate::experiment::Stage;
use crate::system::{Programs, System};
use anyhow::{Context, Result};
use domicile_topology::Topology;
use domicile_topology::document::FailoverMode;
use std::net::TcpListener;
use std::path::Path;

/// The document that comes with the CLI.
const EXAMPLE: &str = include_str!("../../topology/examples/local.toml");
/// Its ports begin so.
const EXAMPLE_PORTS: &str = ":71";
/// Hundreds of ports tried, all below the ephemeral range.
const HUNDREDS: std::ops::Range<u16> = 200..300;
/// Ports of one topology.
const PORTS: u16 = 100;

/// The document of a stage.
fn document(stage: Stage, name: &str) -> Result<String> {
    let text = EXAMPLE.replace(EXAMPLE_PORTS, &format!(":{}", free_hundred()?));
    let mut topology = Topology::parse(&text)
        .map_err(|findings| anyhow::anyhow!("the example document: {findings:?}"))?;
    topology.failover.policy = match stage {
        Stage::Automatic => FailoverMode::Automatic,
        Stage::Manual => FailoverMode::Manual,
    };
    let text = topology.to_toml().context("the document cannot be written")?;
    Ok(text.replace("cluster = \"demo\"", &format!("cluster = \"{name}\"")))
}

/// A hundred of free ports; programs started at the same time begin to look far apart.
fn free_hundred() -> Result<u16> {
    let count = u32::from(HUNDREDS.end - HUNDREDS.start);
    let begin = u16::try_from(std::process::id() % count).unwrap_or_default();
    let free = |hundred: &u16| {
        let first = hundred * PORTS;
        (first..first + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    };
    let mut hundreds =
        HUNDREDS.cycle().skip(begin.into()).take(usize::from(HUNDREDS.end - HUNDREDS.start));
    hundreds.find(free).context("no hundred ports are free between 20000 and 29999")
}

/// Brings the stage up in a folder.
pub async fn set(programs: Programs, stage: Stage, folder: &Path) -> Result<System> {
    System::up(programs, folder, &document(stage, "chaos")?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_on_loopback_has_a_valid_document() {
        for stage in [Stage::Manual, Stage::Automatic] {
            let text = document(stage, "chaos").expect("a document");
            let topology = Topology::parse(&text).expect("a topology");
            assert_eq!(topology.cluster.as_str(), "chaos");
            assert_eq!(
                topology.failover.policy == FailoverMode::Automatic,
                stage == Stage::Automatic
            );
        }
    }
}
