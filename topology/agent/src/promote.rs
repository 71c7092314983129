//! `promote`: the standby becomes primary of the epoch that the control record gives it.
//!
//! Invariants: only while a fresh record names this node at this epoch; what its commits wait for is in force before it
//! takes any, and with it a short wait for the lost source; it drops nothing; the timeline is told from the write-ahead
//! log, since the control file lags behind.
//! Deliberately absent: opening the epoch – until then the writer's role cannot log in.

use std::time::Duration;

use domicile_core::epoch::Lsn;
use domicile_topology::agent_api::{PromoteAnswer, PromoteRequest, Role};
use domicile_topology::observed::NodeKind;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::postmaster::Presence;
use crate::rewind::read_timeline;
use crate::settings::{MAINTENANCE_DATABASE, standby_names};
use crate::transfer::recorded_wait;

/// Until the server is out of recovery.
const PROMOTE_TIMEOUT_MS: u64 = 20_000;
/// How often it is asked.
const POLL: Duration = Duration::from_millis(4);
/// A checkpoint of a large cache takes its time; nobody waits for it.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_mins(30);

impl Agent {
    /// Makes this standby primary, unless it is.
    pub async fn promote(&self, request: &PromoteRequest) -> Result<PromoteAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger {
            return Err(Error::State("a reader is not promoted".to_owned()));
        }
        let record = self.named_for(request.epoch).await?;
        if !matches!(self.postmaster.presence(), Presence::Up(_)) {
            return Err(Error::State("postgres takes no connections: start it first".to_owned()));
        }
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let promoted = self.role() == Role::Standby;
        let wait = recorded_wait(&record);
        if promoted {
            self.remember(|memory| memory.sync = wait.clone())?;
            self.write_role(true)?;
            self.postmaster.reload();
            let names = standby_names(&wait);
            let in_force =
                format!("select current_setting('synchronous_standby_names') = '{names}'");
            until_true(&server, "wait until the configuration is read", &in_force).await?;
            server.run("promote", "select pg_promote(false)").await?;
            let is_primary = "select not pg_is_in_recovery()";
            until_true(&server, "wait until the server is primary", is_primary).await?;
        }
        self.remember(|memory| {
            memory.joined = None;
            memory.demoted = None;
            memory.returning = None;
            memory.primary_in = Some(record.epoch);
        })?;
        let (timeline, history) = read_timeline(&server).await?;
        let begin_lsn = history.last_fork().unwrap_or(Lsn(0));
        self.write_role(true)?;
        self.postmaster.reload();
        if promoted {
            self.checkpoint_later();
            tracing::info!(epoch = record.epoch.0, timeline, %begin_lsn, "promoted");
        }
        Ok(PromoteAnswer { promoted, timeline, begin_lsn })
    }

    // A later rewind to this node needs a checkpoint of the new timeline.
    fn checkpoint_later(&self) {
        let opening = self.open_detached(MAINTENANCE_DATABASE, CHECKPOINT_TIMEOUT);
        tokio::spawn(async move {
            let written = async { opening.await?.run("checkpoint", "checkpoint").await };
            if let Err(error) = written.await {
                tracing::warn!(%error, "no checkpoint after the promotion; the server makes one in its own time");
            }
        });
    }
}

async fn until_true(server: &Session, step: &'static str, sql: &str) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_millis(PROMOTE_TIMEOUT_MS);
    while !server.optional::<bool>(step, sql).await?.unwrap_or(false) {
        if Instant::now() >= deadline {
            return Err(Error::Timeout { step, timeout_ms: PROMOTE_TIMEOUT_MS });
        }
        sleep(POLL).await;
    }
    Ok(())
}
