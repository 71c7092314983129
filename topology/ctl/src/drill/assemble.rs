//! From what a drill has done to the report of it, and to what a person has to do next. Pure, but for the time of day.

use super::recorder::Timeline;
use super::report::{FORMAT, Finding, Load, Move, Preflight, Report};
use super::{calendar, measure, phases};
use crate::cli::{DrillArgs, DrillMode};
use crate::moves::Mover;
use anyhow::{Context, Result};
use domicile_core::hex;
use domicile_service::clock::{Clock, SystemClock};
use domicile_topology::plan::Facts;
use sha2::{Digest, Sha256};

/// A drill so far.
pub(super) struct Drill {
    /// When it began, UTC.
    pub(super) began_at: String,
    /// What was looked at before.
    pub(super) preflight: Preflight,
    /// The moves so far.
    pub(super) moves: Vec<Move>,
    /// Why it did not come to its end.
    pub(super) broke_off: Option<String>,
    /// The loads so far.
    pub(super) loads: Vec<Load>,
}

impl Drill {
    /// The whole report.
    pub(super) fn report(
        self,
        mover: &Mover,
        facts: &Facts,
        args: &DrillArgs,
        timeline: Timeline,
    ) -> Result<Report> {
        let topology = mover.topology().to_toml().context("the topology cannot be written")?;
        let objectives = measure::OBJECTIVES;
        let findings = match args.mode {
            DrillMode::DryRun => dry_findings(&self.preflight, &self.moves),
            DrillMode::Live => {
                let broke_off = self.broke_off.as_deref();
                measure::findings(&objectives, &self.moves, &self.loads, broke_off)
            }
        };
        let stamp: String = self.began_at.chars().filter(char::is_ascii_digit).take(14).collect();
        Ok(Report {
            format: FORMAT.to_owned(),
            id: format!("{}-{}-{stamp}", args.kind.name(), args.mode.name()),
            drill: args.kind.name().to_owned(),
            mode: args.mode.name().to_owned(),
            cluster: facts.topology.cluster.clone(),
            topology_generation: facts.topology.generation,
            topology_sha256: hex::encode(&Sha256::digest(topology.as_bytes())),
            conducted_by: mover.conductor().to_owned(),
            program: format!("domicile {}", env!("CARGO_PKG_VERSION")),
            began_at: self.began_at,
            ended_at: calendar::utc(SystemClock.now_unix_ms()),
            etcd_leader: args.etcd_leader.name().to_owned(),
            objectives,
            phases: phases::figures(self.moves.iter().map(|moved| moved.phases.as_slice())),
            passed: findings.iter().all(|finding| finding.passed),
            follow_up: follow_up(&self.preflight, &findings, &self.moves),
            findings,
            preflight: self.preflight,
            timeline: timeline.into_events(),
            moves: self.moves,
            loads: self.loads,
        })
    }
}

fn dry_findings(preflight: &Preflight, moves: &[Move]) -> Vec<Finding> {
    let planned = moves.iter().all(|moved| moved.done);
    let finding = |objective: &str, wanted: &str, measured: String, passed| Finding {
        objective: objective.to_owned(),
        wanted: wanted.to_owned(),
        measured,
        passed,
        is_timing: false,
    };
    let outcomes: Vec<&str> = moves.iter().map(|moved| moved.outcome.as_str()).collect();
    vec![
        finding("the first move can be planned", "yes", outcomes.join("; "), planned),
        finding(
            "fit for a live drill",
            "every needed check",
            format!("{} of 100", preflight.score),
            preflight.ready,
        ),
    ]
}

/// What a person has to do, from everything that is not as it should be.
fn follow_up(preflight: &Preflight, findings: &[Finding], moves: &[Move]) -> Vec<String> {
    let mut follow_up: Vec<String> = findings
        .iter()
        .filter(|finding| !finding.passed)
        .map(|finding| {
            format!(
                "{}: wanted {}, measured {}",
                finding.objective, finding.wanted, finding.measured
            )
        })
        .collect();
    let unfit = preflight.checks.iter().filter(|check| !check.passed);
    follow_up
        .extend(unfit.map(|check| format!("preflight: not so: {} ({})", check.what, check.seen)));
    for moved in moves {
        let of = format!("cycle {}, {}", moved.cycle, moved.verb);
        for step in moved.steps.iter().filter(|step| step.outcome != "done") {
            follow_up.push(format!("{of}: step {} {}: {}", step.number, step.outcome, step.what));
        }
        for log in &moved.logs {
            if let Some(fault) = &log.fault {
                follow_up
                    .push(format!("{of}: log {} at {}: {fault}", log.jurisdiction, log.reader));
            }
        }
        for reader in moved.plan.iter().flat_map(|plan| &plan.expected.reseeded_readers) {
            follow_up.push(format!(
                "{of}: {reader} had to be copied anew: see why its slot was not ready"
            ));
        }
    }
    let last = moves.iter().rev().find_map(|moved| moved.after.as_ref());
    if last.is_some_and(|record| !record.promotable) {
        follow_up.push("no standby is promotable: `domicile restore-durability`".to_owned());
    }
    follow_up
}
