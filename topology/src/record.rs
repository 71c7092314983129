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
    /// Promotable is set in a change of its own, about the member already confirmed.
    #[error("promotable can be set only when durability two and the sync member already stand")]
    PromotableTooEarly,
}

impl Record {
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
        Ok(())
    }
}
