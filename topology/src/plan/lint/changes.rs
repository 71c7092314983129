//! The rules about single steps: changes of the record, demotion, promotion, joining, readers.

use super::{Done, Walk};
use crate::document::Durability;
use crate::member::{JoinId, Member};
use crate::plan::{Intent, RecordChange};
use crate::record::{Beginning, Writes};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, NodeId};
use std::collections::BTreeSet;

impl<'a> Walk<'a> {
    pub(super) fn change(&mut self, change: &RecordChange) {
        let joined = match change {
            RecordChange::SetDurability { standby: Some(standby), .. } => {
                Some(self.joined(standby))
            }
            _ => None,
        };
        let next = change.apply(&self.record, joined);
        if let Err(fault) = self.record.allows(&next) {
            self.find(format!("the record does not allow the change: {fault}"));
        }
        match change {
            RecordChange::NewEpoch { node, beginning, sync_member, .. } => {
                self.new_epoch(node, *beginning, sync_member.as_ref());
            }
            RecordChange::SetPromotable => self.set_promotable(),
            RecordChange::CloseWrites => {
                self.done.insert(Done::Closed);
            }
            RecordChange::OpenWrites => {
                self.done.remove(&Done::Closed);
            }
            RecordChange::SetDurability { durability: Durability::Two, standby } => {
                let waited_for = standby.is_some() && standby.as_ref() == self.synced;
                self.require(waited_for, "the record says two after commits wait for the standby");
                self.done.remove(&Done::JoinedAnew);
            }
            RecordChange::SetDurability { durability: Durability::One, .. } => {
                self.done.insert(Done::OneCopy);
                self.done.remove(&Done::LeasesEnforced);
            }
            RecordChange::WaiveReader { reader } => self.waive(reader),
            RecordChange::ClearPromotable => {}
        }
        self.record = next;
    }

    fn waive(&mut self, reader: &NodeId) {
        let by_person = matches!(
            &self.plan.intent,
            Intent::WaiveReader { node, reason } if node == reader && !reason.trim().is_empty()
        );
        self.require(by_person, "a holder is left out by a person's word for it only");
    }

    /// The member of a joining that only the running plan learns; a stand-in keeps the nodes apart.
    fn joined(&self, standby: &NodeId) -> Member {
        match &self.record.sync_member {
            Some(member) if &member.node == standby && !self.rejoined.contains(standby) => {
                member.clone()
            }
            _ => Member { node: standby.clone(), join_id: JoinId::from_random(0) },
        }
    }

    fn set_promotable(&mut self) {
        let is_open = self.record.writes == Writes::Open;
        self.require(is_open, "redundancy is restored while the writer takes work");
        let member = self.record.sync_member.as_ref().map(|member| &member.node);
        let confirmed = member.is_some() && member == self.synced && !self.has(Done::JoinedAnew);
        self.require(confirmed, "a standby is promotable after commits were seen to wait for it");
        let copied = &self.plan.expected.reseeded_readers;
        let readers = self.facts.answering_readers();
        let mut awaited = readers.iter().filter(|reader| !copied.contains(*reader));
        let were_waited_for = awaited.all(|reader| self.ready.contains(reader));
        self.require(
            were_waited_for,
            "readers' slots are waited for before a standby is promotable",
        );
        self.done.insert(Done::Promotable);
    }

    fn new_epoch(&mut self, node: &NodeId, beginning: Beginning, sync_member: Option<&Member>) {
        self.require(!self.has(Done::NewEpoch), "a plan opens one epoch at most");
        let topology = &self.facts.topology;
        let region = topology.ledger(node).map(|ledger| &ledger.region);
        let writes_there = region.is_some_and(|region| !topology.writers_in(region).is_empty());
        self.require(writes_there, "an epoch begins on a ledger node whose region has a writer");
        let gaps = self.facts.standing_gaps(node);
        match beginning {
            Beginning::Forced => self.forced(node),
            Beginning::Switchover => {
                let is_out = self.demoted.is_some_and(|member| &member.node == self.former());
                self.require(is_out && self.has(Done::Replayed), "a switchover's epoch begins after the former primary stopped and all of it was replayed");
                let goes_on = sync_member.is_some() && sync_member == self.demoted;
                self.require(
                    goes_on,
                    "a switchover goes on with two copies: the demoted node confirms",
                );
            }
            Beginning::Failover | Beginning::First => {}
        }
        let is_ready =
            beginning == Beginning::Forced || self.has(Done::Promotable) || gaps.is_empty();
        self.require(is_ready, "without force only a ready standby takes over");
        self.done.insert(Done::NewEpoch);
        self.done.remove(&Done::Closed);
        self.done.remove(&Done::JoinedAnew);
        self.done.remove(&Done::LeasesEnded);
        self.rejoined.clear();
        self.follow.clear();
        self.ready.clear();
        self.synced = None;
    }

    fn forced(&mut self, node: &NodeId) {
        let accepted = matches!(
            &self.plan.intent,
            Intent::Failover { accept_data_loss: Some(reason), .. } if !reason.trim().is_empty()
        );
        self.require(accepted, "force needs a person who accepts the loss");
        let record = &self.record;
        let member = record.sync_member.as_ref().filter(|_| record.durability == Durability::Two);
        let is_fenced = member.is_none_or(|member| &member.node == node);
        let is_stopped = self.facts.is_stopped(self.former());
        self.require(
            is_fenced || is_stopped,
            "force leaves no old primary that a third node confirms",
        );
    }

    pub(super) fn demote(&mut self, node: &NodeId, epoch: Epoch, member: &'a Member) {
        let fits = node == self.former() && node == &member.node && epoch == self.record.epoch;
        self.require(fits, "the record's writer is demoted, at its epoch, as itself");
        let closed = self.record.writes == Writes::Closing && !self.has(Done::NewEpoch);
        self.require(closed, "a primary is demoted while writes are closed");
        self.require(
            self.slots.contains(member),
            "the demoted node's slot is made before it stops",
        );
        self.demoted = Some(member);
    }

    pub(super) fn replay(&mut self, node: &NodeId, demoted: &NodeId) {
        let after = self.demoted.is_some_and(|member| &member.node == demoted);
        let fits = after && !self.has(Done::NewEpoch) && node != demoted;
        self.require(fits, "replay is awaited after the demotion");
        self.done.insert(Done::Replayed);
    }

    pub(super) fn promote(&mut self, node: &NodeId, epoch: Epoch) {
        let named = node == &self.record.writer_node && epoch == self.record.epoch;
        self.require(
            named && self.has(Done::NewEpoch),
            "a standby is promoted after the record's new epoch names it",
        );
        let waited = self.record.beginning != Beginning::Forced || self.has(Done::LeasesEnded);
        self.require(waited, "after force every older lease ends before the promotion");
        self.done.insert(Done::Promoted);
    }

    pub(super) fn rejoin(&mut self, node: &'a NodeId) {
        self.require(node != &self.record.writer_node, "the writer's node does not follow");
        let relies = self.record.promotable
            && self.record.sync_member.as_ref().is_some_and(|m| &m.node == node);
        self.require(!relies, "nobody joins anew while the record calls it promotable");
        if self.synced == Some(node) {
            self.synced = None;
        }
        let is_member = self.record.sync_member.as_ref().is_some_and(|m| &m.node == node);
        // The demoted node starts as what the new epoch names.
        if is_member && self.demoted.is_none() {
            self.done.insert(Done::JoinedAnew);
        }
        self.rejoined.insert(node);
    }

    pub(super) fn open(&mut self, node: &NodeId, epoch: Epoch) {
        let named = node == &self.record.writer_node && epoch == self.record.epoch;
        let late = !self.has(Done::NewEpoch) && self.facts.primary_state_gap().is_none();
        let is_primary = self.has(Done::Promoted) || late;
        self.require(named && is_primary, "an epoch is opened on its promoted node");
        let waits = late && (self.has(Done::OneCopy) || self.record.durability == Durability::Two);
        self.require(!waits, "an epoch that waits for its second copy in vain is opened without");
        let returns = self.demoted.is_none_or(|member| self.rejoined.contains(&member.node));
        self.require(
            returns,
            "the demoted node follows before the epoch opens, which waits for it",
        );
        self.done.insert(Done::Opened);
    }

    pub(super) fn subscriptions(&mut self, reader: &'a NodeId, reseed: &BTreeSet<Jurisdiction>) {
        let settled = !self.has(Done::NewEpoch) || self.has(Done::Serves);
        self.require(settled, "readers follow after the writer passed its log gate");
        let is_forced = self.has(Done::NewEpoch) && self.record.beginning == Beginning::Forced;
        self.require(reseed.is_empty() || !is_forced, "a forced move copies no reader anew");
        self.follow.insert(reader);
    }
}
