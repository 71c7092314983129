//! The readers: their steps in every plan that moves something, and the plans about one of them.
//!
//! Invariants: a reader never blocks a move or another reader; each is named, with what happens to it.

use super::facts::Facts;
use super::limits::{SLOT_TIMEOUT_MS, SLOTS_READY_TIMEOUT_MS, SUBSCRIPTIONS_TIMEOUT_MS};
use super::planner::Draft;
use super::refusal::{Missing, Refusal, RefusalCode};
use super::{Action, RecordChange, Undo};
use crate::agent_api::subscription_name;
use crate::document::{ReaderNode, Topology};
use crate::record::Beginning;
use domicile_core::ids::{Jurisdiction, NodeId};
use std::collections::BTreeSet;

/// Each reader that answers follows the record. Where the new primary is a standby now, what its slots cannot go on from
/// is copied anew.
pub(super) fn add_following(draft: &mut Draft, facts: &Facts, promoted: Option<&NodeId>) {
    let answering = facts.answering_readers();
    let readers = facts.topology.readers.iter();
    for reader in readers.filter(|reader| answering.contains(&reader.node)) {
        add_follower(draft, facts, promoted, reader);
    }
}

/// The readers that do not answer follow last, so that nobody waits for them.
pub(super) fn add_silent(draft: &mut Draft, facts: &Facts, promoted: Option<&NodeId>) {
    let answering = facts.answering_readers();
    let readers = facts.topology.readers.iter();
    for reader in readers.filter(|reader| !answering.contains(&reader.node)) {
        add_follower(draft, facts, promoted, reader);
        draft.remark(format!(
            "{} does not answer; it follows the record once it is back.",
            reader.node
        ));
    }
}

fn add_follower(draft: &mut Draft, facts: &Facts, promoted: Option<&NodeId>, reader: &ReaderNode) {
    let known = promoted.filter(|node| facts.standing_gaps(node).is_empty());
    let reseed = known.map(|node| facts.unready_slots(node, reader)).unwrap_or_default();
    if !reseed.is_empty() {
        draft.reseeded_readers.insert(reader.node.clone());
        draft.remark(format!(
            "{} cannot go on in {}: copied anew after the move and stale until then.",
            reader.node,
            codes(&reseed)
        ));
    }
    let follow = Action::Subscriptions { node: reader.node.clone(), reseed };
    draft.step(follow, SUBSCRIPTIONS_TIMEOUT_MS, Undo::GoOn);
}

/// The slots of the readers are ready on the standby, or named as not. Nobody waits for those that do not answer, or
/// are copied anew: their slots come when they do.
pub(super) fn add_slots_ready(draft: &mut Draft, facts: &Facts, standby: &NodeId) {
    let mut readers = facts.answering_readers();
    readers.retain(|node| !draft.reseeded_readers.contains(node));
    if !readers.is_empty() {
        let ready = Action::AwaitSlots { standby: standby.clone(), readers };
        draft.step(ready, SLOTS_READY_TIMEOUT_MS, Undo::GoOn);
    }
}

/// A reader of the topology gets its data.
pub(super) fn add(facts: &Facts, node: &NodeId) -> Result<Draft, Refusal> {
    let reader = both_answer(facts, node)?;
    Ok(subscribe(facts, reader, BTreeSet::new()))
}

/// A reader's jurisdictions are copied anew.
pub(super) fn reseed(facts: &Facts, node: &NodeId) -> Result<Draft, Refusal> {
    let reader = both_answer(facts, node)?;
    let mut draft = subscribe(facts, reader, reader.jurisdictions.clone());
    draft.reseeded_readers.insert(node.clone());
    draft
        .remark(format!("{node} is stale in {} until it is copied.", codes(&reader.jurisdictions)));
    if facts.record.beginning == Beginning::Forced {
        draft.remark(format!(
            "Epoch {} began by force: what {node} holds may be the only proof of what was lost. Keep a copy of its \
             rows first if its log is suspended.",
            facts.record.epoch
        ));
    }
    Ok(draft)
}

/// The log gate of this epoch need not hear the reader.
pub(super) fn waive(facts: &Facts, node: &NodeId, reason: &str) -> Result<Draft, Refusal> {
    let record = &facts.record;
    let mut missing = Vec::new();
    if reason.trim().is_empty() {
        let what = "signing without a holder's word gives up a check and needs a reason";
        missing.push(Missing::new(RefusalCode::ReasonMissing, what));
    }
    let reader = facts.topology.reader(node);
    if reader.is_none() {
        let what = format!("the waived reader {node} is not a reader of the topology");
        missing.push(Missing::new(RefusalCode::UnknownWaivedReader, what));
    }
    if record.beginning == Beginning::First || record.waived_readers.contains(node) {
        let what = format!("the log gate of epoch {} does not wait for {node}", record.epoch);
        missing.push(Missing::new(RefusalCode::NothingToDo, what));
    }
    Refusal::unless_empty(missing)?;
    let mut draft = Draft::new(facts);
    draft.record(RecordChange::WaiveReader { reader: node.clone() }, Undo::Stop);
    let held = reader.map(|reader| codes(&reader.jurisdictions)).unwrap_or_default();
    draft.remark(format!(
        "Given up: that the log of {held} extends what {node} has served. If it does not, players hold proofs that \
         contradict what is signed from now on, and nobody notices before they compare."
    ));
    draft.remark(format!(
        "A holder that answers must agree all the same, and {node} audits what it receives once it is back: keep its \
         data as evidence until then."
    ));
    draft.remark("The writer starts its epoch anew: requests are held for the moment it takes.");
    Ok(draft)
}

/// A reader's slots are dropped, so that it holds up nobody.
pub(super) fn remove(facts: &Facts, node: &NodeId) -> Result<Draft, Refusal> {
    let mut missing = facts.primary_gaps();
    let reader = facts.topology.reader(node);
    if reader.is_none() && !has_slots(facts, node) {
        let what =
            format!("{node} is no reader of the topology and has no slot on the writer's node");
        missing.insert(0, Missing::new(RefusalCode::UnknownNode, what));
    }
    let bereft = reader.map(|reader| only_required(&facts.topology, reader)).unwrap_or_default();
    if facts.fresh(node).is_some() && !bereft.is_empty() {
        let what =
            format!("{node} holds the only required copy of {} in its region", codes(&bereft));
        missing.push(Missing::new(RefusalCode::RequiredCopy, what));
    }
    Refusal::unless_empty(missing)?;
    let mut draft = Draft::new(facts);
    let drop = Action::DropSlots { node: facts.record.writer_node.clone(), reader: node.clone() };
    draft.step(drop, SLOT_TIMEOUT_MS, Undo::Stop);
    draft.remark(format!(
        "Remove {node} from the topology as well: its agent would ask for its slots again."
    ));
    if !bereft.is_empty() {
        draft.remark(format!(
            "The required copy of {} in the region of {node} is stale from now on: replace the reader soon.",
            codes(&bereft)
        ));
    }
    Ok(draft)
}

fn subscribe(facts: &Facts, reader: &ReaderNode, reseed: BTreeSet<Jurisdiction>) -> Draft {
    let mut draft = Draft::new(facts);
    let follow = Action::Subscriptions { node: reader.node.clone(), reseed };
    draft.step(follow, SUBSCRIPTIONS_TIMEOUT_MS, Undo::Stop);
    if let Some(member) = &facts.record.sync_member {
        let readers = BTreeSet::from([reader.node.clone()]);
        let ready = Action::AwaitSlots { standby: member.node.clone(), readers };
        draft.step(ready, SLOTS_READY_TIMEOUT_MS, Undo::GoOn);
    }
    draft
}

fn both_answer<'a>(facts: &'a Facts, node: &NodeId) -> Result<&'a ReaderNode, Refusal> {
    let Some(reader) = facts.topology.reader(node) else {
        let what = format!("{node} is not a reader of the topology");
        return Err(Refusal::one(RefusalCode::UnknownNode, what));
    };
    let mut missing = facts.primary_gaps();
    if facts.fresh(node).is_none() {
        missing.push(facts.silent(node, RefusalCode::ReaderUnreachable));
    }
    Refusal::unless_empty(missing)?;
    Ok(reader)
}

fn has_slots(facts: &Facts, reader: &NodeId) -> bool {
    let jurisdictions = facts.topology.jurisdictions.iter().map(|policy| &policy.code);
    let names: Vec<String> = jurisdictions.map(|code| subscription_name(reader, code)).collect();
    let status = facts.fresh(&facts.record.writer_node);
    status.is_some_and(|status| status.slots.iter().any(|slot| names.contains(&slot.name)))
}

/// Jurisdictions that must have a copy in the reader's region, where no other node holds one.
fn only_required(topology: &Topology, reader: &ReaderNode) -> BTreeSet<Jurisdiction> {
    let is_required = |code: &&Jurisdiction| {
        topology.policy(code).is_some_and(|p| p.required_copy_regions.contains(&reader.region))
    };
    let another_holds = |code: &Jurisdiction| {
        let readers = topology.readers.iter().filter(|other| other.node != reader.node);
        !topology.ledgers_in(&reader.region).is_empty()
            || readers
                .filter(|other| other.region == reader.region)
                .any(|other| other.jurisdictions.contains(code))
    };
    let required = reader.jurisdictions.iter().filter(is_required);
    required.filter(|code| !another_holds(code)).cloned().collect()
}

fn codes(jurisdictions: &BTreeSet<Jurisdiction>) -> String {
    let codes: Vec<String> = jurisdictions.iter().map(ToString::to_string).collect();
    codes.join(", ")
}
