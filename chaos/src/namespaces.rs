//! Regions as hosts: whether network namespaces can be made here and packets be dropped between two of them, one way.
//!
//! Only iproute2 is needed: a policy rule of type `blackhole` from one network to another.
//! Deliberately absent: a stage whose regions are such hosts, and so every cut between regions.

use anyhow::{Context, Result, bail};
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
