//! The writers' database sessions, as the agent beside the database sees them: whose they are, and whether their owner
//! still says anything.
//!
//! Ending a session acknowledges nothing: what it had under way is of unknown outcome to its owner.
//! Invariant: silence is counted on the agent's own clock, from when a session was first seen as it still is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::database::Session;
use crate::error::Error;
use crate::settings::WRITER_ROLE;

/// How often the sessions are looked at while they finish.
const POLL: Duration = Duration::from_millis(4);
/// A writer all of whose sessions have waited for it for so long does not finish: it is frozen, or cut off. One that
/// finishes says something to one of them several times a second.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// Until sessions that were told to end are gone.
const END_TIMEOUT_MS: u64 = 5_000;

/// The sessions of one writer process.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Held {
    /// Each with when it last began or ended a statement: what changes while the process does anything.
    sessions: BTreeMap<i32, Option<String>>,
    /// Every one waits for its client.
    waits: bool,
}

/// Who holds sessions, and since when each holds them as now.
#[derive(Debug, Default)]
struct Holders(BTreeMap<String, (Held, Instant)>);

impl Holders {
    fn see(&mut self, held: BTreeMap<String, Held>) {
        let mut before = std::mem::take(&mut self.0);
        self.0 = held
            .into_iter()
            .map(|(writer, held)| {
                let known = before.remove(&writer).filter(|(known, _)| *known == held);
                let since = known.map_or_else(Instant::now, |(_, since)| since);
                (writer, (held, since))
            })
            .collect();
    }

    /// The sessions of writers that say nothing, and whose they are.
    fn silent(&self) -> (BTreeSet<String>, Vec<i32>) {
        let is_silent = |held: &Held, since: Instant| held.waits && since.elapsed() >= SILENT_AFTER;
        let silent = || self.0.iter().filter(|(_, (held, since))| is_silent(held, *since));
        let pids = silent().flat_map(|(_, (held, _))| held.sessions.keys().copied()).collect();
        (silent().map(|(writer, _)| writer.clone()).collect(), pids)
    }

    /// Who holds what, in words.
    fn words(&self) -> String {
        let each = self.0.iter().map(|(writer, (held, since))| {
            let doing = if held.waits { "wait for it" } else { "are busy" };
            let since_ms = since.elapsed().as_millis();
            format!("{} of {writer} {doing}, unchanged for {since_ms} ms", held.sessions.len())
        });
        each.collect::<Vec<_>>().join("; ")
    }
}

/// Waits until no writer holds a session. One that is frozen or cut off never gives its sessions back: they are ended, so
/// that it does not keep the others from moving. Says whose were.
pub(crate) async fn until_finished(
    server: &Session,
    drain_timeout_ms: u64,
) -> Result<BTreeSet<String>, Error> {
    let step = "wait until the writer has finished";
    let deadline = Instant::now() + Duration::from_millis(drain_timeout_ms);
    let sql = format!(
        "select coalesce(json_object_agg(application_name, held), '{{}}') from (select application_name, \
         json_build_object('sessions', json_object_agg(pid, state_change::text), \
         'waits', bool_and(coalesce(wait_event_type, '') = 'Client')) as held \
         from pg_stat_activity where usename = '{WRITER_ROLE}' group by application_name) writers"
    );
    let mut holders = Holders::default();
    let mut ended = BTreeSet::new();
    loop {
        holders.see(server.json(step, &sql).await?.unwrap_or_default());
        if holders.0.is_empty() {
            return Ok(ended);
        }
        if Instant::now() >= deadline {
            return Err(Error::NotFinished { timeout_ms: drain_timeout_ms, who: holders.words() });
        }
        let (whose, pids) = holders.silent();
        if !pids.is_empty() {
            tracing::warn!(of = ?whose, "ending database sessions of a writer that does not finish");
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            end(server, &format!("pid in ({})", pids.join(","))).await?;
            ended.extend(whose);
        }
        sleep(POLL).await;
    }
}

/// Ends the writers' sessions of which this holds; says whose they were when they are gone.
pub(crate) async fn end(server: &Session, which: &str) -> Result<BTreeSet<String>, Error> {
    let step = "end database sessions of a writer";
    let deadline = Instant::now() + Duration::from_millis(END_TIMEOUT_MS);
    let sql = format!(
        "select coalesce(json_agg(application_name), '[]') from (select application_name, \
         pg_terminate_backend(pid) from pg_stat_activity where usename = '{WRITER_ROLE}' and {which}) ended"
    );
    let mut ended = BTreeSet::new();
    loop {
        let found: Vec<String> = server.json(step, &sql).await?.unwrap_or_default();
        if found.is_empty() {
            return Ok(ended);
        }
        let is_first = ended.is_empty();
        ended.extend(found);
        if is_first {
            metrics::counter!("domicile_agent_writers_ended_total").increment(1);
        }
        if Instant::now() >= deadline {
            let whose: Vec<String> = ended.into_iter().collect();
            let whose = whose.join(", ");
            return Err(Error::State(format!("database sessions of {whose} do not end")));
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(seen: &str, waits: bool) -> BTreeMap<String, Held> {
        let sessions = [(7, Some(seen.to_owned())), (8, Some("before".to_owned()))].into();
        [("domicile-writer/w".to_owned(), Held { sessions, waits })].into()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_is_who_is_waited_for_and_changes_nothing() {
        let mut holders = Holders::default();
        let mut silent_after = async |waits: bool, steps: [&str; 4]| {
            for seen in steps {
                holders.see(held(seen, waits));
                sleep(SILENT_AFTER / 3).await;
            }
            holders.silent().1
        };
        let nobody: Vec<i32> = Vec::new();
        assert_eq!(silent_after(true, ["a", "b", "c", "d"]).await, nobody, "it goes on");
        assert_eq!(silent_after(false, ["e"; 4]).await, nobody, "a long statement");
        assert_eq!(silent_after(true, ["f"; 4]).await, [7, 8]);
        assert_eq!(holders.silent().0, ["domicile-writer/w".to_owned()].into());
        holders.see(BTreeMap::new());
        assert_eq!(holders.silent().1, nobody);
    }
}
