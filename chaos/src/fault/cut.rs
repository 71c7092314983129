//! Cuts between regions that are hosts in network namespaces: the router between them drops what passes one way.
//!
//! Only iproute2 is needed: a policy rule of type `blackhole` from one region's network to another's.

use crate::system::System;
use anyhow::{Context, Result, bail};
use std::net::Ipv4Addr;
use tokio::process::Command;

/// A namespace of this name prefix belongs to an experiment.
const PREFIX: &str = "domchaos";

/// Runs `ip`.
async fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().await.context("cannot run `ip`")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}`: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

/// Whether namespaces can be made here and packets be dropped between two networks.
pub async fn blackhole_works() -> Result<()> {
    let name = format!("{PREFIX}-probe-{}", std::process::id());
    ip(&["netns", "add", &name]).await?;
    let rule =
        ["-n", &name, "rule", "add", "from", "10.99.1.0/24", "to", "10.99.2.0/24", "blackhole"];
    let result = ip(&rule).await;
    ip(&["netns", "del", &name]).await?;
    result
}

/// The networks of a system whose regions are hosts.
#[derive(Debug, Clone)]
pub struct Namespaces {
    networks: Vec<(String, Ipv4Addr)>,
}

impl Namespaces {
    /// The network of each region, if the topology has one for each.
    pub fn of(system: &System) -> Result<Self> {
        let mut networks = Vec::new();
        for router in &system.topology.routers {
            let host: Ipv4Addr =
                router.endpoint.address().host().parse().context("no IPv4 address")?;
            if host.is_loopback() {
                bail!("the regions of this system share one host: nothing can be cut between them");
            }
            networks.push((router.region.to_string(), host));
        }
        Ok(Self { networks })
    }

    fn network(&self, region: &str) -> Result<String> {
        let found = self.networks.iter().find(|(name, _)| name == region);
        let (_, host) = found.with_context(|| format!("{region} has no network"))?;
        let [a, b, c, _] = host.octets();
        Ok(format!("{a}.{b}.{c}.0/24"))
    }

    /// Drops what passes, in each direction named.
    pub(super) async fn cut(&self, pairs: &[(String, String)]) -> Result<()> {
        for (from, to) in pairs {
            self.rule("add", from, to).await?;
        }
        Ok(())
    }

    /// Lets it pass again.
    pub(super) async fn join(&self, pairs: &[(String, String)]) -> Result<()> {
        for (from, to) in pairs {
            self.rule("del", from, to).await?;
        }
        Ok(())
    }

    async fn rule(&self, verb: &str, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.network(from)?, self.network(to)?);
        ip(&["rule", verb, "from", &from, "to", &to, "blackhole"]).await
    }
}
