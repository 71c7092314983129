//! The plans about the second copy: rejoin, restore-durability, degrade.
//!
//! Invariants: nobody is promotable while its joining or the wait may change; commits wait for the standby before the
//! record says `two`, and the record says `one`, with every writer that holds a lease under it, before they stop waiting;
//! a plan names the writers without one.

use super::facts::Facts;
use super::limits::{
    EPOCH_TIMEOUT_MS, LEASE_TIMEOUT_MS, REJOIN_TIMEOUT_MS, SYNC_TIMEOUT_MS, WRITER_TIMEOUT_MS,
};
use super::planner::Draft;
use super::readers;
use super::refusal::{Missing, Refusal, RefusalCode};
use super::{Action, RecordChange, Undo};
use crate::document::{Durability, LedgerNode};
use crate::record::{DegradedBy, Writes};
use domicile_core::ids::NodeId;

/// A ledger node becomes a standby of the writer's.
pub(super) fn rejoin(facts: &Facts, node: &NodeId) -> Result<Draft, Refusal> {
    if facts.topology.ledger(node).is_none() {
        let what = format!("{node} is not a ledger node of the topology");
        return Err(Refusal::one(RefusalCode::UnknownNode, what));
    }
    if node == &facts.record.writer_node {
        let what = format!("{node} is the writer's node in epoch {}", facts.record.epoch);
        return Err(Refusal::one(RefusalCode::NodeIsWriter, what));
    }
    Refusal::unless_empty(both_answer(facts, node))?;
    if facts.follows_writer(node) {
        let what = format!("{node} streams from {}", facts.record.writer_node);
        return Err(Refusal::one(RefusalCode::NothingToDo, what));
    }
    let mut draft = Draft::new(facts);
    // Joining anew would take the ground from under a promotable record.
    if facts.record.promotable && facts.is_sync_member(node) {
        draft.record(RecordChange::ClearPromotable, Undo::Stop);
    }
    add_rejoin(&mut draft, node);
    draft.remark("A standby alone is no second copy: `domicile restore-durability` makes it one.");
    Ok(draft)
}

/// Every write is confirmed by a second region again.
pub(super) fn restore_durability(facts: &Facts) -> Result<Draft, Refusal> {
    let Some(standby) = second(facts) else {
        let what = "no ledger node of another region than the writer's answers";
        let mut missing = vec![Missing::new(RefusalCode::NoSecondRegion, what)];
        missing.extend(facts.primary_gaps());
        return Refusal::unless_empty(missing).map(|()| Draft::new(facts));
    };
    Refusal::unless_empty(both_answer(facts, standby))?;
    if facts.standby_gaps(standby).is_empty() && facts.record.writes == Writes::Open {
        let what = format!("{standby} is synchronous, near and promotable");
        return Err(Refusal::one(RefusalCode::NothingToDo, what));
    }
    let mut draft = Draft::new(facts);
    add_restoration(&mut draft, facts, standby);
    Ok(draft)
}

/// One copy is enough for an acknowledgement, until redundancy is back.
pub(super) fn degrade(facts: &Facts, reason: &str) -> Result<Draft, Refusal> {
    let mut missing = Vec::new();
    if reason.trim().is_empty() {
        let what = "acknowledging with one copy is outside the no-loss claim and needs a reason";
        missing.push(Missing::new(RefusalCode::ReasonMissing, what));
    }
    // Its epoch may be closed still: the commit that opens it may be what waits in vain.
    missing.extend(facts.primary_state_gap());
    Refusal::unless_empty(missing)?;
    let record = &facts.record;
    // What a failover left is not what a person chose: said here, nobody restores it unasked.
    let says_one = record.durability == Durability::One && record.degraded_by == DegradedBy::Person;
    let waits = facts
        .fresh(&record.writer_node)
        .is_some_and(|status| status.postgres.sync_member.is_some());
    let is_open = facts.epoch_is_open();
    if says_one && !waits && is_open {
        let what = "writes are acknowledged with one copy already, by a person's choice";
        return Err(Refusal::one(RefusalCode::NothingToDo, what));
    }
    let mut draft = Draft::new(facts);
    if record.promotable {
        draft.record(RecordChange::ClearPromotable, Undo::Stop);
    }
    if !says_one {
        let change = RecordChange::SetDurability { durability: Durability::One, standby: None };
        draft.record(change, Undo::Stop);
    }
    let enforced =
        Action::AwaitLeaseEnforced { region: record.writer_region.clone(), epoch: record.epoch };
    draft.step(enforced, LEASE_TIMEOUT_MS, Undo::Stop);
    let off = Action::SyncOff { node: record.writer_node.clone() };
    draft.step(off, SYNC_TIMEOUT_MS, Undo::Stop);
    add_unleased(&mut draft, facts);
    if !is_open {
        add_late_opening(&mut draft, facts);
    }
    draft.remark(
        "Until `domicile restore-durability` has run, the loss of the writer's region loses acknowledged writes.",
    );
    Ok(draft)
}

/// Whoever holds no lease may not know of one copy: nothing that rests on the second is left to it.
fn add_unleased(draft: &mut Draft, facts: &Facts) {
    draft.unleased_writers = facts.unleased_writers();
    for writer in draft.unleased_writers.clone() {
        draft.remark(format!(
            "{writer} holds no lease and need not answer: unless it does by then, its database sessions are ended before \
             commits stop waiting. What it had under way is of unknown outcome; it acknowledges nothing before it \
             holds a lease."
        ));
    }
}

/// A move broke after its new primary was promoted: its epoch is opened and its readers follow.
fn add_late_opening(draft: &mut Draft, facts: &Facts) {
    let record = &facts.record;
    let open = Action::OpenEpoch { node: record.writer_node.clone(), epoch: record.epoch };
    draft.step(open, EPOCH_TIMEOUT_MS, Undo::Stop);
    let serves = Action::AwaitWriter { region: record.writer_region.clone(), epoch: record.epoch };
    draft.step(serves, WRITER_TIMEOUT_MS, Undo::Stop);
    readers::add_following(draft, facts, None);
    readers::add_silent(draft, facts, None);
}

/// The steps that make the node the promotable second copy.
pub(super) fn add_restoration(draft: &mut Draft, facts: &Facts, standby: &NodeId) {
    let record = &facts.record;
    let writer = &record.writer_node;
    if record.writes == Writes::Closing {
        draft.record(RecordChange::OpenWrites, Undo::Stop);
    }
    let stands = record.durability == Durability::Two && facts.follows_as_member(standby);
    if record.promotable && !stands {
        draft.record(RecordChange::ClearPromotable, Undo::Stop);
    }
    if !facts.follows_writer(standby) {
        add_rejoin(draft, standby);
    }
    if stands && record.promotable && facts.standby_gaps(standby).is_empty() {
        return;
    }
    let sync = Action::Sync { node: writer.clone(), standby: standby.clone() };
    draft.step(sync, SYNC_TIMEOUT_MS, Undo::Stop);
    if stands && record.promotable {
        return;
    }
    if !stands {
        let change = RecordChange::SetDurability {
            durability: Durability::Two,
            standby: Some(standby.clone()),
        };
        draft.record(change, Undo::Stop);
    }
    readers::add_following(draft, facts, None);
    add_slots_and_promotable(draft, facts, standby);
}

/// After a switchover: the demoted node confirms again, its slots are ready, it is promotable.
pub(super) fn add_confirmation(
    draft: &mut Draft,
    facts: &Facts,
    primary: &NodeId,
    standby: &NodeId,
) {
    let sync = Action::Sync { node: primary.clone(), standby: standby.clone() };
    draft.step(sync, SYNC_TIMEOUT_MS, Undo::Stop);
    add_slots_and_promotable(draft, facts, standby);
}

fn add_slots_and_promotable(draft: &mut Draft, facts: &Facts, standby: &NodeId) {
    readers::add_slots_ready(draft, facts, standby);
    draft.record(RecordChange::SetPromotable, Undo::Stop);
}

/// The remaining ledger nodes follow the new writer, as far as they answer.
pub(super) fn add_others(draft: &mut Draft, facts: &Facts, placed: &[&NodeId]) {
    let others = facts.topology.ledgers.iter().map(|ledger| &ledger.node);
    for node in others.filter(|node| !placed.contains(node) && facts.fresh(node).is_some()) {
        draft.step(Action::Rejoin { node: node.clone() }, REJOIN_TIMEOUT_MS, Undo::GoOn);
    }
}

fn add_rejoin(draft: &mut Draft, node: &NodeId) {
    draft.step(Action::Rejoin { node: node.clone() }, REJOIN_TIMEOUT_MS, Undo::Stop);
    draft.remark(format!(
        "If {node} went another way, what only it holds is extracted and kept before it is rewound or copied anew."
    ));
}

/// The node to hold the second copy: the sync member if it answers, else one that follows, else one that answers.
fn second(facts: &Facts) -> Option<&NodeId> {
    let elsewhere = |ledger: &&LedgerNode| ledger.region != facts.record.writer_region;
    let mut nodes: Vec<&NodeId> =
        facts.topology.ledgers.iter().filter(elsewhere).map(|ledger| &ledger.node).collect();
    nodes.retain(|node| facts.fresh(node).is_some());
    let member = nodes.iter().find(|node| facts.is_sync_member(node));
    member
        .or_else(|| nodes.iter().find(|node| facts.follows_writer(node)))
        .or_else(|| nodes.first())
        .copied()
}

fn both_answer(facts: &Facts, standby: &NodeId) -> Vec<Missing> {
    let mut missing = facts.primary_gaps();
    if facts.fresh(standby).is_none() {
        missing.push(facts.silent(standby, RefusalCode::StandbyUnreachable));
    }
    missing
}
