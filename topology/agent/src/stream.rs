//! How long the stream from upstream has been silent, by this machine's own clock.
//!
//! Invariants: only that something changed counts, never what time another machine wrote on it; a receiver that is gone
//! hears nothing, so its silence goes on; a node that has never heard anything counts from when it began to listen.
//! Deliberately absent: judging the silence.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use domicile_topology::agent_api::Role;
use domicile_topology::observed::NodeKind;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::postmaster::Presence;
use crate::settings::DATABASE;

/// How often the node listens.
const PERIOD: Duration = Duration::from_millis(100);
/// The longest answer of the node's own server.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

const STANDBY: &str = "select concat_ws(' ', pid, written_lsn, latest_end_lsn, last_msg_receipt_time) \
                       from pg_stat_wal_receiver where pid is not null";
const READER: &str = "select string_agg(concat_ws(' ', pid, received_lsn, latest_end_lsn, last_msg_receipt_time), ',' \
                      order by subname) from pg_stat_subscription where pid is not null and worker_type = 'apply'";

/// What was heard last, and when.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    mark: Option<String>,
    at: Option<Instant>,
}

impl Heard {
    // No mark: nobody receives.
    fn note(&mut self, mark: Option<String>) {
        let news = mark.is_some() && mark != self.mark;
        if news || self.at.is_none() {
            self.at = Some(Instant::now());
        }
        if mark.is_some() {
            self.mark = mark;
        }
    }
}

/// Listens for as long as the agent lives.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = None;
    loop {
        tick.tick().await;
        if !agent.follows() {
            session = None;
            *agent.heard.lock().unwrap_or_else(PoisonError::into_inner) = Heard::default();
            continue;
        }
        if !matches!(agent.postmaster.presence(), Presence::Up(_)) {
            session = None;
            agent.note_heard(None);
            continue;
        }
        match listen(&agent, session.take()).await {
            Ok((kept, mark)) => {
                session = Some(kept);
                agent.note_heard(mark);
            }
            Err(error) => {
                tracing::debug!(%error, "cannot listen to the stream");
                agent.note_heard(None);
            }
        }
    }
}

async fn listen(
    agent: &Agent,
    session: Option<Session>,
) -> Result<(Session, Option<String>), Error> {
    let session = match session.filter(Session::is_open) {
        Some(session) => session,
        None => agent.open_limited(DATABASE, ASK_TIMEOUT).await?,
    };
    let sql = match agent.config.kind {
        NodeKind::Ledger => STANDBY,
        NodeKind::Reader => READER,
    };
    let mark: Option<Option<String>> = session.optional("listen to the stream", sql).await?;
    Ok((session, mark.flatten()))
}

impl Agent {
    // A reader follows always, a ledger node as standby.
    fn follows(&self) -> bool {
        self.config.kind == NodeKind::Reader || self.role() == Role::Standby
    }

    fn note_heard(&self, mark: Option<String>) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).note(mark);
    }

    /// Milliseconds since anything arrived from upstream; `None` when nothing is followed.
    pub(crate) fn silence_ms(&self) -> Option<u64> {
        let at = self.heard.lock().unwrap_or_else(PoisonError::into_inner).at?;
        Some(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_news() {
        let mut heard = Heard::default();
        let silent = |heard: &Heard| heard.at.map(|at| at.elapsed().as_millis());
        let second = Duration::from_secs(1);
        assert_eq!(silent(&heard), None);
        heard.note(None);
        sleep(second).await;
        assert_eq!(silent(&heard), Some(1000), "from when it began to listen");
        heard.note(Some("1".to_owned()));
        assert_eq!(silent(&heard), Some(0));
        sleep(second).await;
        heard.note(Some("1".to_owned()));
        assert_eq!(silent(&heard), Some(1000), "the same is no news");
        heard.note(None);
        sleep(second).await;
        assert_eq!(silent(&heard), Some(2000), "a receiver that is gone hears nothing");
        heard.note(Some("1".to_owned()));
        assert_eq!(silent(&heard), Some(2000), "nor does one that came back with nothing new");
        heard.note(Some("2".to_owned()));
        assert_eq!(silent(&heard), Some(0));
    }
}
