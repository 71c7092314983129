//! Taking the wait for the second region down, so that nobody tells what he thinks is confirmed there.
//!
//! A writer that has not heard of one copy – cut off, frozen, started from an old memory – goes on by the record that it
//! knew. So the wait is never taken down under its sessions. Invariants: from before the sessions are ended until the
//! server has read the change no writer's session can ask whether commits wait ([`domicile_postgres::wait`]); a
//! session outlives the change only if its owner's key says, now, that it answers under its lease; what an ended session
//! had under way is of unknown outcome to its owner.
//! Deliberately absent: judging whether a writer is dead. None is trusted to be.

use std::time::Duration;

use domicile_postgres::wait::{ASKING_SQL, TAKE_DOWN_SQL};
use domicile_topology::lease::session_name;
use domicile_topology::record::Record;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::sessions;
use crate::settings::{DATABASE, MAINTENANCE_DATABASE};

/// Until whoever asks has been answered, or is ended.
const ASKING_PATIENCE_MS: u64 = 1_000;
/// Until no session is asking.
const ALONE_TIMEOUT_MS: u64 = 5_000;
/// Until the server has read its configuration.
const READ_TIMEOUT_MS: u64 = 20_000;
const POLL: Duration = Duration::from_millis(20);

/// Nobody can ask whether commits wait while this lives.
pub(crate) struct NobodyAsks {
    ledger: Session,
}

impl Agent {
    /// Keeps the writers' sessions from asking whether commits wait.
    pub(crate) async fn keep_from_asking(&self) -> Result<NobodyAsks, Error> {
        let step = "keep sessions from asking what commits wait for";
        let ledger = self.open(DATABASE).await?;
        ledger.run(step, &format!("set lock_timeout = {ASKING_PATIENCE_MS}")).await?;
        let deadline = Instant::now() + Duration::from_millis(ALONE_TIMEOUT_MS);
        while let Err(error) = ledger.run(step, TAKE_DOWN_SQL).await {
            if Instant::now() >= deadline {
                return Err(error);
            }
            // Whoever asks is answered at once, unless he stands still.
            let end = format!(
                "select count(pg_terminate_backend(pid)) from ({ASKING_SQL} and granted) asking"
            );
            ledger.optional::<i64>(step, &end).await?;
        }
        Ok(NobodyAsks { ledger })
    }

    /// Ends the sessions of every writer that does not answer under a lease of the record's epoch.
    pub(crate) async fn end_unleased(
        &self,
        alone: &NobodyAsks,
        record: Option<&Record>,
    ) -> Result<(), Error> {
        let leases = self.control.leases().await;
        let leases = leases.ok_or(Error::ControlAway("the writers' leases are not known"))?;
        let is_present = |epoch| record.is_none_or(|record| record.epoch == epoch);
        let enforced = leases.iter().filter(|lease| lease.enforcing && is_present(lease.epoch));
        let kept: Vec<String> =
            enforced.map(|lease| format!("'{}'", session_name(&lease.node))).collect();
        let others = format!("application_name <> all (array[{}]::text[])", kept.join(","));
        let ended = sessions::end(&alone.ledger, &others).await?;
        if !ended.is_empty() {
            tracing::warn!(of = ?ended, "ended database sessions of writers without a lease");
        }
        Ok(())
    }

    /// Waits until the server commits by this `synchronous_standby_names`. Looked at through a new connection each time:
    /// the server forks it after it has told everybody else.
    pub(crate) async fn until_read(&self, names: &str) -> Result<(), Error> {
        let step = "wait until the configuration is read";
        let deadline = Instant::now() + Duration::from_millis(READ_TIMEOUT_MS);
        loop {
            let server = self.open(MAINTENANCE_DATABASE).await?;
            let sql = "select current_setting('synchronous_standby_names')";
            if server.optional::<String>(step, sql).await?.as_deref() == Some(names) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout { step, timeout_ms: READ_TIMEOUT_MS });
            }
            sleep(POLL).await;
        }
    }
}
