//! The control record: who writes, in which epoch, how durably, and which standby may take over.
//!
//! Invariants: there is one record per cluster, changed by compare-and-set only; a stored record is
//! consistent ([`Record::check`]) and every change of it is one that [`Record::allows`]. Order comes
//! from epochs and revisions, never from a clock.
//! Deliberately absent: whether a change is *wise* now. That needs observed facts and is the planner's.

use crate::document::Durability;
use crate::member::Member;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

/// The control record of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The writer's term.
    pub epoch: Epoch,
    /// The region that writes.
    pub writer_region: RegionId,
    /// The ledger node that is primary.
    pub writer_node: NodeId,
    /// How many regions hold a write before it is acknowledged.
    pub durability: Durability,
    /// The standby whose confirmation is waited for.
    pub sync_member: Option<Member>,
    /// Whether that standby may be promoted without loss.
    pub promotable: bool,
    /// The generation of the topology this was decided under.
    pub topology_generation: u64,
    /// Whether the writer of this epoch takes new work.
    #[serde(default)]
    pub writes: Writes,
    /// How this epoch began.
    #[serde(default)]
    pub beginning: Beginning,
    /// Readers that the log gate of this epoch need not hear, each named by a person.
    #[serde(default)]
    pub waived_readers: BTreeSet<NodeId>,
    /// Who chose one copy, while there is one.
    #[serde(default, skip_serializing_if = "DegradedBy::is_course")]
    pub degraded_by: DegradedBy,
}

/// Who chose that one copy is enough for an acknowledgement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DegradedBy {
    /// Nobody: a cluster begins so, and a failover leaves it so. Redundancy is restored without being asked for.
    #[default]
    Course,
    /// A person, who also ends it.
    Person,
}

impl DegradedBy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
    fn is_course(&self) -> bool {
        *self == Self::Course
    }
}

/// Whether the writer of an epoch takes new work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writes {
    /// It does.
    #[default]
    Open,
    /// It finishes what it has and refuses the rest as not executed: the writer is about to move.
    Closing,
}

/// How an epoch began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Beginning {
    /// With the cluster.
    #[default]
    First,
    /// Planned: the former writer had stopped cleanly and the new one had all it wrote.
    Switchover,
    /// Unplanned, on a promotable standby: nothing acknowledged is missing.
    Failover,
    /// Unplanned, on a standby that may lack acknowledged writes, accepted by a person.
    Forced,
}

/// Why a record, or a change of it, is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordFault {
    /// Epochs start at 1.
    #[error("the epoch must be at least 1")]
    EpochZero,
    /// `two` means that a named member confirms.
    #[error("durability two needs a sync member")]
    TwoWithoutMember,
    /// Nobody may be promotable while nobody confirms.
    #[error("promotable needs durability two")]
    PromotableInOne,
    /// The writer cannot confirm its own writes.
    #[error("the sync member is the writer itself")]
    MemberIsWriter,
    /// Epochs and generations only grow.
    #[error("the epoch or the topology generation would go back")]
    GoesBack,
    /// A new term is the next number.
    #[error("a new epoch must be the present one plus one")]
    EpochSkips,
    /// The writer changes with the epoch only.
    #[error("the writer can change only together with the epoch")]
    WriterWithoutEpoch,
    /// A term starts without a promotable standby.
    #[error("a new epoch starts with promotable cleared")]
    NewEpochPromotable,
    /// Promotable first has to be cleared, in a change of its own.
    #[error("promotable must be cleared before durability or sync member change")]
    PromotableNotCleared,
    /// Only the first epoch begins with the cluster, and an epoch's beginning does not change.
    #[error("the beginning does not fit the epoch")]
    BeginningMismatch,
    /// Without a promotable standby that takes over, a failover is a forced one.
    #[error("only the promotable member may take over without force")]
    NotPromotable,
    /// A switchover begins after the former writer took no more work.
    #[error("writes must be closing before a switchover")]
    WritesNotClosing,
    /// A new epoch takes new work.
    #[error("a new epoch begins with writes open")]
    NewEpochClosing,
    /// Where no epoch went before there is nothing to waive, and no waiver is taken back.
    #[error("readers are waived in a later epoch than the first, and stay waived for it")]
    WaiverMisplaced,
    /// With two copies nobody has chosen one.
    #[error("a person's choice of one copy does not stand beside two")]
    ChoiceMisplaced,
    /// What a person chose ends with two copies, or with the epoch.
    #[error("a person's choice of one copy ends with two copies or a new epoch only")]
    ChoiceUndone,
    /// Promotable is set in a change of its own, about the member already confirmed.
    #[error("promotable can be set only when durability two and the sync member already stand")]
    PromotableTooEarly,
}

impl Record {
    /// The record a cluster begins with: one copy, until its second region has joined.
    pub fn first(writer_region: RegionId, writer_node: NodeId, topology_generation: u64) -> Self {
        Self {
            epoch: Epoch(1),
            writer_region,
            writer_node,
            durability: Durability::One,
            sync_member: None,
            promotable: false,
            topology_generation,
            writes: Writes::Open,
            beginning: Beginning::First,
            waived_readers: BTreeSet::new(),
            degraded_by: DegradedBy::Course,
        }
    }

    /// Whether the record is consistent in itself.
    pub fn check(&self) -> Result<(), RecordFault> {
        if self.epoch < Epoch(1) {
            return Err(RecordFault::EpochZero);
        }
        if self.durability == Durability::Two && self.sync_member.is_none() {
            return Err(RecordFault::TwoWithoutMember);
        }
        if self.promotable && self.durability != Durability::Two {
            return Err(RecordFault::PromotableInOne);
        }
        if self.sync_member.as_ref().is_some_and(|member| member.node == self.writer_node) {
            return Err(RecordFault::MemberIsWriter);
        }
        if (self.beginning == Beginning::First) != (self.epoch == Epoch(1)) {
            return Err(RecordFault::BeginningMismatch);
        }
        if self.beginning == Beginning::First && !self.waived_readers.is_empty() {
            return Err(RecordFault::WaiverMisplaced);
        }
        if self.durability == Durability::Two && self.degraded_by == DegradedBy::Person {
            return Err(RecordFault::ChoiceMisplaced);
        }
        Ok(())
    }

    /// Whether `next` may follow this record.
    pub fn allows(&self, next: &Self) -> Result<(), RecordFault> {
        next.check()?;
        if next.epoch < self.epoch || next.topology_generation < self.topology_generation {
            return Err(RecordFault::GoesBack);
        }
        if next.epoch > self.epoch {
            return self.allows_promotion(next);
        }
        if (&next.writer_node, &next.writer_region) != (&self.writer_node, &self.writer_region) {
            return Err(RecordFault::WriterWithoutEpoch);
        }
        if next.beginning != self.beginning {
            return Err(RecordFault::BeginningMismatch);
        }
        if !next.waived_readers.is_superset(&self.waived_readers) {
            return Err(RecordFault::WaiverMisplaced);
        }
        let is_chosen = self.degraded_by == DegradedBy::Person;
        if is_chosen && next.durability == Durability::One && next.degraded_by != self.degraded_by {
            return Err(RecordFault::ChoiceUndone);
        }
        let same_standing =
            next.durability == self.durability && next.sync_member == self.sync_member;
        match (self.promotable, next.promotable, same_standing) {
            (true, _, false) => Err(RecordFault::PromotableNotCleared),
            (false, true, false) => Err(RecordFault::PromotableTooEarly),
            (_, _, true) | (false, false, false) => Ok(()),
        }
    }

    fn allows_promotion(&self, next: &Self) -> Result<(), RecordFault> {
        if next.epoch.0.checked_sub(1) != Some(self.epoch.0) {
            return Err(RecordFault::EpochSkips);
        }
        if next.promotable {
            return Err(RecordFault::NewEpochPromotable);
        }
        if next.writes == Writes::Closing {
            return Err(RecordFault::NewEpochClosing);
        }
        if next.degraded_by == DegradedBy::Person {
            return Err(RecordFault::ChoiceMisplaced);
        }
        if next.beginning != Beginning::Forced && !next.waived_readers.is_empty() {
            return Err(RecordFault::WaiverMisplaced);
        }
        let takes_over = self.sync_member.as_ref().is_some_and(|m| m.node == next.writer_node);
        match next.beginning {
            Beginning::First => Err(RecordFault::BeginningMismatch),
            Beginning::Forced => Ok(()),
            _ if !(self.promotable && takes_over) => Err(RecordFault::NotPromotable),
            Beginning::Switchover if self.writes != Writes::Closing => {
                Err(RecordFault::WritesNotClosing)
            }
            Beginning::Switchover | Beginning::Failover => Ok(()),
        }
    }
}
