//! What each agent does when it is asked: the rules of its interface, on a simulated node.

use crate::cluster::{Cluster, Ledger};
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::error::Code;
use domicile_core::ids::NodeId;
use domicile_execute::WorldError;
use domicile_topology::Member;
use domicile_topology::agent_api::{
    DemoteAnswer, DemoteRequest, EpochOpenAnswer, PromoteAnswer, RejoinAnswer, Rejoined,
    SubscriptionsAnswer, SyncAnswer, UndoDemoteAnswer,
};
use domicile_topology::document::Durability;
use domicile_topology::record::Writes;

/// What an operation comes to: an answer, or nothing yet.
pub(crate) type Outcome<T> = Option<Result<T, WorldError>>;

pub(crate) fn refusal(code: Code, detail: &str) -> WorldError {
    WorldError::Refused { code: Some(code), detail: detail.to_owned() }
}

#[expect(clippy::unnecessary_wraps, reason = "one of the outcomes of an operation")]
fn refused<T>(code: Code, detail: &str) -> Outcome<T> {
    Some(Err(refusal(code, detail)))
}

fn position(ledger: &Ledger) -> Lsn {
    Lsn(ledger.log.len() as u64)
}

impl Cluster {
    fn ledger(&mut self, node: &NodeId) -> &mut Ledger {
        self.ledgers.get_mut(node).unwrap()
    }

    fn names(&self, node: &NodeId, epoch: Epoch) -> bool {
        self.record().writer_node == *node && self.record().epoch == epoch
    }

    pub(crate) fn demote(
        &mut self,
        node: &NodeId,
        request: &DemoteRequest,
    ) -> Outcome<DemoteAnswer> {
        if !self.names(node, request.epoch) || self.record().writes != Writes::Closing {
            return refused(Code::WriterNotNamed, "not closing in this epoch");
        }
        let ledger = self.ledger(node);
        let demoted = !ledger.is_demoted;
        if demoted {
            ledger.runs = false;
            ledger.is_primary = false;
            ledger.is_demoted = true;
            ledger.lets_writer_in = false;
            ledger.member = Some(request.member.clone());
            ledger.source = Some(request.source.clone());
        }
        let (end_lsn, timeline) = (position(ledger), ledger.timeline);
        let silent_writers = std::collections::BTreeSet::new();
        Some(Ok(DemoteAnswer { demoted, end_lsn, timeline, silent_writers }))
    }

    pub(crate) fn undo_demote(&mut self, node: &NodeId, epoch: Epoch) -> Outcome<UndoDemoteAnswer> {
        if !self.names(node, epoch) {
            return refused(Code::WriterNotNamed, "another epoch");
        }
        let ledger = self.ledger(node);
        let restored = ledger.is_demoted || !ledger.runs;
        if restored {
            ledger.runs = true;
            ledger.is_primary = true;
            ledger.is_demoted = false;
            ledger.member = None;
            ledger.source = None;
            ledger.lets_writer_in = ledger.epoch_open == Some(epoch);
        }
        Some(Ok(UndoDemoteAnswer { restored }))
    }

    pub(crate) fn promote(&mut self, node: &NodeId, epoch: Epoch) -> Outcome<PromoteAnswer> {
        if !self.names(node, epoch) {
            return refused(Code::WriterNotNamed, "the record names another");
        }
        let sync_member = self.record().sync_member.clone();
        let ledger = self.ledger(node);
        let promoted = !ledger.is_primary;
        if promoted {
            ledger.sync_member = sync_member;
            ledger.is_primary = true;
            ledger.timeline += 1;
            ledger.member = None;
            ledger.source = None;
        }
        let (timeline, begin_lsn) = (ledger.timeline, position(ledger));
        Some(Ok(PromoteAnswer { promoted, timeline, begin_lsn }))
    }

    pub(crate) fn rejoin(&mut self, node: &NodeId) -> Outcome<RejoinAnswer> {
        let source = self.record().writer_node.clone();
        if source == *node {
            return refused(Code::NodeState, "the record names this node");
        }
        let answer = |how, member: &Member| {
            let (source, member) = (source.clone(), member.clone());
            Some(Ok(RejoinAnswer { how, source, member, orphans: None }))
        };
        if self.streams(node, &source) {
            return answer(Rejoined::Unchanged, &self.ledgers[node].member.clone().unwrap());
        }
        let target = self.ledgers[&source].clone();
        let own = &self.ledgers[node];
        if own.is_demoted && target.runs && target.log.starts_with(&own.log) {
            let ledger = self.ledger(node);
            ledger.runs = true;
            ledger.is_demoted = false;
            ledger.source = Some(source.clone());
            return answer(Rejoined::Started, &self.ledgers[node].member.clone().unwrap());
        }
        if !target.runs || !target.is_primary || self.is_cut(&source) {
            return refused(Code::StepFailed, "nobody to rewind from");
        }
        let member = self.new_member(node);
        let ledger = self.ledger(node);
        ledger.runs = true;
        ledger.is_primary = false;
        ledger.is_demoted = false;
        ledger.lets_writer_in = false;
        ledger.log = target.log;
        ledger.timeline = target.timeline;
        ledger.sync_member = None;
        ledger.member = Some(member.clone());
        ledger.source = Some(source.clone());
        answer(Rejoined::Rewound, &member)
    }

    pub(crate) fn sync(&mut self, node: &NodeId, member: Option<Member>) -> Outcome<SyncAnswer> {
        let record = self.record().clone();
        if record.writer_node != *node || !self.ledgers[node].is_primary {
            return refused(Code::WriterNotNamed, "not the primary");
        }
        let changed = self.ledgers[node].sync_member != member;
        if changed && record.promotable {
            return refused(Code::NodeState, "promotable");
        }
        match &member {
            None if record.durability == Durability::Two => {
                return refused(Code::NodeState, "the record says two");
            }
            Some(member) if !self.confirming(node, member) => return None,
            _ => {}
        }
        let ledger = self.ledger(node);
        ledger.sync_member.clone_from(&member);
        let current_lsn = position(ledger);
        let confirmed_lsn = member.as_ref().map(|_| current_lsn);
        Some(Ok(SyncAnswer { changed, member, current_lsn, confirmed_lsn }))
    }

    /// Its commit waits for whoever the primary waits for.
    pub(crate) fn open_epoch(&mut self, node: &NodeId, epoch: Epoch) -> Outcome<EpochOpenAnswer> {
        if !self.names(node, epoch) {
            return refused(Code::WriterNotNamed, "the record names another");
        }
        if !self.ledgers[node].is_primary {
            return refused(Code::NodeState, "not a primary");
        }
        let member = self.ledgers[node].sync_member.clone();
        if member.is_some_and(|member| !self.confirming(node, &member)) {
            return None;
        }
        let ledger = self.ledger(node);
        let opened = ledger.epoch_open != Some(epoch);
        ledger.epoch_open = Some(epoch);
        ledger.lets_writer_in = true;
        Some(Ok(EpochOpenAnswer { opened, epoch }))
    }

    pub(crate) fn follow(&mut self, reader: &NodeId) -> Outcome<SubscriptionsAnswer> {
        let publisher = self.record().writer_node.clone();
        if !self.ledgers[&publisher].is_primary || self.is_cut(&publisher) {
            return refused(Code::StepFailed, "no publisher");
        }
        self.following.insert(reader.clone(), publisher.clone());
        Some(Ok(SubscriptionsAnswer { publisher, subscriptions: Vec::new() }))
    }
}
