//! What every plan must keep, checked step by step over the plan alone, whoever made it.
//!
//! The plan is walked through with the record folded along: each change must be one that the record allows, the old
//! primary must be out before the new one is in, the wait for the second region and the record must change in the one
//! safe order, and no row may come where residency forbids it.
//! Deliberately absent: how a plan was found. The planner is not trusted here.

use super::facts::Facts;
use super::{Action, Intent, Plan, RecordChange, Undo};
use crate::document::Durability;
use crate::member::{JoinId, Member};
use crate::record::{Beginning, Record, Writes};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, NodeId};
use std::collections::BTreeSet;

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which step, from 1; `None` is about the plan as a whole.
    pub step: Option<usize>,
    /// The rule.
    pub rule: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.step {
            Some(step) => write!(f, "step {step}: {}", self.rule),
            None => f.write_str(&self.rule),
        }
    }
}

/// Everything the plan breaks; empty for a sound one.
pub fn lint(facts: &Facts, plan: &Plan) -> Vec<Finding> {
    let mut walk = Walk::new(facts, plan);
    if plan.record != facts.record || plan.record_revision != facts.record_revision {
        walk.find("a plan names the record it was made under");
    }
    for (index, step) in plan.steps.iter().enumerate() {
        walk.at = Some(index + 1);
        walk.failure(&step.action, step.on_failure);
        walk.residency(&step.action);
        walk.action(&step.action);
    }
    walk.at = None;
    walk.end();
    walk.findings
}

/// What a plan has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Done {
    /// The new primary has all that the demoted one wrote.
    Replayed,
    /// The record names a new writer.
    NewEpoch,
    /// The plan itself made a standby promotable.
    Promotable,
    /// Older leases have ended.
    LeasesEnded,
    /// The record says one, and commits wait still.
    OneCopy,
    /// The writers answer under leases.
    LeasesEnforced,
    /// The new primary is one.
    Promoted,
    /// Its epoch is open.
    Opened,
    /// Its writer serves.
    Serves,
}

/// What holds after the steps so far.
struct Walk<'a> {
    facts: &'a Facts,
    plan: &'a Plan,
    at: Option<usize>,
    findings: Vec<Finding>,
    record: Record,
    slots: BTreeSet<&'a Member>,
    demoted: Option<&'a Member>,
    done: BTreeSet<Done>,
    rejoined: BTreeSet<&'a NodeId>,
    synced: Option<&'a NodeId>,
    follow: BTreeSet<&'a NodeId>,
    ready: BTreeSet<&'a NodeId>,
}

impl<'a> Walk<'a> {
    fn new(facts: &'a Facts, plan: &'a Plan) -> Self {
        Self {
            facts,
            plan,
            at: None,
            findings: Vec::new(),
            record: plan.record.clone(),
            slots: BTreeSet::new(),
            demoted: None,
            done: BTreeSet::new(),
            rejoined: BTreeSet::new(),
            synced: None,
            follow: BTreeSet::new(),
            ready: BTreeSet::new(),
        }
    }

    fn has(&self, done: Done) -> bool {
        self.done.contains(&done)
    }

    fn find(&mut self, rule: impl Into<String>) {
        self.findings.push(Finding { step: self.at, rule: rule.into() });
    }

    fn require(&mut self, holds: bool, rule: &str) {
        if !holds {
            self.find(rule);
        }
    }

    fn former(&self) -> &'a NodeId {
        &self.plan.record.writer_node
    }

    fn failure(&mut self, action: &Action, on_failure: Undo) {
        let is_closing = self.record.writes == Writes::Closing;
        match on_failure {
            Undo::CallOff => {
                self.require(
                    !self.has(Done::NewEpoch),
                    "a move is called off before the new epoch only",
                );
            }
            Undo::GoOn => {
                let serves_one = match action {
                    Action::Checkpoint { .. }
                    | Action::Subscriptions { .. }
                    | Action::AwaitSlots { .. } => true,
                    // Another node than those the move rests on.
                    Action::Rejoin { node } => {
                        self.demoted.is_none_or(|member| &member.node != node)
                    }
                    _ => false,
                };
                self.require(
                    serves_one,
                    "a plan goes on without a step only where it serves one reader, or speed",
                );
            }
            Undo::Stop => {}
        }
        let opens = matches!(
            action,
            Action::Record { change: RecordChange::NewEpoch { .. } | RecordChange::OpenWrites }
        );
        if is_closing && !self.has(Done::NewEpoch) && !opens {
            self.require(
                on_failure != Undo::Stop,
                "no step while writes are closed leaves them so when it fails",
            );
        }
    }

    fn residency(&mut self, action: &Action) {
        let topology = &self.facts.topology;
        let holds_all = |node: &NodeId| {
            topology.ledger(node).is_some_and(|ledger| {
                let codes = topology.jurisdictions.iter().map(|policy| &policy.code);
                codes.into_iter().all(|code| topology.may_hold(&ledger.region, code))
            })
        };
        match action {
            Action::Rejoin { node }
            | Action::Promote { node, .. }
            | Action::Sync { standby: node, .. } => {
                self.require(
                    holds_all(node),
                    "only a ledger node that may hold every jurisdiction follows or leads",
                );
            }
            Action::Subscriptions { node: reader, reseed } => {
                let may_hold = topology.reader(reader).is_some_and(|reader| {
                    let may = |code: &Jurisdiction| topology.may_hold(&reader.region, code);
                    reader.jurisdictions.iter().all(may) && reseed.is_subset(&reader.jurisdictions)
                });
                self.require(
                    may_hold,
                    "a reader receives its own jurisdictions only, where they may be held",
                );
            }
            _ => {}
        }
    }

    fn action(&mut self, action: &'a Action) {
        match action {
            Action::Checkpoint { .. } => {}
            Action::Slot { member, .. } => {
                self.slots.insert(member);
            }
            Action::Record { change } => self.change(change),
            Action::Demote { node, epoch, member, .. } => self.demote(node, *epoch, member),
            Action::AwaitReplay { node, demoted } => self.replay(node, demoted),
            Action::AwaitLeaseEnd { epoch } => {
                self.require(*epoch == self.record.epoch, "leases end for the record's epoch");
                self.done.insert(Done::LeasesEnded);
            }
            Action::AwaitLeaseEnforced { region, epoch } => {
                let fits = *epoch == self.record.epoch && *region == self.record.writer_region;
                let is_one = self.record.durability == Durability::One;
                self.require(fits && is_one, "leases are enforced once the record says one");
                self.done.insert(Done::LeasesEnforced);
            }
            Action::Promote { node, epoch } => self.promote(node, *epoch),
            Action::Rejoin { node } => self.rejoin(node),
            Action::Sync { node, standby } => {
                self.primary(node);
                self.synced = Some(standby);
            }
            Action::SyncOff { node } => {
                self.primary(node);
                let is_one = self.record.durability == Durability::One;
                self.require(
                    is_one && self.has(Done::LeasesEnforced),
                    "commits stop waiting only after the record says one and leases are enforced",
                );
                self.done.remove(&Done::OneCopy);
                self.synced = None;
            }
            Action::OpenEpoch { node, epoch } => self.open(node, *epoch),
            Action::AwaitWriter { epoch, .. } => {
                let is_open = self.has(Done::Opened) && *epoch == self.record.epoch;
                self.require(is_open, "a writer is waited for after its epoch was opened");
                self.done.insert(Done::Serves);
            }
            Action::AwaitSlots { standby, readers } => {
                let follow = readers.iter().all(|reader| self.follow.contains(reader));
                self.require(follow, "a reader's slots are waited for after it follows the record");
                let may_confirm = standby != &self.record.writer_node;
                self.require(may_confirm, "slots are waited for on the standby");
                self.ready.extend(readers);
            }
            Action::Subscriptions { node: reader, reseed } => self.subscriptions(reader, reseed),
            Action::DropSlots { node, .. } => self.primary(node),
        }
    }

    /// The step works on the present primary.
    fn primary(&mut self, node: &NodeId) {
        let is_primary = node == &self.record.writer_node
            && self.has(Done::NewEpoch) == self.has(Done::Promoted);
        self.require(is_primary, "the step is for the writer's node, when it is primary");
    }

    fn change(&mut self, change: &RecordChange) {
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
            RecordChange::SetDurability { durability: Durability::Two, standby } => {
                let waited_for = standby.is_some() && standby.as_ref() == self.synced;
                self.require(waited_for, "the record says two after commits wait for the standby");
            }
            RecordChange::SetDurability { durability: Durability::One, .. } => {
                self.done.insert(Done::OneCopy);
                self.done.remove(&Done::LeasesEnforced);
            }
            _ => {}
        }
        self.record = next;
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
        let member = self.record.sync_member.as_ref().map(|member| &member.node);
        let confirmed = member.is_some() && member == self.synced;
        self.require(confirmed, "a standby is promotable after commits were seen to wait for it");
        let mut readers = self.facts.topology.readers.iter().map(|reader| &reader.node);
        let were_waited_for = readers.all(|reader| self.ready.contains(reader));
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
        self.done.remove(&Done::LeasesEnded);
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

    fn demote(&mut self, node: &NodeId, epoch: Epoch, member: &'a Member) {
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

    fn replay(&mut self, node: &NodeId, demoted: &NodeId) {
        let after = self.demoted.is_some_and(|member| &member.node == demoted);
        let fits = after && !self.has(Done::NewEpoch) && node != demoted;
        self.require(fits, "replay is awaited after the demotion");
        self.done.insert(Done::Replayed);
    }

    fn promote(&mut self, node: &NodeId, epoch: Epoch) {
        let named = node == &self.record.writer_node && epoch == self.record.epoch;
        self.require(
            named && self.has(Done::NewEpoch),
            "a standby is promoted after the record's new epoch names it",
        );
        let waited = self.record.beginning != Beginning::Forced || self.has(Done::LeasesEnded);
        self.require(waited, "after force every older lease ends before the promotion");
        self.done.insert(Done::Promoted);
    }

    fn rejoin(&mut self, node: &'a NodeId) {
        self.require(node != &self.record.writer_node, "the writer's node does not follow");
        let relies = self.record.promotable
            && self.record.sync_member.as_ref().is_some_and(|m| &m.node == node);
        self.require(!relies, "nobody joins anew while the record calls it promotable");
        if self.synced == Some(node) {
            self.synced = None;
        }
        self.rejoined.insert(node);
    }

    fn open(&mut self, node: &NodeId, epoch: Epoch) {
        let named = node == &self.record.writer_node && epoch == self.record.epoch;
        self.require(named && self.has(Done::Promoted), "an epoch is opened on its promoted node");
        let returns = self.demoted.is_none_or(|member| self.rejoined.contains(&member.node));
        self.require(
            returns,
            "the demoted node follows before the epoch opens, which waits for it",
        );
        self.done.insert(Done::Opened);
    }

    fn subscriptions(&mut self, reader: &'a NodeId, reseed: &BTreeSet<Jurisdiction>) {
        let settled = !self.has(Done::NewEpoch) || self.has(Done::Serves);
        self.require(settled, "readers follow after the writer passed its log gate");
        let is_forced = self.has(Done::NewEpoch) && self.record.beginning == Beginning::Forced;
        self.require(reseed.is_empty() || !is_forced, "a forced move copies no reader anew");
        self.follow.insert(reader);
    }

    fn end(&mut self) {
        self.require(!self.plan.steps.is_empty(), "a plan has steps");
        self.require(self.record.writes == Writes::Open, "a plan leaves writes open");
        self.require(!self.has(Done::OneCopy), "after the record says one, commits stop waiting");
        if self.has(Done::NewEpoch) {
            self.require(
                self.has(Done::Promoted) && self.has(Done::Opened) && self.has(Done::Serves),
                "a new epoch has its node promoted, is opened and served",
            );
            let mut readers = self.facts.topology.readers.iter().map(|reader| &reader.node);
            let all_follow = readers.all(|reader| self.follow.contains(reader));
            self.require(all_follow, "every reader follows a new epoch");
        }
        let is_redundant = match self.plan.intent {
            Intent::Switchover { .. } | Intent::Failback | Intent::RestoreDurability => {
                self.record.promotable
            }
            _ => true,
        };
        self.require(is_redundant, "the plan ends with a promotable standby");
        let topology = &self.facts.topology;
        let suspended = topology.suspended_under(&self.record.writer_region);
        let is_said = self.plan.expected.suspended == suspended.into_iter().cloned().collect();
        self.require(
            is_said,
            "a plan says which jurisdictions its writer's region may not write for",
        );
    }
}
