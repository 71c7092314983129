//! Pins the operations log outside the ledger: its newest checkpoint, and the entries that none covers yet.
//!
//! While writes have one copy, such an entry is lost with its region, and so is the change it tells of. The agent of the
//! primary that serves looks each second and leaves in the control plane what it sees. Before the agent of a later epoch
//! replaces that, it compares: what its own ledger lacks is entered into the log as `log.cut`, once, by name.
//! Invariants: a pin is replaced only by who has seen it and has opened a later or the same epoch; a pinned checkpoint is
//! given up for one of a ledger that holds it too, so that a writer whose log was cut below it never signs; nothing waits
//! for any of this. Deliberately absent: the judgement of the log gate, which asks for the pin by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domicile_control::{ControlClient, Error as ControlError, Pins, Plans, Versioned};
use domicile_core::epoch::Epoch;
use domicile_core::operation::{self, LOG_CODE, Operation, REASON_MAX_CHARS};
use domicile_topology::pin::{Pin, Uncovered};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;
use tokio::time::{MissedTickBehavior, interval};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::settings::DATABASE;
use crate::submit::{SubmitError, Submitter};

/// How often the ledger is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest look.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most entries that a pin names.
const NAMED_MAX: usize = 500;
/// The longest name, characters.
const NAME_MAX_CHARS: usize = 160;

/// Why the log is not pinned.
#[derive(Debug, ThisError)]
enum PinError {
    #[error("the ledger cannot be asked: {0}")]
    Ledger(#[from] Error),
    #[error("the pin cannot be read or replaced: {0}")]
    Control(#[from] ControlError),
    #[error("the pin cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("what was cut is not entered: {0}")]
    Submit(#[from] SubmitError),
}

/// What pins.
pub struct Pinning {
    agent: Arc<Agent>,
    pins: Pins,
    plans: Plans,
    submitter: Submitter,
    session: Option<Session>,
    pinned: Option<Versioned<Pin>>,
}

/// What the ledger says.
#[derive(Debug, Clone, Deserialize)]
struct Seen {
    epoch: Option<Epoch>,
    checkpoint: Option<String>,
    count: u64,
    entries: Vec<String>,
}

/// What the ledger lacks of a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    checkpoint: bool,
    entries: Vec<Uncovered>,
    unnamed: u64,
}

/// What is entered of it.
#[derive(Debug, Serialize)]
struct CutRecord {
    kind: &'static str,
    id: String,
    verb: &'static str,
    outcome: String,
    actor: String,
    sha256: String,
    reason: String,
}

impl Pinning {
    /// For this agent.
    pub fn new(agent: Arc<Agent>, control: &ControlClient) -> Result<Self, Error> {
        let (pins, plans) = (Pins::new(control), Plans::new(control));
        let submitter = Submitter::new(Arc::clone(&agent))?;
        Ok(Self { agent, pins, plans, submitter, session: None, pinned: None })
    }

    /// Pins for as long as the agent lives.
    pub async fn run(mut self) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            tick.tick().await;
            let Some(serves) = self.serves() else {
                (self.session, self.pinned) = (None, None);
                uncovered(0);
                continue;
            };
            let looked = self.look(serves).await;
            if let Err(error) = &looked {
                (self.session, self.pinned) = (None, None);
                if !is_failing {
                    tracing::warn!(%error, "the operations log is not pinned");
                }
            }
            is_failing = looked.is_err();
        }
    }

    // The epoch in which this node is the record's primary.
    fn serves(&self) -> Option<Epoch> {
        let record = self.agent.control.last_record().filter(|_| self.agent.leads())?;
        (record.writer_node == self.agent.config.node).then_some(record.epoch)
    }

    async fn look(&mut self, serves: Epoch) -> Result<(), PinError> {
        let session = match self.session.take().filter(Session::is_open) {
            Some(session) => session,
            None => match self.open().await? {
                Some(session) => session,
                None => return Ok(()),
            },
        };
        let seen: Option<Seen> = session.json("read the operations log's edge", &edge()).await?;
        let Some(seen) = seen else { return Ok(()) };
        let Some(epoch) = opened(serves, seen.epoch) else { return Ok(()) };
        if self.pinned.is_none() {
            self.pinned = self.pins.read().await?;
        }
        let before = self.pinned.as_ref().map(|pinned| &pinned.value);
        if before.is_some_and(|before| before.epoch > epoch) {
            return Ok(());
        }
        let lacks = match before {
            Some(before) if before.checkpoint != seen.checkpoint => {
                lacks_checkpoint(&session, before).await?
            }
            _ => false,
        };
        if let Some(before) = before.filter(|before| before.epoch < epoch) {
            let cut = Cut { checkpoint: lacks, ..missing(&session, before).await? };
            if !cut.is_nothing() {
                self.tell(epoch, before, &cut).await?;
            }
        }
        let count = seen.count;
        let pin = next(epoch, seen, before, lacks);
        if before != Some(&pin) {
            self.pinned = self.pins.replace(self.pinned.as_ref(), pin).await?;
        }
        // Not before it is pinned.
        uncovered(count);
        self.session = Some(session);
        Ok(())
    }

    // A connection, once the ledger has its tables.
    async fn open(&self) -> Result<Option<Session>, Error> {
        let session = self.agent.open_limited(DATABASE, STATEMENT_TIMEOUT).await?;
        let is_migrated = "select to_regclass('log.checkpoint') is not null";
        let is_migrated: Option<bool> =
            session.optional("look for the ledger's tables", is_migrated).await?;
        Ok((is_migrated == Some(true)).then_some(session))
    }

    // Kept first: the entry names it by its digest.
    async fn tell(&self, epoch: Epoch, pin: &Pin, cut: &Cut) -> Result<(), PinError> {
        self.pins.keep_cut(epoch, pin).await?;
        let node = &self.agent.config.node;
        let record = cut.record(epoch, format!("agent {node}"), &serde_json::to_vec(pin)?);
        self.submitter.submit(&record.id, &record).await?;
        // Plans outlive the region in their journal: those whose entries are lost are entered anew.
        self.plans.forget_entered().await?;
        metrics::counter!("domicile_agent_operations_cut_total").increment(cut.count());
        tracing::error!(%epoch, count = cut.count(), "entries of the operations log were lost");
        Ok(())
    }
}

/// How many pinned entries no checkpoint covers; none at a node that is not the primary.
fn uncovered(count: u64) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    metrics::gauge!("domicile_agent_operations_uncovered").set(f64::from(count));
}

/// The epoch to pin, once the ledger has opened the one in which this node serves. Until then it still shows the epoch
/// before, which was another node's and may lack what that one had pinned.
fn opened(serves: Epoch, shown: Option<Epoch>) -> Option<Epoch> {
    shown.filter(|shown| *shown == serves)
}

/// The pin after `before`. A checkpoint that this ledger lacks stays pinned.
fn next(epoch: Epoch, seen: Seen, before: Option<&Pin>, lacks: bool) -> Pin {
    let entries = seen.entries.iter().filter_map(|entry| Operation::parse(entry).ok());
    let named = entries.map(|entry| {
        let what = format!("{} {}", entry.action, entry.subject);
        Uncovered { id: entry.id.to_string(), what: what.chars().take(NAME_MAX_CHARS).collect() }
    });
    let uncovered: Vec<_> = named.collect();
    let named = u64::try_from(uncovered.len()).unwrap_or(u64::MAX);
    let kept = before.and_then(|before| before.checkpoint.clone());
    let checkpoint = if lacks { kept } else { seen.checkpoint };
    Pin { epoch, checkpoint, uncovered, unnamed: seen.count.saturating_sub(named) }
}

async fn missing(session: &Session, pin: &Pin) -> Result<Cut, Error> {
    let ids: Vec<&str> = pin.uncovered.iter().map(|entry| entry.id.as_str()).collect();
    let gone: Option<BTreeSet<String>> =
        session.json_of("look for pinned entries", &lacking(), &[&ids]).await?;
    let gone = gone.unwrap_or_default();
    let entries: Vec<_> =
        pin.uncovered.iter().filter(|entry| gone.contains(&entry.id)).cloned().collect();
    // What had no name has none of its own here either: with nothing gone, nothing of that is.
    let unnamed = if entries.is_empty() { 0 } else { pin.unnamed };
    Ok(Cut { checkpoint: false, entries, unnamed })
}

/// Which of these ids are no entries here. `log.pending` has an `id` of its own, so each is named with its table.
fn lacking() -> String {
    format!(
        "select coalesce(json_agg(pinned.id), '[]') from unnest($1::text[]::uuid[]) pinned(id) \
         where not exists (select from log.subject s where s.jurisdiction = '{LOG_CODE}' and s.subject = pinned.id) \
         and not exists (select from log.pending p where p.jurisdiction = '{LOG_CODE}' and p.subject = pinned.id)"
    )
}

/// Whether the ledger does not hold the pinned checkpoint, which was in two regions when it was published.
async fn lacks_checkpoint(session: &Session, pin: &Pin) -> Result<bool, Error> {
    let Some(note) = &pin.checkpoint else { return Ok(false) };
    let sql = format!(
        "select to_json(note) from log.checkpoint where jurisdiction = '{LOG_CODE}' and note = $1 limit 1"
    );
    let held: Option<String> =
        session.json_of("look for the pinned checkpoint", &sql, &[note]).await?;
    Ok(held.is_none())
}

impl Cut {
    const fn is_nothing(&self) -> bool {
        !self.checkpoint && self.entries.is_empty()
    }

    fn count(&self) -> u64 {
        u64::try_from(self.entries.len()).unwrap_or(u64::MAX).saturating_add(self.unnamed)
    }

    fn record(&self, epoch: Epoch, actor: String, pin: &[u8]) -> CutRecord {
        let checkpoint = if self.checkpoint { "a published checkpoint and " } else { "" };
        let outcome = format!("{checkpoint}{} entries lost", self.count());
        let names = self.entries.iter().map(|entry| format!("{} {}", entry.id, entry.what));
        let reason = format!("{outcome}: {}", names.collect::<Vec<_>>().join("; "));
        CutRecord {
            kind: "cut",
            id: format!("cut-{epoch}"),
            verb: "log.cut",
            outcome,
            actor,
            sha256: operation::digest(pin).replace("sha256:", ""),
            reason: reason.chars().take(REASON_MAX_CHARS).collect(),
        }
    }
}

/// The epoch, the newest checkpoint, and what is beyond it: placed in the tree, or pending.
fn edge() -> String {
    format!(
        "with newest as (select log_epoch, size, note from log.checkpoint where jurisdiction = '{LOG_CODE}' \
           order by log_epoch desc, size desc limit 1), \
         beyond as (select convert_from(entry, 'UTF8') as entry, idx as at, 0 as later from log.leaf \
           where jurisdiction = '{LOG_CODE}' and log_epoch = coalesce((select log_epoch from newest), 1) \
             and idx >= coalesce((select size from newest), 0) \
           union all select entry, seq, 1 from log.pending where jurisdiction = '{LOG_CODE}') \
         select json_build_object('epoch', (select max(epoch) from ledger.epoch), \
           'checkpoint', (select note from newest), 'count', (select count(*) from beyond), \
           'entries', coalesce((select json_agg(entry order by later, at) \
             from (select * from beyond order by later, at limit {NAMED_MAX}) named), '[]'))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0197f1c2-5b7e-7cc1-9d0a-3f2b6f1f8a11";

    fn uncovered(id: &str) -> Uncovered {
        Uncovered { id: id.to_owned(), what: "game.suspend lucky/hilo-dice".to_owned() }
    }

    fn seen(checkpoint: &str) -> Seen {
        let entry = format!(
            "domicile/operation/v1\nid {ID}\nat_unix_ms 1\nactor spiffe://demo/operator/anna\nrole operator\n\
             action game.suspend\nsubject lucky/hilo-dice\nbefore -\nafter -\nreason r\n"
        );
        let entries = vec![entry];
        Seen { epoch: Some(Epoch(2)), checkpoint: Some(checkpoint.to_owned()), count: 3, entries }
    }

    #[test]
    fn a_primary_whose_epoch_is_not_open_yet_pins_nothing() {
        assert_eq!(opened(Epoch(3), None), None);
        assert_eq!(opened(Epoch(3), Some(Epoch(2))), None);
        assert_eq!(opened(Epoch(3), Some(Epoch(3))), Some(Epoch(3)));
    }

    /// Unqualified, the id would be the pending row's own: with any entry pending nothing would seem to be lost.
    #[test]
    fn pinned_entries_are_looked_for_by_their_own_ids() {
        let sql = lacking();
        assert_eq!(sql.matches(".subject = pinned.id").count(), 2, "{sql}");
        assert!(!sql.contains("= id"), "{sql}");
    }

    #[test]
    fn a_checkpoint_that_the_ledger_lacks_stays_pinned() {
        let before = Pin {
            epoch: Epoch(1),
            checkpoint: Some("old".to_owned()),
            uncovered: Vec::new(),
            unnamed: 0,
        };
        let goes_on = next(Epoch(2), seen("new"), Some(&before), false);
        assert_eq!(goes_on.checkpoint.as_deref(), Some("new"));
        assert_eq!((goes_on.uncovered.len(), goes_on.unnamed), (1, 2));
        assert_eq!(goes_on.uncovered[0], uncovered(ID));
        let was_cut = next(Epoch(2), seen("new"), Some(&before), true);
        assert_eq!(was_cut.checkpoint.as_deref(), Some("old"));
        assert_eq!(was_cut.epoch, Epoch(2));
    }

    #[test]
    fn what_was_cut_is_named_within_the_limits() {
        let entries = (0..100).map(|n| uncovered(&format!("id-{n}"))).collect();
        let cut = Cut { checkpoint: false, entries, unnamed: 4 };
        let record = cut.record(Epoch(7), "agent ledger-de".to_owned(), b"{}");
        assert_eq!((record.id.as_str(), record.outcome.as_str()), ("cut-7", "104 entries lost"));
        assert!(record.reason.starts_with("104 entries lost: id-0 game.suspend lucky/hilo-dice; "));
        assert_eq!(record.reason.len(), REASON_MAX_CHARS);
        assert_eq!(record.sha256.len(), 64);
        assert!(!cut.is_nothing());
    }
}
