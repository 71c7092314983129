//! `sync`: naming the standby that every commit waits for.
//!
//! Invariants: the wait is switched on only for a member that streams and is near, so that switching it on does not
//! stop the writer; the same reload makes logical slots wait for the member, so that no reader gets ahead of it; the
//! answer comes after a commit that the member confirmed on disk. The wait is taken down only after the control record
//! has stopped relying on it, and only between the sessions of those who may rest on it still ([`crate::wait`]).

use std::time::Duration;

use domicile_core::epoch::Lsn;
use domicile_topology::agent_api::{Role, SyncAnswer, SyncRequest};
use domicile_topology::member::Member;
use domicile_topology::observed::NodeKind;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::database::Session;
use crate::decide::may_change_sync;
use crate::error::Error;
use crate::settings::{MAINTENANCE_DATABASE, SyncTarget, standby_names};

/// Until the member streams and is near.
const STREAM_TIMEOUT_MS: u64 = 20_000;
/// Until the member is `sync` and has confirmed.
const CONFIRM_TIMEOUT_MS: u64 = 20_000;
/// How far a member may be behind when commits begin to wait for it, in bytes.
const NEAR_BYTES: u64 = 16 * 1024 * 1024;
const POLL: Duration = Duration::from_millis(50);

/// A standby's connection as the primary sees it.
#[derive(Debug, Deserialize)]
struct Connection {
    state: String,
    sync_state: String,
    flush_lsn: Option<Lsn>,
    lag_bytes: Option<u64>,
}

impl Agent {
    /// Makes commits wait for the member, or for nobody.
    pub async fn sync(&self, request: &SyncRequest) -> Result<SyncAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger || self.role() != Role::Primary {
            return Err(Error::State("only the ledger's primary has a synchronous standby".into()));
        }
        let authority = self.control.ask().await;
        let present = self.memory().sync;
        let member = request.member.as_ref();
        may_change_sync(&self.config.node, &authority, &present, member)?;
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let wanted = match member {
            Some(member) => SyncTarget::Member(member.clone()),
            None => SyncTarget::Off,
        };
        let changed = wanted != present;
        if let Some(member) = member.filter(|_| changed) {
            until_near(&server, member).await?;
        }
        // A session that asks sees the wait as it stays: up and in force, or down.
        let alone = match &wanted {
            SyncTarget::Member(_) if matches!(present, SyncTarget::Member(_)) => None,
            _ => Some(self.keep_from_asking().await?),
        };
        if let (Some(alone), SyncTarget::Off) = (&alone, &wanted) {
            self.end_unleased(alone, authority.record()).await?;
        }
        if changed {
            self.remember(|memory| memory.sync = wanted.clone())?;
        }
        self.write_role(true)?;
        self.postmaster.reload();
        self.until_read(&standby_names(&wanted)).await?;
        let (current_lsn, confirmed_lsn) = match member {
            Some(member) => {
                let (current, confirmed) = until_confirmed(&server, member).await?;
                drop_former_slots(&server, member).await?;
                (current, Some(confirmed))
            }
            None => (current_lsn(&server).await?, None),
        };
        let name = member.map_or_else(|| "nobody".to_owned(), Member::replication_name);
        tracing::info!(member = name, changed, "commits wait for");
        Ok(SyncAnswer { changed, member: request.member.clone(), current_lsn, confirmed_lsn })
    }
}

async fn connection(server: &Session, member: &Member) -> Result<Option<Connection>, Error> {
    let sql = format!(
        "select to_json(r) from (select state, sync_state, flush_lsn::text as flush_lsn, \
         greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn), 0)::bigint as lag_bytes \
         from pg_stat_replication where application_name = '{}') r",
        member.replication_name()
    );
    server.json("read the standbys", &sql).await
}

async fn until_near(server: &Session, member: &Member) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_millis(STREAM_TIMEOUT_MS);
    loop {
        let near = connection(server, member).await?.is_some_and(|standby| {
            standby.state == "streaming" && standby.lag_bytes.is_some_and(|lag| lag <= NEAR_BYTES)
        });
        if near {
            return Ok(());
        }
        wait_on(deadline, "wait until the member streams", STREAM_TIMEOUT_MS).await?;
    }
}

// A real commit: it returns once the member has it on disk, and the position proves it.
async fn until_confirmed(server: &Session, member: &Member) -> Result<(Lsn, Lsn), Error> {
    let step = "wait until the member confirms";
    let deadline = Instant::now() + Duration::from_millis(CONFIRM_TIMEOUT_MS);
    loop {
        let standby = connection(server, member).await?;
        if standby.is_some_and(|standby| standby.sync_state == "sync") {
            break;
        }
        wait_on(deadline, step, CONFIRM_TIMEOUT_MS).await?;
    }
    server.run(step, "select pg_logical_emit_message(true, 'domicile.sync', '')").await?;
    let current = current_lsn(server).await?;
    loop {
        let confirmed = connection(server, member).await?.and_then(|standby| standby.flush_lsn);
        if let Some(confirmed) = confirmed.filter(|confirmed| *confirmed >= current) {
            return Ok((current, confirmed));
        }
        wait_on(deadline, step, CONFIRM_TIMEOUT_MS).await?;
    }
}

async fn current_lsn(server: &Session) -> Result<Lsn, Error> {
    let step = "read the current position";
    let text: Option<String> =
        server.optional(step, "select pg_current_wal_flush_lsn()::text").await?;
    let lsn = text.and_then(|text| Lsn::parse(&text).ok());
    lsn.ok_or_else(|| Error::step(step, "no position"))
}

// Slots of the member's earlier joinings would hold the write-ahead log for nobody.
async fn drop_former_slots(server: &Session, member: &Member) -> Result<(), Error> {
    let (slot, join_id) = (member.slot_name(), member.join_id.as_str());
    let stem = slot.strip_suffix(join_id).unwrap_or(&slot);
    let sql = format!(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active \
         and slot_type = 'physical' and starts_with(slot_name, '{stem}') and slot_name <> '{slot}' \
         and length(slot_name) = length('{slot}')"
    );
    server.run("drop slots of earlier joinings", &sql).await
}

async fn wait_on(deadline: Instant, step: &'static str, timeout_ms: u64) -> Result<(), Error> {
    if Instant::now() >= deadline {
        return Err(Error::Timeout { step, timeout_ms });
    }
    sleep(POLL).await;
    Ok(())
}
