//! What every plan must keep, checked step by step over the plan alone, whoever made it.
//!
//! The plan is walked through with the record folded along: each change must be one that the record allows, the old
//! primary must be out before the new one is in, the wait for the second region and the record must change in the one
//! safe order, and no row may come where residency forbids it.
//! Deliberately absent: how a plan was found. The planner is not trusted here.

mod changes;

use super::facts::Facts;
use super::{Action, Intent, Plan, RecordChange, Undo};
use crate::document::Durability;
use crate::member::Member;
use crate::record::{DegradedBy, Record, Writes};
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
    /// The standby joined anew, and the record names its former joining still.
    JoinedAnew,
    /// Writes, by this plan, until they are opened.
    Closed,
    /// The new primary has all that the demoted one wrote.
    Replayed,
    /// The record names a new writer.
    NewEpoch,
    /// The plan itself made a standby promotable.
    Promotable,
    /// Older leases have ended.
    LeasesEnded,
    /// The record says one, or is to, and commits wait still.
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
        let is_degrade = matches!(plan.intent, Intent::Degrade { .. });
        let member = plan.record.sync_member.as_ref();
        let is_other = member.is_some_and(|member| !facts.follows_as_member(&member.node));
        let begins = [(is_degrade, Done::OneCopy), (is_other, Done::JoinedAnew)];
        Self {
            facts,
            plan,
            at: None,
            findings: Vec::new(),
            record: plan.record.clone(),
            slots: BTreeSet::new(),
            demoted: None,
            done: begins.into_iter().filter(|(holds, _)| *holds).map(|(_, done)| done).collect(),
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
        let closes = matches!(action, Action::Record { change: RecordChange::CloseWrites });
        let is_closing = closes || self.has(Done::Closed);
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
                let is_new = self.has(Done::NewEpoch);
                let follows = !is_new && self.facts.follows_writer(standby);
                let comes = self.rejoined.contains(standby);
                self.require(follows || comes, "commits wait for a standby that follows");
                self.synced = Some(standby);
            }
            Action::SyncOff { node } => {
                self.primary(node);
                let is_one = self.record.durability == Durability::One;
                self.require(
                    is_one && self.has(Done::LeasesEnforced),
                    "commits stop waiting only after the record says one and leases are enforced",
                );
                let unleased = self.facts.unleased_writers();
                self.require(
                    unleased == self.plan.expected.unleased_writers,
                    "a plan names the writers without a lease, who are fenced before commits stop waiting",
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

    fn end(&mut self) {
        self.require(!self.plan.steps.is_empty(), "a plan has steps");
        self.require(!self.has(Done::Closed), "a plan that closes writes opens them again");
        self.require(!self.has(Done::OneCopy), "after the record says one, commits stop waiting");
        if self.has(Done::Opened) {
            let mut readers = self.facts.topology.readers.iter().map(|reader| &reader.node);
            let all_follow = readers.all(|reader| self.follow.contains(reader));
            self.require(all_follow, "every reader follows an epoch that is opened");
        }
        if self.has(Done::NewEpoch) {
            self.require(
                self.has(Done::Promoted) && self.has(Done::Opened) && self.has(Done::Serves),
                "a new epoch has its node promoted, is opened and served",
            );
        }
        let is_redundant = match self.plan.intent {
            Intent::Switchover { .. } | Intent::Failback | Intent::RestoreDurability => {
                self.record.promotable && self.record.writes == Writes::Open
            }
            _ => true,
        };
        self.require(is_redundant, "the plan ends with writes open and a promotable standby");
        if let (Intent::RestoreDurability, Some(member)) =
            (&self.plan.intent, &self.record.sync_member)
        {
            let was_seen = self.synced == Some(&member.node);
            let is_ready = was_seen || self.facts.standby_gaps(&member.node).is_empty();
            self.require(is_ready, "redundancy is restored once commits were seen to wait");
        }
        if matches!(self.plan.intent, Intent::Degrade { .. }) {
            let is_chosen = self.record.degraded_by == DegradedBy::Person;
            self.require(is_chosen, "the record says that a person chose one copy");
            let opens = self.facts.epoch_is_open() || self.has(Done::Serves);
            self.require(opens, "an epoch that waited in vain is opened and served");
        }
        if let Intent::Rejoin { node } = &self.plan.intent {
            self.require(self.rejoined.contains(node), "the node rejoins");
        }
        let topology = &self.facts.topology;
        let suspended = topology.suspended_under(&self.record.writer_region);
        let is_said = self.plan.expected.suspended == suspended.into_iter().cloned().collect();
        self.require(
            is_said,
            "a plan says which jurisdictions its writer's region may not write for",
        );
    }
}
