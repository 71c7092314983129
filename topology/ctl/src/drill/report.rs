//! What a drill hands over: everything that was seen, in one document.
//!
//! Times are milliseconds since the drill began, on a clock that nobody sets; the beginning is stated in UTC.
//! Deliberately absent: secrets, tokens, players. A report is given to people outside.

use domicile_core::ids::{ClusterId, Jurisdiction, NodeId, OperatorId, RegionId, RoundId};
use domicile_topology::plan::Plan;
use domicile_topology::record::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The format of this document.
pub(crate) const FORMAT: &str = "domicile-drill/1";

/// A whole drill.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`FORMAT`].
    pub(crate) format: String,
    /// Its name.
    pub(crate) id: String,
    /// `switchover`, `failover`, `failback` or `round-trip`.
    pub(crate) drill: String,
    /// `dry-run` or `live`.
    pub(crate) mode: String,
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// The generation of its topology …
    pub(crate) topology_generation: u64,
    /// … and the SHA-256 of the document.
    pub(crate) topology_sha256: String,
    /// User and host that conducted it.
    pub(crate) conducted_by: String,
    /// This program.
    pub(crate) program: String,
    /// When it began, UTC.
    pub(crate) began_at: String,
    /// When it ended, UTC.
    pub(crate) ended_at: String,
    /// Where the control plane's leader was to be when a region died: `as-is`, `with-writer` or `elsewhere`.
    #[serde(default)]
    pub(crate) etcd_leader: String,
    /// What it is judged by.
    pub(crate) objectives: Objectives,
    /// What was looked at before.
    pub(crate) preflight: Preflight,
    /// What happened, in order.
    pub(crate) timeline: Vec<Event>,
    /// Every move of the writer.
    pub(crate) moves: Vec<Move>,
    /// What clients saw, once per cycle.
    pub(crate) loads: Vec<Load>,
    /// What each phase of the failovers took.
    #[serde(default)]
    pub(crate) phases: Vec<PhaseFigure>,
    /// One line per objective.
    pub(crate) findings: Vec<Finding>,
    /// Whether all of them were met.
    pub(crate) passed: bool,
    /// What a person has to do now.
    pub(crate) follow_up: Vec<String>,
}

/// What a drill is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Objectives {
    /// Median of the write pauses of planned moves, milliseconds.
    pub(crate) switchover_pause_median_ms: u64,
    /// The longest of them, milliseconds.
    pub(crate) switchover_pause_worst_ms: u64,
    /// From the fault to the first write acknowledged in the new region, milliseconds.
    pub(crate) failover_rto_ms: u64,
    /// Acknowledged rounds that may be missing afterwards.
    pub(crate) rpo_rounds: u64,
    /// Requests that may fail while a planned move goes on.
    pub(crate) failed_in_switchover: u64,
}

/// What was looked at before anything was done.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Preflight {
    /// Of 100.
    pub(crate) score: u32,
    /// Whether a live drill may go on.
    pub(crate) ready: bool,
    /// One by one.
    pub(crate) checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What.
    pub(crate) what: String,
    /// Its share in the score.
    pub(crate) weight: u32,
    /// Whether a live drill needs it.
    pub(crate) needed: bool,
    /// Whether it is so.
    pub(crate) passed: bool,
    /// What was seen.
    pub(crate) seen: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When, milliseconds since the beginning.
    pub(crate) at_ms: u64,
    /// What.
    pub(crate) what: String,
}

/// One move of the writer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Move {
    /// Which cycle it belongs to, from 1.
    pub(crate) cycle: u32,
    /// The verb.
    pub(crate) verb: String,
    /// The plan, unless it was refused; an agent's is read from its journal.
    pub(crate) plan: Option<Plan>,
    /// The last hash of the audit file afterwards: it fixes every entry of the plan's journal.
    pub(crate) audit_head: Option<String>,
    /// How it ended.
    pub(crate) outcome: String,
    /// Whether it ended well.
    pub(crate) done: bool,
    /// What was broken on purpose before it.
    pub(crate) fault: Option<String>,
    /// Where the control plane's leader was just before that.
    #[serde(default)]
    pub(crate) etcd_leader: Option<ControlLeader>,
    /// When it, or the fault before it, began.
    pub(crate) began_ms: u64,
    /// When it ended.
    pub(crate) ended_ms: u64,
    /// The control record before …
    pub(crate) before: Option<Record>,
    /// … and after.
    pub(crate) after: Option<Record>,
    /// The steps as they ran.
    pub(crate) steps: Vec<StepRun>,
    /// The longest time without an acknowledged write around it, milliseconds; `None` without load.
    pub(crate) write_pause_ms: Option<u64>,
    /// From its beginning to the first write of the new epoch, milliseconds.
    pub(crate) first_write_ms: Option<u64>,
    /// When whoever moved the writer knew of the fault: an agent by its observers, or this drill, which made it.
    #[serde(default)]
    pub(crate) noticed_ms: Option<u64>,
    /// Where the time from a fault to that write went, in order.
    #[serde(default)]
    pub(crate) phases: Vec<Phase>,
    /// What the new writer proved about its logs before it signed.
    pub(crate) log_gate: Option<Value>,
    /// The logs as readers served them, before and after.
    pub(crate) logs: Vec<LogEvidence>,
}

/// The leader of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ControlLeader {
    /// The member.
    pub(crate) node: NodeId,
    /// Where it runs.
    pub(crate) region: RegionId,
}

/// A part of the time from the kill to the first acknowledged write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// What it ended with.
    pub(crate) name: String,
    /// When, milliseconds after the kill.
    pub(crate) ended_ms: u64,
    /// After the phase before it, milliseconds.
    pub(crate) took_ms: u64,
}

/// A phase over all failovers of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PhaseFigure {
    /// What it ends with.
    pub(crate) name: String,
    /// In how many failovers it was seen.
    pub(crate) count: usize,
    /// Median of what it took, milliseconds.
    pub(crate) took_median_ms: u64,
    /// The longest, milliseconds.
    pub(crate) took_worst_ms: u64,
    /// Median of its end after the kill, milliseconds.
    pub(crate) ended_median_ms: u64,
    /// The latest, milliseconds.
    pub(crate) ended_worst_ms: u64,
}

impl Move {
    /// One that has just begun.
    pub(crate) fn begun(cycle: u32, verb: &str, began_ms: u64, before: Record) -> Self {
        Self {
            cycle,
            verb: verb.to_owned(),
            plan: None,
            audit_head: None,
            outcome: String::new(),
            done: false,
            fault: None,
            etcd_leader: None,
            began_ms,
            ended_ms: began_ms,
            before: Some(before),
            after: None,
            steps: Vec::new(),
            write_pause_ms: None,
            first_write_ms: None,
            noticed_ms: None,
            phases: Vec::new(),
            log_gate: None,
            logs: Vec::new(),
        }
    }
}

/// A step as it ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepRun {
    /// Its place in the plan, from 1.
    pub(crate) number: usize,
    /// What it did.
    pub(crate) what: String,
    /// When it began.
    pub(crate) began_ms: u64,
    /// When it ended.
    pub(crate) ended_ms: u64,
    /// How.
    pub(crate) outcome: String,
    /// Where each jurisdiction's data was seen afterwards.
    pub(crate) residency: Vec<Held>,
}

/// Where a jurisdiction's data is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The jurisdiction.
    pub(crate) jurisdiction: Jurisdiction,
    /// Regions with a node seen to hold it.
    pub(crate) regions: BTreeSet<RegionId>,
    /// Regions that must hold it and were not seen to, and those that hold it and may not.
    pub(crate) violations: Vec<String>,
}

/// What one reader served of one log before and after a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEvidence {
    /// Whose log.
    pub(crate) jurisdiction: Jurisdiction,
    /// Which reader.
    pub(crate) reader: NodeId,
    /// The signed checkpoint before.
    pub(crate) before: Option<String>,
    /// The signed checkpoint after.
    pub(crate) after: Option<String>,
    /// The hashes that prove that the second tree begins with the first, as the reader served them.
    pub(crate) proof: Option<String>,
    /// `None` when it was proven; otherwise why not.
    pub(crate) fault: Option<String>,
}

/// What clients saw in one cycle.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Which cycle, from 1.
    pub(crate) cycle: u32,
    /// Clients at once.
    pub(crate) players: usize,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Writes that were never answered within the client's patience.
    pub(crate) given_up: u64,
    /// Attempts that were answered with an error or not at all, by code; each was sent again with the same key.
    pub(crate) failed_attempts: BTreeMap<String, u64>,
    /// Of those, attempts within planned moves.
    pub(crate) failed_in_planned_moves: u64,
    /// Acknowledged writes that took longer than a write without a move does.
    pub(crate) held: u64,
    /// The slowest acknowledged write, milliseconds.
    pub(crate) slowest_ms: u64,
    /// Half of them were faster than this, milliseconds.
    pub(crate) median_ms: u64,
    /// Stakes acknowledged, micro-units by currency.
    pub(crate) stake_micro: BTreeMap<String, u64>,
    /// Acknowledged rounds whose proof was fetched afterwards and verified.
    pub(crate) proven: u64,
    /// Acknowledged rounds that nobody could prove afterwards: the measured loss.
    pub(crate) lost: Vec<LostRound>,
}

/// A round that was acknowledged and could not be proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostRound {
    /// Its jurisdiction.
    pub(crate) jurisdiction: Jurisdiction,
    /// Its operator.
    pub(crate) operator: OperatorId,
    /// The round.
    pub(crate) round: RoundId,
    /// Its stake, micro-units.
    pub(crate) stake_micro: u64,
    /// Its currency.
    pub(crate) currency: String,
    /// Why it counts as lost.
    pub(crate) why: String,
}

/// An objective, and whether it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// What was asked.
    pub(crate) objective: String,
    /// What was wanted.
    pub(crate) wanted: String,
    /// What was measured.
    pub(crate) measured: String,
    /// Whether that is good enough.
    pub(crate) passed: bool,
    /// Whether it is about time, which a small or busy machine may need more of.
    pub(crate) is_timing: bool,
}
