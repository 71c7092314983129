//! The stopped walsender of the synchronous standby: it holds its connection and moves nothing, and so stops every commit.
//!
//! Neither Postgres' own timeouts nor the standby's reconnecting help, because the process is there. A bounded decision:
//! after [`WAKE_AFTER`] it is told to go on; if it does not – a debugger holds it – it is killed after [`KILL_AFTER`], which
//! makes Postgres restart all its processes. That pause of seconds is better than one without end, and loses nothing:
//! every acknowledged write is on disk in two regions.
//! Deliberately absent: a server that is stopped as a whole, which is a frozen region and an executor's affair.

use std::time::Duration;

use domicile_topology::observed::{NodeStatus, PostgresState};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::error::Error;
use crate::settings::MAINTENANCE_DATABASE;

/// How long it may stand still before it is told to go on.
const WAKE_AFTER: Duration = Duration::from_secs(2);
/// How long before it is killed.
const KILL_AFTER: Duration = Duration::from_secs(6);

/// The process that stands still, and since when.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    frozen: Option<(u32, Instant)>,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    Wake,
    Kill,
}

impl Watchdog {
    fn judge(&mut self, stopped: Option<u32>) -> Option<Remedy> {
        let Some(pid) = stopped else {
            self.frozen = None;
            return None;
        };
        let since = match self.frozen {
            Some((known, since)) if known == pid => since,
            _ => Instant::now(),
        };
        self.frozen = Some((pid, since));
        match since.elapsed() {
            still if still >= KILL_AFTER => Some(Remedy::Kill),
            still if still >= WAKE_AFTER => Some(Remedy::Wake),
            _ => None,
        }
    }
}

impl Agent {
    /// Helps the stream that every commit waits for, if its sender stands still.
    pub(crate) async fn guard_stream(
        &self,
        status: &NodeStatus,
        watchdog: &mut Watchdog,
    ) -> Result<(), Error> {
        let stopped = self.stopped_sender(status).await?;
        let remedy = watchdog.judge(stopped);
        let (Some(pid), Some(remedy)) = (stopped, remedy) else { return Ok(()) };
        tracing::warn!(pid, ?remedy, "the synchronous standby's walsender stands still");
        metrics::counter!("domicile_agent_stream_remedies_total").increment(1);
        let signal = match remedy {
            Remedy::Wake => Signal::CONT,
            Remedy::Kill => Signal::KILL,
        };
        self.postmaster.signal_process(pid, signal);
        Ok(())
    }

    async fn stopped_sender(&self, status: &NodeStatus) -> Result<Option<u32>, Error> {
        let postgres = &status.postgres;
        let Some(member) = &postgres.sync_member else { return Ok(None) };
        if postgres.state != PostgresState::Primary || postgres.stalled.is_empty() {
            return Ok(None);
        }
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let sql = format!(
            "select pid from pg_stat_replication where application_name = '{}' limit 1",
            member.replication_name()
        );
        let pid: Option<i32> = server.optional("find the standby's walsender", &sql).await?;
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        Ok(pid.filter(|pid| postgres.stalled.iter().any(|stalled| stalled.pid == *pid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn it_is_woken_and_then_killed_and_forgotten_when_it_moves() {
        let mut watchdog = Watchdog::default();
        let mut seen = Vec::new();
        for _ in 0..8 {
            seen.push(watchdog.judge(Some(7)));
            sleep(Duration::from_secs(1)).await;
        }
        let (wake, kill) = (Some(Remedy::Wake), Some(Remedy::Kill));
        assert_eq!(seen, [None, None, wake, wake, wake, wake, kill, kill]);
        assert_eq!(watchdog.judge(Some(8)), None, "another process has its own time");
        sleep(KILL_AFTER).await;
        assert_eq!(watchdog.judge(None), None);
        assert_eq!(watchdog.judge(Some(8)), None, "counted anew");
    }
}
