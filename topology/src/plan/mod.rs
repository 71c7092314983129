//! Moving the writer, as a plan: what is asked for, the steps, and what they will cost.
//!
//! A plan is made by a pure planner from observed facts and is immutable; an executor runs its steps over a journal.
//! Invariants: a plan names the record's revision it was made under and is refused under any other; no step leaves two
//! writers or makes an unready standby primary; residency holds after every step.
//! Deliberately absent: IO, clocks, and anything that is learnt only while the plan runs: that is in the journal.

pub mod facts;
pub mod limits;
pub mod lint;
mod moves;
pub mod planner;
mod readers;
mod redundancy;
pub mod refusal;
mod step;
pub mod transitions;

pub use facts::{Fact, Facts};
pub use planner::{PlanIds, plan};
pub use refusal::{Missing, Refusal, RefusalCode};
pub use step::{Action, LostWrites, RecordChange, Step, Undo};

use crate::record::Record;
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What somebody, or a standby's agent, wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Intent {
    /// Move the writer to another region, both alive, nothing lost.
    Switchover {
        /// Where to.
        to: RegionId,
    },
    /// Move the writer away from a region that does not answer.
    Failover {
        /// Where to.
        to: RegionId,
        /// Why loss is accepted, when the standby may lack acknowledged writes.
        accept_data_loss: Option<String>,
        /// Readers that the log gate need not hear; only with accepted loss.
        waived_readers: BTreeSet<NodeId>,
    },
    /// Bring the writer back to the preferred region: rejoin it if needed, then a switchover.
    Failback,
    /// Make a ledger node a standby of the writer's.
    Rejoin {
        /// Which.
        node: NodeId,
    },
    /// Acknowledge with one copy, until redundancy is back.
    Degrade {
        /// Why.
        reason: String,
    },
    /// Have a second region confirm every write again.
    RestoreDurability,
    /// Let the log gate of this epoch pass without a reader that is gone.
    WaiveReader {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Give a reader of the topology its data.
    ReaderAdd {
        /// Which.
        node: NodeId,
    },
    /// Copy a reader's jurisdictions anew.
    ReaderReseed {
        /// Which.
        node: NodeId,
    },
    /// Take a reader's slots away, so that it holds up nobody.
    ReaderRemove {
        /// Which.
        node: NodeId,
    },
}

impl Intent {
    /// The verb, as the command line spells it.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Switchover { .. } => "switchover",
            Self::Failover { .. } => "failover",
            Self::Failback => "failback",
            Self::Rejoin { .. } => "rejoin",
            Self::Degrade { .. } => "degrade",
            Self::RestoreDurability => "restore-durability",
            Self::WaiveReader { .. } => "waive-reader",
            Self::ReaderAdd { .. } => "reader add",
            Self::ReaderReseed { .. } => "reader reseed",
            Self::ReaderRemove { .. } => "reader remove",
        }
    }

    /// Why a person asked for it, where the verb wants to know.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Degrade { reason } | Self::WaiveReader { reason, .. } => Some(reason),
            Self::Failover { accept_data_loss, .. } => accept_data_loss.as_deref(),
            Self::Switchover { .. }
            | Self::Failback
            | Self::Rejoin { .. }
            | Self::RestoreDurability
            | Self::ReaderAdd { .. }
            | Self::ReaderReseed { .. }
            | Self::ReaderRemove { .. } => None,
        }
    }
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its name: lower-case letters, digits and `-`, made by whoever asked.
    pub id: String,
    /// What was asked for.
    pub intent: Intent,
    /// The control record it was made under …
    pub record: Record,
    /// … and that record's revision in the control plane: under any other the plan is stale.
    pub record_revision: i64,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What it will cost.
    pub expected: Expected,
    /// What is left to do, or to know, afterwards; for people.
    pub remarks: Vec<String>,
}

/// What a plan is expected to cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// How long no write is acknowledged, milliseconds; 0 when writes go on.
    pub write_pause_ms: u64,
    /// What may be lost.
    pub lost_writes: LostWrites,
    /// Jurisdictions that the writer's region may not write for afterwards.
    pub suspended: BTreeSet<Jurisdiction>,
    /// Readers that have to be copied anew afterwards, because their slot is not ready.
    pub reseeded_readers: BTreeSet<NodeId>,
    /// Writer processes without a lease: if one is so still when commits stop waiting, its database sessions are ended
    /// first, and what it had under way is of unknown outcome.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unleased_writers: BTreeSet<NodeId>,
}
