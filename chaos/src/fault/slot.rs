//! A reader whose place in the log is not kept on the standby: its subscription no longer asks for it.

use crate::database;
use crate::system::System;
use anyhow::{Context, Result, bail};
use domicile_core::ids::NodeId;
use std::time::{Duration, Instant};

/// How long the slot may take to go away on the standby, or the subscription to be free.
const WITHIN: Duration = Duration::from_secs(40);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

async fn subscription(system: &System, reader: &NodeId) -> Result<String> {
    let sql = "SELECT subname FROM pg_subscription ORDER BY subname LIMIT 1";
    let names = database::lines(system, reader, sql).await?;
    names.into_iter().next().with_context(|| format!("{reader} has no subscription"))
}

/// Changes whether the slot is kept on the standby. The slot must be free for that, so the subscription pauses.
async fn set(system: &System, reader: &NodeId, name: &str, kept: bool) -> Result<()> {
    let begun = Instant::now();
    database::lines(system, reader, &format!("ALTER SUBSCRIPTION {name} DISABLE")).await?;
    let change = format!("ALTER SUBSCRIPTION {name} SET (failover = {kept})");
    let changed = loop {
        match database::lines(system, reader, &change).await {
            Ok(_) => break Ok(()),
            Err(error) if begun.elapsed() >= WITHIN => break Err(error),
            Err(_busy) => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    database::lines(system, reader, &format!("ALTER SUBSCRIPTION {name} ENABLE")).await?;
    changed
}

/// Makes the slot unready, and looks that the standby has none that could be used.
pub(super) async fn unready(system: &System, reader: &NodeId) -> Result<String> {
    let standby = system.region("standby")?;
    let standby = system.topology.ledgers.iter().find(|ledger| ledger.region == standby);
    let standby = &standby.context("there is no standby")?.node;
    let name = subscription(system, reader).await?;
    set(system, reader, &name, false).await?;
    let sql = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}' AND synced AND NOT temporary \
         AND invalidation_reason IS NULL"
    );
    let begun = Instant::now();
    while database::number(system, standby, &sql).await? > 0 {
        if begun.elapsed() >= WITHIN {
            bail!("the slot {name} is still ready on {standby}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(format!("the slot {name} of {reader} is not ready on {standby}"))
}

/// Asks for it again, unless somebody has mended it.
pub(super) async fn again(system: &System, reader: &NodeId) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_subscription WHERE NOT subfailover";
    if database::number(system, reader, sql).await? > 0 {
        let name = subscription(system, reader).await?;
        set(system, reader, &name, true).await?;
    }
    Ok(())
}
