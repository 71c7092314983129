//! The plans that move the writer: switchover, failover, forced failover, failback.
//!
//! Invariants: a planned move keeps two copies throughout and can be called off until the new epoch is recorded; an
//! unplanned one goes to the member that acknowledged writes waited for, or is forced, with the loss accepted and every
//! older lease ended first. A reader is copied anew only after the writer's log gate, and never after a forced move.
//! Deliberately absent: rebuilding redundancy after a failover, a plan of its own.

use super::facts::Facts;
use super::limits::{
    CHECKPOINT_TIMEOUT_MS, DEMOTE_TIMEOUT_MS, DRAIN_TIMEOUT_MS, EPOCH_TIMEOUT_MS,
    FAILOVER_PAUSE_MS, LEASE_END_MS, LEASE_TIMEOUT_MS, NEAR_BYTES, PROMOTE_TIMEOUT_MS,
    REJOIN_TIMEOUT_MS, REPLAY_TIMEOUT_MS, SLOT_TIMEOUT_MS, SWITCHOVER_PAUSE_MS, WRITER_TIMEOUT_MS,
};
use super::planner::Draft;
use super::readers;
use super::redundancy;
use super::refusal::{Missing, Refusal, RefusalCode};
use super::{Action, LostWrites, RecordChange, Undo};
use crate::document::{Durability, LedgerNode};
use crate::member::{JoinId, Member};
use crate::observed::PostgresState;
use crate::record::Beginning;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use std::collections::BTreeSet;

/// A planned move: both regions alive, two copies of every write throughout.
pub(super) fn switchover(facts: &Facts, to: &RegionId, join: &JoinId) -> Result<Draft, Refusal> {
    let target = destination(facts, to)?;
    let mut missing = facts.primary_gaps();
    missing.extend(facts.standby_gaps(&target.node));
    missing.extend(facts.stalled_gaps(&facts.record.writer_node));
    Refusal::unless_empty(missing)?;
    let mut draft = Draft::new(facts);
    add_switchover(&mut draft, facts, target, Some(&target.node), join);
    Ok(draft)
}

/// The writer back to the preferred region, with redundancy restored first where it lacks.
pub(super) fn failback(facts: &Facts, join: &JoinId) -> Result<Draft, Refusal> {
    let preferred = &facts.topology.failover.preferred_region;
    let target = destination(facts, preferred)?;
    if facts.is_promotable(&target.node) && facts.follows_as_member(&target.node) {
        return switchover(facts, preferred, join);
    }
    let mut missing = facts.primary_gaps();
    missing.extend(facts.stalled_gaps(&facts.record.writer_node));
    if facts.fresh(&target.node).is_none() {
        missing.push(facts.silent(&target.node, RefusalCode::StandbyUnreachable));
    }
    Refusal::unless_empty(missing)?;
    let mut draft = Draft::new(facts);
    redundancy::add_restoration(&mut draft, facts, &target.node);
    add_switchover(&mut draft, facts, target, None, join);
    Ok(draft)
}

/// An unplanned move.
pub(super) fn failover(
    facts: &Facts,
    to: &RegionId,
    accept_data_loss: Option<&str>,
    waived_readers: &BTreeSet<NodeId>,
) -> Result<Draft, Refusal> {
    let target = destination(facts, to)?;
    let blockers = facts.standing_gaps(&target.node);
    let is_down = facts.standby_state_gap(&target.node).is_some();
    let is_forced = !facts.is_promotable(&target.node) || !(is_down || blockers.is_empty());
    let mut draft = Draft::new(facts);
    if is_forced {
        may_force(facts, target, accept_data_loss, waived_readers, &blockers)?;
        add_forced(&mut draft, facts, target, waived_readers);
    } else {
        Refusal::unless_empty(blockers)?;
        add_failover(&mut draft, facts, target);
        if accept_data_loss.is_some() || !waived_readers.is_empty() {
            draft.remark("No loss has to be accepted and no reader waived: the standby has all.");
        }
    }
    let writer = &facts.record.writer_node;
    if facts.fresh(writer).is_some_and(|status| status.postgres.state == PostgresState::Primary) {
        draft.remark(format!(
            "{writer} answers as primary: where it is healthy, a switchover costs no failed request."
        ));
    }
    let next =
        "When the former region is back: `domicile restore-durability`, then `domicile failback`.";
    draft.remark(next);
    Ok(draft)
}

/// The ledger node that would write in the region.
fn destination<'a>(facts: &'a Facts, to: &RegionId) -> Result<&'a LedgerNode, Refusal> {
    if to == &facts.record.writer_region {
        let what = format!("the writer of epoch {} is in {to}", facts.record.epoch);
        return Err(Refusal::one(RefusalCode::AlreadyThere, what));
    }
    match facts.candidate(to) {
        Some(target) if !facts.topology.writers_in(to).is_empty() => Ok(target),
        _ => {
            let what = format!("region {to} has no ledger node with a writer");
            Err(Refusal::one(RefusalCode::RegionCannotWrite, what))
        }
    }
}

fn next_epoch(facts: &Facts) -> Epoch {
    Epoch(facts.record.epoch.0.saturating_add(1))
}

/// `standing` is the target where it is a standby now, so that its readers' slots are known.
fn add_switchover(
    draft: &mut Draft,
    facts: &Facts,
    target: &LedgerNode,
    standing: Option<&NodeId>,
    join: &JoinId,
) {
    let former = &facts.record.writer_node;
    let returning = Member { node: former.clone(), join_id: join.clone() };
    let new = &target.node;
    for node in [former, new] {
        let checkpoint = Action::Checkpoint { node: node.clone() };
        draft.step(checkpoint, CHECKPOINT_TIMEOUT_MS, Undo::GoOn);
    }
    let slot = Action::Slot { node: new.clone(), member: returning.clone() };
    draft.step(slot, SLOT_TIMEOUT_MS, Undo::CallOff);
    draft.record(RecordChange::CloseWrites, Undo::CallOff);
    let demote = Action::Demote {
        node: former.clone(),
        epoch: facts.record.epoch,
        source: new.clone(),
        member: returning.clone(),
        drain_timeout_ms: DRAIN_TIMEOUT_MS,
    };
    draft.step(demote, DEMOTE_TIMEOUT_MS, Undo::CallOff);
    let replay = Action::AwaitReplay { node: new.clone(), demoted: former.clone() };
    draft.step(replay, REPLAY_TIMEOUT_MS, Undo::CallOff);
    add_new_epoch(draft, facts, target, Beginning::Switchover, Some(returning), &BTreeSet::new());
    let promote = Action::Promote { node: new.clone(), epoch: next_epoch(facts) };
    draft.step(promote, PROMOTE_TIMEOUT_MS, Undo::Stop);
    draft.step(Action::Rejoin { node: former.clone() }, REJOIN_TIMEOUT_MS, Undo::Stop);
    add_opening(draft, facts, target);
    readers::add_following(draft, facts, standing);
    redundancy::add_confirmation(draft, facts, new, former);
    redundancy::add_others(draft, facts, &[new, former]);
    readers::add_silent(draft, facts, standing);
    draft.write_pause_ms = SWITCHOVER_PAUSE_MS;
}

fn add_failover(draft: &mut Draft, facts: &Facts, target: &LedgerNode) {
    let new = &target.node;
    add_new_epoch(draft, facts, target, Beginning::Failover, None, &BTreeSet::new());
    let promote = Action::Promote { node: new.clone(), epoch: next_epoch(facts) };
    draft.step(promote, PROMOTE_TIMEOUT_MS, Undo::Stop);
    add_opening(draft, facts, target);
    readers::add_following(draft, facts, Some(new));
    readers::add_silent(draft, facts, Some(new));
    redundancy::add_others(draft, facts, &[new, &facts.record.writer_node]);
    draft.write_pause_ms = FAILOVER_PAUSE_MS;
    remark_replay(draft, facts, new);
}

fn add_forced(
    draft: &mut Draft,
    facts: &Facts,
    target: &LedgerNode,
    waived_readers: &BTreeSet<NodeId>,
) {
    let new = &target.node;
    let epoch = next_epoch(facts);
    add_new_epoch(draft, facts, target, Beginning::Forced, None, waived_readers);
    draft.step(Action::AwaitLeaseEnd { epoch }, LEASE_TIMEOUT_MS, Undo::Stop);
    let promote = Action::Promote { node: new.clone(), epoch };
    draft.step(promote, PROMOTE_TIMEOUT_MS, Undo::Stop);
    add_opening(draft, facts, target);
    readers::add_following(draft, facts, None);
    readers::add_silent(draft, facts, None);
    redundancy::add_others(draft, facts, &[new, &facts.record.writer_node]);
    let is_leased = facts.leases.iter().any(|lease| lease.epoch < epoch);
    draft.write_pause_ms = FAILOVER_PAUSE_MS + if is_leased { LEASE_END_MS } else { 0 };
    draft.lost_writes = LostWrites::Tail { at_most_bytes: tail(facts, new) };
    remark_replay(draft, facts, new);
    draft.remark(
        "No reader is copied anew by this plan: a replica may be the only holder of what the new writer must prove \
         its log against. Afterwards, where a reader says needs-reseed: `domicile reader reseed NODE`.",
    );
    draft.remark("When the former region is back, the loss statement names what it alone holds.");
}

fn add_new_epoch(
    draft: &mut Draft,
    facts: &Facts,
    target: &LedgerNode,
    beginning: Beginning,
    sync_member: Option<Member>,
    waived_readers: &BTreeSet<NodeId>,
) {
    let change = RecordChange::NewEpoch {
        epoch: next_epoch(facts),
        region: target.region.clone(),
        node: target.node.clone(),
        beginning,
        sync_member,
        waived_readers: waived_readers.clone(),
    };
    draft.record(change, Undo::Stop);
    draft.writer_region = target.region.clone();
}

fn add_opening(draft: &mut Draft, facts: &Facts, target: &LedgerNode) {
    let epoch = next_epoch(facts);
    let open = Action::OpenEpoch { node: target.node.clone(), epoch };
    draft.step(open, EPOCH_TIMEOUT_MS, Undo::Stop);
    let serves = Action::AwaitWriter { region: target.region.clone(), epoch };
    draft.step(serves, WRITER_TIMEOUT_MS, Undo::Stop);
}

/// Everything that stands against a forced failover, or nothing.
fn may_force(
    facts: &Facts,
    target: &LedgerNode,
    accept_data_loss: Option<&str>,
    waived_readers: &BTreeSet<NodeId>,
    blockers: &[Missing],
) -> Result<(), Refusal> {
    let mut missing: Vec<Missing> = facts.standby_state_gap(&target.node).into_iter().collect();
    let record = &facts.record;
    let third_confirms =
        record.durability == Durability::Two && !facts.is_sync_member(&target.node);
    if third_confirms && !facts.is_stopped(&record.writer_node) {
        let what = format!(
            "commits on {} wait for another node than {}, and its Postgres is not known to be stopped",
            record.writer_node, target.node
        );
        missing.push(Missing::new(RefusalCode::OldPrimaryUnfenced, what));
    }
    for reader in waived_readers.iter().filter(|node| facts.topology.reader(node).is_none()) {
        let what = format!("the waived reader {reader} is not a reader of the topology");
        missing.push(Missing::new(RefusalCode::UnknownWaivedReader, what));
    }
    if accept_data_loss.is_none_or(|reason| reason.trim().is_empty()) {
        let lost = |gap: &Missing| gap.what.clone();
        let why: Vec<String> = blockers.iter().map(lost).collect();
        let what = format!("acknowledged writes could be lost: {}", why.join("; "));
        missing.insert(0, Missing::new(RefusalCode::LossNotAccepted, what));
    }
    Refusal::unless_empty(missing)
}

/// How far the former writer was ahead of the node when both were last seen, however long ago.
fn tail(facts: &Facts, node: &NodeId) -> Option<u64> {
    let position = |node| facts.nodes.get(node)?.status.as_ref()?.postgres.lsn;
    let (written, arrived) = (position(&facts.record.writer_node)?, position(node)?);
    // What an outdated answer says is no bound: the writer went on afterwards.
    facts.fresh(&facts.record.writer_node)?;
    Some(written.bytes_since(arrived))
}

fn remark_replay(draft: &mut Draft, facts: &Facts, node: &NodeId) {
    let Some(postgres) = facts.fresh(node).map(|status| &status.postgres) else { return };
    let Some((received, replayed)) = postgres.lsn.zip(postgres.replay_lsn) else { return };
    let behind = received.bytes_since(replayed);
    if behind > NEAR_BYTES {
        draft.remark(format!("{node} replays {behind} bytes before it can be promoted."));
    }
}
