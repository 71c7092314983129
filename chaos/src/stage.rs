//! The system an experiment runs on: three regions of the example document, on ports of their own.

use crate::experiment::Stage;
use crate::namespaces;
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
    let mut text = EXAMPLE.to_owned();
    if stage == Stage::Namespaces {
        // Thirty ports a region in the example, a host a region here.
        for (host, tens) in (1..).zip([0..3_u8, 3..6, 6..9]) {
            for ten in tens {
                let (here, there) =
                    (format!("127.0.0.1:71{ten}"), format!("10.88.{host}.10:71{ten}"));
                text = text.replace(&here, &there);
            }
        }
    }
    let text = text.replace(EXAMPLE_PORTS, &format!(":{}", free_hundred()?));
    let mut topology = Topology::parse(&text)
        .map_err(|findings| anyhow::anyhow!("the example document: {findings:?}"))?;
    topology.failover.policy = match stage {
        Stage::Automatic => FailoverMode::Automatic,
        Stage::Manual | Stage::Namespaces => FailoverMode::Manual,
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
    let text = document(stage, "chaos")?;
    if stage != Stage::Namespaces {
        return System::up(programs, folder, &text).await;
    }
    let topology = Topology::parse(&text).map_err(|findings| anyhow::anyhow!("{findings:?}"))?;
    let regions: Vec<_> = topology.regions.iter().map(|region| region.id.clone()).collect();
    let hosts = namespaces::hosts(&regions)?;
    // Rows travel between hosts here, so the database must speak TLS.
    let postgres_bin = std::env::var_os("DOMICILE_PG_TLS_BIN").context(
        "DOMICILE_PG_TLS_BIN names no folder: run under `.ci/tools postgres-tls etcd --`",
    )?;
    let programs = Programs { postgres_bin: postgres_bin.into(), ..programs };
    System::up_on(programs, folder, &text, &hosts).await
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
