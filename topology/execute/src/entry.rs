//! What the journal says, and where a plan stands by it.
//!
//! Invariants: entries are typed and only ever added; [`History`] follows from them alone, so that whoever reads the
//! journal knows as much as whoever wrote it. Wall time is there for people and orders nothing.

use domicile_control::{Record, Revision, StoredPlan, Versioned};
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_topology::Member;
use domicile_topology::agent_api::{OrphanTail, Rejoined, SubscriptionOutcome};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One entry of a plan's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When it was written, milliseconds since 1970; for people.
    pub at_unix_ms: u64,
    /// Who wrote it.
    pub by: String,
    /// What happened.
    pub happened: Happened,
}

/// What an entry is about. Steps count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Happened {
    /// From here on the step's effect may have taken place.
    Begun {
        /// Which step.
        step: usize,
    },
    /// An agent began by itself, because the primary is dead as it and others concluded.
    PrimaryDead {
        /// How long nothing had arrived from it then, milliseconds.
        silence_ms: u64,
        /// How long before this entry that was, milliseconds.
        before_ms: u64,
    },
    /// The step's postcondition was observed.
    Done {
        /// Which step.
        step: usize,
        /// What it learnt.
        learnt: Learnt,
        /// How long it took, milliseconds.
        took_ms: u64,
    },
    /// The step failed, and the plan goes on without it.
    Failed {
        /// Which step.
        step: usize,
        /// Why.
        reason: String,
        /// How long it took, milliseconds.
        took_ms: u64,
    },
    /// The step failed, and the plan waits there until it is resumed.
    Stopped {
        /// Which step.
        step: usize,
        /// Why.
        reason: String,
    },
    /// Somebody went on with the plan.
    Resumed,
    /// The move is being called off.
    CallingOff {
        /// Why.
        reason: String,
    },
    /// Writes are open again, in the epoch that was to end.
    Reopened {
        /// The record that was written with this entry.
        record: Record,
    },
    /// The plan is over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// How a plan ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// Every step is done, or failed where the plan may go on.
    Completed,
    /// The move was undone before the writer moved: all is as it was.
    CalledOff {
        /// Why.
        reason: String,
    },
    /// Somebody else moved the writer meanwhile; nothing more was done.
    Overtaken,
    /// Somebody ended it where it stood; what is next is planned from what is observed then.
    Abandoned {
        /// Why.
        reason: String,
    },
    /// Another plan took its place.
    Superseded {
        /// Which.
        by: String,
    },
}

/// What a step learnt; later steps and reports find it here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Learnt {
    /// Nothing but that it is done.
    Nothing,
    /// The control record that was written with this entry.
    Record {
        /// It.
        record: Record,
    },
    /// A checkpoint.
    Checkpointed {
        /// Where.
        checkpoint_lsn: Lsn,
    },
    /// The end of the demoted primary's log.
    Demoted {
        /// The new primary must have replayed this.
        end_lsn: Lsn,
        /// On which timeline.
        timeline: u32,
        /// Writer processes that said nothing any more: their database sessions were ended.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        silent_writers: BTreeSet<String>,
    },
    /// How far the standby has replayed.
    Replayed {
        /// That far.
        replay_lsn: Lsn,
    },
    /// A new timeline.
    Promoted {
        /// Its number.
        timeline: u32,
        /// Where it begins.
        begin_lsn: Lsn,
    },
    /// A node follows again.
    Rejoined {
        /// How.
        how: Rejoined,
        /// As what.
        member: Member,
        /// What was kept of a tail that the new history does not have.
        orphans: Option<OrphanTail>,
    },
    /// Commits wait for a member, and it has confirmed.
    Synchronous {
        /// Which.
        member: Member,
        /// Up to where.
        confirmed_lsn: Lsn,
    },
    /// A writer serves.
    Serving {
        /// Which.
        writer: NodeId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// A reader's subscriptions after the step.
    Following {
        /// The ledger node they follow.
        publisher: NodeId,
        /// One per jurisdiction.
        subscriptions: Vec<SubscriptionOutcome>,
    },
    /// Slots that are gone.
    Dropped {
        /// Their names.
        slots: Vec<String>,
    },
    /// Readers whose slots are ready on the standby.
    SlotsReady {
        /// Which, with their jurisdictions.
        readers: BTreeMap<NodeId, BTreeSet<Jurisdiction>>,
    },
}

/// Where a plan stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The number of the next entry.
    pub next: u32,
    /// The control record as this plan left it …
    pub record: Record,
    /// … and its revision.
    pub record_revision: Revision,
    /// Steps whose effect may have taken place.
    pub begun: BTreeSet<usize>,
    /// Steps that are done, with what they learnt.
    pub done: BTreeMap<usize, Learnt>,
    /// Steps that failed, the plan going on.
    pub failed: BTreeMap<usize, String>,
    /// Why the move is being called off.
    pub calling_off: Option<String>,
    /// How the plan ended.
    pub outcome: Option<Outcome>,
}

impl History {
    /// Reads a stored journal.
    pub fn read(stored: &StoredPlan) -> Result<Self, serde_json::Error> {
        let mut history = Self {
            next: 1,
            record: stored.plan.record.clone(),
            record_revision: Revision(stored.plan.record_revision),
            begun: BTreeSet::new(),
            done: BTreeMap::new(),
            failed: BTreeMap::new(),
            calling_off: None,
            outcome: None,
        };
        for stored in &stored.journal {
            let entry: Entry = serde_json::from_slice(&stored.value)?;
            history.note(&entry);
            history.written(std::slice::from_ref(&entry), stored.revision);
        }
        Ok(history)
    }

    /// Takes an entry in.
    pub fn note(&mut self, entry: &Entry) {
        match &entry.happened {
            Happened::Begun { step } => {
                self.begun.insert(*step);
            }
            Happened::Done { step, learnt, .. } => {
                self.done.insert(*step, learnt.clone());
            }
            Happened::Failed { step, reason, .. } => {
                self.failed.insert(*step, reason.clone());
            }
            Happened::CallingOff { reason } => self.calling_off = Some(reason.clone()),
            Happened::Ended { outcome } => self.outcome = Some(outcome.clone()),
            Happened::PrimaryDead { .. }
            | Happened::Stopped { .. }
            | Happened::Resumed
            | Happened::Reopened { .. } => {}
        }
        if let Some(record) = entry.record() {
            self.record = record.clone();
        }
    }

    /// Notes that entries taken in were written at this revision, which is the record's where one of them changed it.
    pub fn written(&mut self, entries: &[Entry], revision: Revision) {
        for entry in entries {
            self.next = self.next.saturating_add(1);
            if entry.record().is_some() {
                self.record_revision = revision;
            }
        }
    }

    /// The record as it stands by this journal.
    pub fn present(&self) -> Versioned<Record> {
        Versioned { value: self.record.clone(), revision: self.record_revision }
    }

    /// Whether nothing is left to do for the step.
    pub fn is_over(&self, step: usize) -> bool {
        self.done.contains_key(&step) || self.failed.contains_key(&step)
    }

    /// The member that a step before observed as synchronous.
    pub fn synchronous(&self, node: &NodeId) -> Option<&Member> {
        self.done.values().rev().find_map(|learnt| match learnt {
            Learnt::Synchronous { member, .. } if &member.node == node => Some(member),
            _ => None,
        })
    }
}

impl Entry {
    /// The record that was written with this entry.
    pub fn record(&self) -> Option<&Record> {
        match &self.happened {
            Happened::Done { learnt: Learnt::Record { record }, .. }
            | Happened::Reopened { record } => Some(record),
            _ => None,
        }
    }
}
