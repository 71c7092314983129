//! `domicile drill`: the moves of the writer, rehearsed with evidence.
//!
//! Preflight, then each cycle under a light load of the drill's own, then a report: a page for an auditor, a document for
//! programs, a signature over both. A dry run looks, plans and reports, and changes nothing. The sandbox mode, on an
//! isolated clone, will be a third mode.

mod assemble;
mod calendar;
mod conduct;
mod evidence;
mod html;
mod leader;
mod measure;
mod phases;
mod preflight;
mod probe;
mod recorder;
mod report;
mod seal;

use crate::agents::Agents;
use crate::cli::{DrillArgs, DrillKind, DrillMode, EtcdLeader};
use crate::credentials::{NewCredential, NewOperator, Writer};
use crate::keys::KeyFolder;
use crate::layout::Layout;
use crate::moves::{Mover, page, words};
use crate::operations::submit::{self, Record};
use crate::operator::Operator;
use crate::outside::Outside;
use crate::term::{self, Steps};
use crate::{files, person, status};
use anyhow::{Context, Result, bail};
use assemble::Drill;
pub(crate) use calendar::utc;
use conduct::{Act, Conductor};
use domicile_core::games;
use domicile_core::ids::{OperatorId, RegionId};
use domicile_core::note::VerifierKey;
use domicile_core::operation::Grade;
use domicile_service::clock::{Clock, SystemClock};
use domicile_topology::plan::{Facts, Intent, Plan, Refusal};
use leader::Members;
use recorder::Timeline;
use report::{Move, PhaseFigure, Preflight, Report};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every objective was met.
const PASSED: u8 = 0;
/// One was not.
const NOT_PASSED: u8 = 1;
/// The cluster is not fit for a live drill.
const REFUSED: u8 = 2;
/// The person did not agree.
const CALLED_OFF: u8 = 3;

/// The operator whose players play during a drill.
pub(crate) const OPERATOR: &str = "drill";
/// Why it is there, for the operations log.
const REASON: &str = "the drill's own";

/// The command.
pub(crate) async fn run(layout: &Layout, args: &DrillArgs) -> Result<u8> {
    if args.mode == DrillMode::Live {
        person::require(layout, Grade::DrLead)?;
    }
    let report = match carry_out(layout, args).await? {
        Ok(report) => report,
        Err(code) => return Ok(code),
    };
    hand_over(layout, &report, args)?;
    enter(layout, &report, args).await;
    Ok(if report.passed { PASSED } else { NOT_PASSED })
}

/// The whole drill, up to its report; or the exit code when there is none.
async fn carry_out(layout: &Layout, args: &DrillArgs) -> Result<Result<Report, u8>> {
    let mover = Mover::open(layout)?;
    let timeline = Timeline::begin();
    let began_at = calendar::utc(SystemClock.now_unix_ms());
    let facts = mover.facts().await?;
    let acts = acts(&facts, args)?;
    let planned = Mover::plan_by(&facts, &first_intent(&acts, &facts))?;
    let preflight = look(layout, &mover, &facts, &planned).await?;
    show(&preflight, &planned)?;
    timeline.note(format!("preflight: readiness {} of 100", preflight.score));
    let mut drill =
        Drill { began_at, preflight, moves: Vec::new(), loads: Vec::new(), broke_off: None };
    match args.mode {
        DrillMode::DryRun => drill.moves.push(rehearsed(&facts, &acts, planned)),
        DrillMode::Live if !drill.preflight.ready => {
            term::note("\nnot fit for a live drill; nothing was changed")?;
            return Ok(Err(REFUSED));
        }
        DrillMode::Live => {
            if !(args.yes || agreed(&facts, args)?) {
                return Ok(Err(CALLED_OFF));
            }
            // What was seen until then is handed over too.
            if let Err(error) = live(layout, &mover, &timeline, args, &mut drill).await {
                timeline.note(format!("broke off: {error:#}"));
                drill.broke_off = Some(format!("{error:#}"));
            }
        }
    }
    Ok(Ok(drill.report(&mover, &facts, args, timeline)?))
}

/// The demo's drill: a region is lost and comes back. What is not about time must hold on any machine.
pub(crate) async fn demonstrate(layout: &Layout, report: PathBuf) -> Result<()> {
    let args = DrillArgs::round_trip(report);
    let Ok(report) = carry_out(layout, &args).await? else {
        bail!("the topology is not fit for a drill");
    };
    hand_over(layout, &report, &args)?;
    enter(layout, &report, &args).await;
    let evidence = report.findings.iter().filter(|finding| !finding.is_timing && !finding.passed);
    let broken: Vec<&str> = evidence.map(|finding| finding.objective.as_str()).collect();
    if !broken.is_empty() {
        bail!("the drill did not show: {}", broken.join(", "));
    }
    if !report.passed {
        term::note(
            "slower than the objectives on this machine; everything that is not about time holds",
        )?;
    }
    Ok(())
}

/// What one cycle consists of, from where the writer is now.
fn acts(facts: &Facts, args: &DrillArgs) -> Result<Vec<Act>> {
    let kills = matches!(args.kind, DrillKind::Failover | DrillKind::RoundTrip);
    if args.etcd_leader != EtcdLeader::AsIs && !kills {
        bail!("--etcd-leader is for drills that break a region: failover and round-trip");
    }
    let preferred = &facts.topology.failover.preferred_region;
    let here = &facts.record.writer_region;
    if args.etcd_leader != EtcdLeader::AsIs && !leader::can_lose(&facts.topology, here) {
        bail!("without its member in {here} the control plane has no majority");
    }
    let to = match &args.to {
        Some(to) => to.clone(),
        None => {
            other_region(facts, here).context("no other region has a ledger node and a writer")?
        }
    };
    Ok(match args.kind {
        DrillKind::Switchover => vec![Act::Switchover(to)],
        DrillKind::Failover => vec![Act::Failover(to), Act::Restore],
        DrillKind::Failback if here == preferred => {
            bail!(
                "the writer is in the preferred region {preferred}; `drill round-trip` goes there and back"
            )
        }
        DrillKind::Failback => vec![Act::Failback],
        DrillKind::RoundTrip => vec![Act::Failover(to), Act::Restore, Act::Failback],
    })
}

fn other_region(facts: &Facts, here: &RegionId) -> Option<RegionId> {
    let topology = &facts.topology;
    let regions: BTreeSet<&RegionId> = topology.ledgers.iter().map(|node| &node.region).collect();
    let fit = |region: &&&RegionId| **region != here && !topology.writers_in(region).is_empty();
    regions.iter().find(fit).map(|region| (*region).clone())
}

fn first_intent(acts: &[Act], facts: &Facts) -> Intent {
    match acts.first() {
        // Before the fault the planner is asked whether the same region could take over in order.
        Some(Act::Switchover(to) | Act::Failover(to)) => Intent::Switchover { to: to.clone() },
        _ => Intent::Switchover { to: facts.topology.failover.preferred_region.clone() },
    }
}

async fn look(
    layout: &Layout,
    mover: &Mover,
    facts: &Facts,
    planned: &Result<Plan, Refusal>,
) -> Result<Preflight> {
    let agents = Agents::new(layout)?;
    let cluster = crate::up::Cluster::connect(mover.topology(), layout)?;
    let seen = status::observe(mover.topology(), &agents, &cluster).await;
    let running = mover.running().await?;
    Ok(preflight::preflight(&seen, facts, running.as_deref(), planned))
}

fn show(preflight: &Preflight, planned: &Result<Plan, Refusal>) -> Result<()> {
    Steps::heading(format_args!("Preflight: readiness {} of 100", preflight.score))?;
    for check in &preflight.checks {
        let seen = if check.seen.is_empty() { String::new() } else { format!(": {}", check.seen) };
        let mark = if check.passed { "✓" } else { "✗" };
        term::note(format_args!("  {mark} {}{seen}", check.what))?;
    }
    match planned {
        Ok(plan) => term::note(format_args!("\n{}", page::plan(plan))),
        Err(refusal) => term::note(format_args!("\n{}", page::refusal(refusal))),
    }
}

/// The move of a dry run: its plan, nothing done.
fn rehearsed(facts: &Facts, acts: &[Act], planned: Result<Plan, Refusal>) -> Move {
    let (plan, outcome) = match planned {
        Ok(plan) => (Some(plan), "planned only".to_owned()),
        Err(refusal) => (None, format!("refused: {refusal}")),
    };
    let verb = words::intent(&first_intent(acts, facts));
    let begun = Move::begun(1, &verb, 0, facts.record.clone());
    Move { done: plan.is_some(), plan, outcome, ..begun }
}

fn agreed(facts: &Facts, args: &DrillArgs) -> Result<bool> {
    let cluster = facts.topology.cluster.as_str();
    let what = format!(
        "a live {} drill of {} cycles moves the writer of `{cluster}`",
        args.kind.name(),
        args.cycles
    );
    crate::moves::confirm::typed(&what, cluster)
}

async fn live(
    layout: &Layout,
    mover: &Mover,
    timeline: &Timeline,
    args: &DrillArgs,
    drill: &mut Drill,
) -> Result<()> {
    let agents = Agents::new(layout)?;
    let outside = Outside::new(layout)?;
    let operator = register(layout, mover, &outside).await?;
    let members = Members::connect(mover.topology(), layout)?;
    let etcd_leader = args.etcd_leader;
    let conductor = Conductor {
        layout,
        mover,
        agents: &agents,
        members,
        etcd_leader,
        outside,
        operator,
        timeline,
    };
    for cycle in 1..=args.cycles {
        Steps::heading(format_args!("Cycle {cycle} of {}", args.cycles))?;
        // Each cycle starts from where the one before has left the writer; `--to` says where the first one goes.
        let from_here = DrillArgs { to: args.to.clone().filter(|_| cycle == 1), ..args.clone() };
        let acts = acts(&mover.facts().await?, &from_here)?;
        let (done, load) = conductor.cycle(cycle, &acts).await?;
        let ended_well = done.iter().all(|moved| moved.done) && load.lost.is_empty();
        drill.moves.extend(done);
        drill.loads.push(load);
        if !ended_well {
            timeline.note("a cycle did not end well; the rest is not begun");
            break;
        }
    }
    Ok(())
}

/// The drill's operator: registered once, with a credential of its own each time.
async fn register(
    layout: &Layout,
    mover: &Mover,
    outside: &Outside,
) -> Result<(OperatorId, Operator)> {
    let topology = mover.topology();
    let new = NewOperator {
        id: OPERATOR.to_owned(),
        name: "Drills".to_owned(),
        jurisdictions: topology
            .jurisdictions
            .iter()
            .map(|policy| policy.code.to_string())
            .collect(),
        games: games::ALL.iter().map(|game| game.code().to_owned()).collect(),
        allowed_origins: Vec::new(),
        launch_base_url: "https://drill.invalid/launch".to_owned(),
        reason: REASON.to_owned(),
    };
    let writer = Writer::current(layout).await?;
    let created: Result<NewCredential> = writer.post("/internal/v1/operators", &new).await;
    let credential = if let Ok(credential) = created {
        credential
    } else {
        let path = format!("/internal/v1/operators/{OPERATOR}/credentials");
        let why = json!({ "reason": REASON });
        writer.post(&path, &why).await.context("the drill's operator has no credential")?
    };
    let router =
        topology.routers.iter().find(|router| router.region == topology.failover.preferred_region);
    let router = router.or(topology.routers.first()).context("the topology has no router")?;
    let operator = Operator::new(outside.clone(), router.endpoint.to_string(), &credential)?;
    Ok((OPERATOR.parse()?, operator))
}

/// Enters a live drill into the operations log, by the digest of its report.
async fn enter(layout: &Layout, report: &Report, args: &DrillArgs) {
    if args.mode != DrillMode::Live {
        return;
    }
    let Ok(json) = serde_json::to_vec_pretty(report) else { return };
    let sha256 = seal::digest(&json);
    let record = Record::drill(&report.id, args.kind.name(), report.passed, &sha256);
    submit::record(layout, &record).await;
}

fn hand_over(layout: &Layout, report: &Report, args: &DrillArgs) -> Result<()> {
    let keys = KeyFolder::open(&layout.operator().join("keys"))?;
    let key = keys.drills(&report.cluster)?;
    let folder =
        args.report.clone().unwrap_or_else(|| layout.root().join("drills").join(&report.id));
    seal::write(&folder, report, &html::page(report), &key)?;
    files::write(
        &keys.drills_public(),
        format!("{}\n", key.verifier()).as_bytes(),
        files::MODE_PUBLIC,
    )?;
    if args.json { term::json(report) } else { summary(report, &folder, key.verifier()) }
}

fn summary(report: &Report, folder: &Path, key: &VerifierKey) -> Result<()> {
    let rows: Vec<Vec<String>> = report
        .findings
        .iter()
        .map(|finding| {
            let mark = if finding.passed { "✓" } else { "✗" };
            vec![
                finding.objective.clone(),
                finding.wanted.clone(),
                finding.measured.clone(),
                mark.to_owned(),
            ]
        })
        .collect();
    term::say(format_args!("\n{}", term::table(&["objective", "wanted", "measured", ""], &rows)))?;
    phases(report)?;
    for item in &report.follow_up {
        term::say(format_args!("· {item}"))?;
    }
    term::say(format_args!("\n{}", if report.passed { "passed" } else { "NOT passed" }))?;
    term::say(format_args!("report  {}", folder.join(seal::HTML).display()))?;
    term::say(format_args!("check   domicile verify --report {} --key {key}", folder.display()))
}

fn phases(report: &Report) -> Result<()> {
    if report.phases.is_empty() {
        return Ok(());
    }
    let row = |figure: &PhaseFigure| {
        let PhaseFigure { name, took_median_ms, took_worst_ms, .. } = figure;
        let PhaseFigure { count, ended_median_ms, ended_worst_ms, .. } = figure;
        let figures = [*took_median_ms, *took_worst_ms, *ended_median_ms, *ended_worst_ms];
        let figures = figures.iter().map(ToString::to_string);
        [name.clone(), count.to_string()].into_iter().chain(figures).collect()
    };
    let rows: Vec<Vec<String>> = report.phases.iter().map(row).collect();
    let headers = ["phase", "failovers", "took, median ms", "worst", "after the kill, ms", "worst"];
    term::say(format_args!("\n{}", term::table(&headers, &rows)))
}

/// `domicile verify --report`: what the signature covers, or an error.
pub(crate) fn verify(folder: &Path, keys: &[VerifierKey]) -> Result<String> {
    let report = seal::verify(folder, keys)?;
    let verdict = if report.passed { "passed" } else { "not passed" };
    Ok(format!(
        "{}: {} of {} by {}, {} to {}: {verdict}",
        report.id,
        report.drill,
        report.cluster,
        report.conducted_by,
        report.began_at,
        report.ended_at
    ))
}

#[cfg(test)]
pub(crate) fn example() -> Report {
    serde_json::from_str(include_str!("example.json")).unwrap()
}
