//! From facts and an intent to a plan, or to a refusal that names everything that is missing.
//!
//! Invariants: pure – the same facts, intent and ids give the same plan; what comes out has passed the lint over plans.
//! Deliberately absent: running it, and asking people; both belong to the callers.

use super::facts::Facts;
use super::limits::RECORD_TIMEOUT_MS;
use super::lint::lint;
use super::refusal::{Missing, Refusal, RefusalCode};
use super::{Action, Expected, Intent, LostWrites, Plan, RecordChange, Step, Undo};
use super::{moves, readers, redundancy};
use crate::member::JoinId;
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use std::collections::BTreeSet;

/// What a plan cannot draw by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanIds {
    /// The plan's name.
    pub plan: String,
    /// The joining of a node that the plan demotes.
    pub join: JoinId,
}

/// Plans what is asked for.
pub fn plan(facts: &Facts, intent: &Intent, ids: PlanIds) -> Result<Plan, Refusal> {
    if facts.record.topology_generation > facts.topology.generation {
        let what = format!(
            "the topology at hand has generation {}, the control record was decided under {}",
            facts.topology.generation, facts.record.topology_generation
        );
        return Err(Refusal::one(RefusalCode::TopologyOutdated, what));
    }
    let draft = match intent {
        Intent::Switchover { to } => moves::switchover(facts, to, &ids.join),
        Intent::Failover { to, accept_data_loss, waived_readers } => {
            moves::failover(facts, to, accept_data_loss.as_deref(), waived_readers)
        }
        Intent::Failback => moves::failback(facts, &ids.join),
        Intent::Rejoin { node } => redundancy::rejoin(facts, node),
        Intent::Degrade { reason } => redundancy::degrade(facts, reason),
        Intent::RestoreDurability => redundancy::restore_durability(facts),
        Intent::WaiveReader { node, reason } => readers::waive(facts, node, reason),
        Intent::ReaderAdd { node } => readers::add(facts, node),
        Intent::ReaderReseed { node } => readers::reseed(facts, node),
        Intent::ReaderRemove { node } => readers::remove(facts, node),
    }?;
    let plan = draft.into_plan(facts, intent, ids);
    let findings = lint(facts, &plan);
    let unsound = findings
        .into_iter()
        .map(|finding| Missing::new(RefusalCode::Unsound, finding.to_string()))
        .collect();
    Refusal::unless_empty(unsound)?;
    Ok(plan)
}

/// A plan in the making.
#[derive(Debug)]
pub(super) struct Draft {
    /// The steps so far.
    pub(super) steps: Vec<Step>,
    /// How long no write is acknowledged, milliseconds.
    pub(super) write_pause_ms: u64,
    /// What may be lost.
    pub(super) lost_writes: LostWrites,
    /// Where the writer is afterwards.
    pub(super) writer_region: RegionId,
    /// Readers to be copied anew.
    pub(super) reseeded_readers: BTreeSet<NodeId>,
    /// Writer processes that are fenced from their database before commits stop waiting.
    pub(super) unleased_writers: BTreeSet<NodeId>,
    /// For people.
    pub(super) remarks: Vec<String>,
}

impl Draft {
    /// No steps yet; the writer stays where it is.
    pub(super) fn new(facts: &Facts) -> Self {
        Self {
            steps: Vec::new(),
            write_pause_ms: 0,
            lost_writes: LostWrites::None,
            writer_region: facts.record.writer_region.clone(),
            reseeded_readers: BTreeSet::new(),
            unleased_writers: BTreeSet::new(),
            remarks: Vec::new(),
        }
    }

    /// Adds a step.
    pub(super) fn step(&mut self, action: Action, timeout_ms: u64, on_failure: Undo) {
        self.steps.push(Step { action, timeout_ms, on_failure });
    }

    /// Adds a change of the control record.
    pub(super) fn record(&mut self, change: RecordChange, on_failure: Undo) {
        self.step(Action::Record { change }, RECORD_TIMEOUT_MS, on_failure);
    }

    /// Adds a remark.
    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    fn into_plan(mut self, facts: &Facts, intent: &Intent, ids: PlanIds) -> Plan {
        let suspended: BTreeSet<Jurisdiction> =
            facts.topology.suspended_under(&self.writer_region).into_iter().cloned().collect();
        if !suspended.is_empty() {
            let codes: Vec<String> = suspended.iter().map(ToString::to_string).collect();
            self.remark(format!(
                "A writer in {} may not write for {}: suspended until it moves on.",
                self.writer_region,
                codes.join(", ")
            ));
        }
        Plan {
            id: ids.plan,
            intent: intent.clone(),
            record: facts.record.clone(),
            record_revision: facts.record_revision,
            steps: self.steps,
            expected: Expected {
                write_pause_ms: self.write_pause_ms,
                lost_writes: self.lost_writes,
                suspended,
                reseeded_readers: self.reseeded_readers,
                unleased_writers: self.unleased_writers,
            },
            remarks: self.remarks,
        }
    }
}
