//! Looking into a node's database with `psql`, as its superuser: an observer that needs none of the services.
//!
//! Invariant: passwords go by the environment of the child, never by its arguments.

use crate::system::{self, System};
use anyhow::{Context, Result, bail};
use domicile_core::ids::NodeId;
use domicile_topology::address::Address;
use serde_json::Value;
use std::time::Duration;

/// How long a question may take.
const QUERY_WITHIN: Duration = Duration::from_secs(30);

/// Where a node's Postgres is.
fn address<'a>(system: &'a System, node: &NodeId) -> Result<&'a Address> {
    let ledger = system.topology.ledger(node).map(|ledger| &ledger.postgres);
    let reader = system.topology.reader(node).map(|reader| &reader.postgres);
    ledger.or(reader).with_context(|| format!("{node} is no database"))
}

/// Runs statements and returns every line of their unaligned output.
pub async fn lines(system: &System, node: &NodeId, sql: &str) -> Result<Vec<String>> {
    let address = address(system, node)?;
    let secret =
        system.state.join("nodes").join(node.as_str()).join("agent/secrets/superuser-password");
    let password = std::fs::read_to_string(&secret)
        .with_context(|| format!("cannot read {}", secret.display()))?;
    let tls = system.state.join("operator/tls");
    // The superuser is let in from the database's own host only.
    let psql = system.programs.postgres_bin.join("psql");
    let mut command = system::on(system.host_of(node.as_str()), psql.as_os_str());
    command
        .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .env("PGHOST", address.host())
        .env("PGPORT", address.port().to_string())
        .env("PGDATABASE", "domicile")
        .env("PGUSER", "postgres")
        .env("PGPASSWORD", password.trim())
        .env("PGCONNECT_TIMEOUT", "3")
        .env("PGSSLMODE", "prefer")
        .env("PGSSLCERT", tls.join("cert.pem"))
        .env("PGSSLKEY", tls.join("key.pem"))
        .env("PGSSLROOTCERT", tls.join("ca.pem"))
        .kill_on_drop(true);
    let output = match tokio::time::timeout(QUERY_WITHIN, command.output()).await {
        Ok(output) => output.context("cannot run psql")?,
        Err(_elapsed) => bail!("{node} does not answer within {} s", QUERY_WITHIN.as_secs()),
    };
    if !output.status.success() {
        bail!("{node}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("psql wrote no text")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Runs a query whose rows are JSON documents.
pub async fn documents(system: &System, node: &NodeId, sql: &str) -> Result<Vec<Value>> {
    let lines = lines(system, node, sql).await?;
    lines.iter().map(|line| serde_json::from_str(line).context("a row is no JSON")).collect()
}

/// Runs a query with one number.
pub async fn number(system: &System, node: &NodeId, sql: &str) -> Result<u64> {
    let lines = lines(system, node, sql).await?;
    let first = lines.first().with_context(|| format!("{node} answered nothing"))?;
    first.parse().with_context(|| format!("{node} answered `{first}`, which is no number"))
}
