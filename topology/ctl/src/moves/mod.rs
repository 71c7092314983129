//! Moving the writer from the command line: observe, plan, show, ask, run, tell.
//!
//! The plan is made by the pure planner and run by the executor, the same as in an agent; here are only words, questions
//! and exit codes. Deliberately absent: any step or decision of its own.

pub(crate) mod cli;
pub(crate) mod confirm;
mod mover;
pub(crate) mod page;
pub(crate) mod progress;
pub(crate) mod words;

pub(crate) use mover::{Mover, running};

use crate::layout::Layout;
use crate::operations::submit::{self, Record};
use crate::person;
use crate::term;
use anyhow::Result;
use cli::{Abandon, Conduct, Print, Resume, Verb};
use domicile_core::operation::Grade;
use domicile_execute::{ExecuteError, Finished, Outcome};
use domicile_topology::plan::{Plan, Refusal};
use progress::Terminal;
use serde_json::{Value, json};

/// Every step is done.
const DONE: u8 = 0;
/// A step failed; the plan can be resumed.
const FAILED: u8 = 1;
/// There is no plan: something is missing.
const REFUSED: u8 = 2;
/// The move was called off, by the person or by the executor.
const CALLED_OFF: u8 = 3;

/// A verb that acts.
pub(crate) async fn run(layout: &Layout, verb: Verb<Conduct>) -> Result<u8> {
    let (intent, conduct) = verb.into_parts();
    let mover = Mover::open(layout)?;
    let plan = match mover.plan(&intent).await? {
        Ok(plan) => plan,
        Err(refusal) => return refused(&refusal, conduct.json),
    };
    if conduct.dry_run || !conduct.json {
        show(&plan, conduct.json)?;
    }
    if conduct.dry_run {
        return Ok(DONE);
    }
    person::require(layout, Grade::DrLead)?;
    if !conduct.yes && !confirm::confirmed(&plan, mover.topology().cluster.as_str())? {
        term::note("called off; nothing was changed")?;
        return Ok(CALLED_OFF);
    }
    let ended = mover.run(&plan, &Terminal::with(&())).await;
    enter(layout, intent.verb(), intent.reason(), &ended).await;
    told(Some(&plan), ended, conduct.json)
}

/// `domicile plan …`: prints only.
pub(crate) async fn print(layout: &Layout, verb: Verb<Print>) -> Result<u8> {
    let (intent, print) = verb.into_parts();
    match Mover::open(layout)?.plan(&intent).await? {
        Ok(plan) => show(&plan, print.json).map(|()| DONE),
        Err(refusal) => refused(&refusal, print.json),
    }
}

/// `domicile resume`.
pub(crate) async fn resume(layout: &Layout, args: &Resume) -> Result<u8> {
    let mover = Mover::open(layout)?;
    person::require(layout, Grade::DrLead)?;
    let ended = mover.resume(&Terminal::with(&())).await;
    let id = ended.as_ref().map_or("", |finished| &finished.id);
    let resumed = mover.find(id).await.unwrap_or_default();
    let asked = resumed.as_ref().and_then(|stored| stored.plan.intent.reason());
    enter(layout, "resume", asked, &ended).await;
    told(None, ended, args.json)
}

/// `domicile abandon`.
pub(crate) async fn abandon(layout: &Layout, args: &Abandon) -> Result<u8> {
    let mover = Mover::open(layout)?;
    person::require(layout, Grade::DrLead)?;
    let what = format!("plan {} ends where it stands, and cannot be resumed", args.plan);
    if !args.yes && !confirm::typed(&what, mover.topology().cluster.as_str())? {
        return Ok(CALLED_OFF);
    }
    mover.abandon(&args.plan, &args.reason).await?;
    let outcome = Outcome::Abandoned { reason: args.reason.clone() };
    if let Ok(audit) = mover.audit() {
        let record = Record::plan(&args.plan, "abandon", (&outcome, None), &audit.head);
        submit::record(layout, &record).await;
    }
    term::say(format_args!("abandoned {}; see `domicile status`, then plan anew", args.plan))?;
    Ok(DONE)
}

/// Enters a plan that has ended into the operations log.
async fn enter(
    layout: &Layout,
    verb: &str,
    asked: Option<&str>,
    ended: &Result<Finished, ExecuteError>,
) {
    let Ok(finished) = ended else { return };
    let Some(audit) = &finished.audit else { return };
    let record = Record::plan(&finished.id, verb, (&finished.outcome, asked), &audit.head);
    submit::record(layout, &record).await;
}

fn show(plan: &Plan, as_json: bool) -> Result<()> {
    if as_json { term::json(plan) } else { term::say(page::plan(plan)) }
}

fn refused(refusal: &Refusal, as_json: bool) -> Result<u8> {
    if as_json {
        term::json(&json!({ "refused": refusal }))?;
    } else {
        term::note(page::refusal(refusal))?;
    }
    Ok(REFUSED)
}

/// The end of a run, in words and as an exit code.
fn told(plan: Option<&Plan>, ended: Result<Finished, ExecuteError>, as_json: bool) -> Result<u8> {
    let (code, outcome) = match &ended {
        Ok(finished) => (code(&finished.outcome), serde_json::to_value(&finished.outcome)?),
        Err(error) => (FAILED, json!({ "outcome": "stopped", "reason": error.to_string() })),
    };
    if as_json {
        let audit =
            ended.as_ref().ok().and_then(|f| f.audit.as_ref()).map(|audit| audit.head.clone());
        let failures = ended.as_ref().map_or(Value::Null, |finished| json!(finished.failures()));
        term::json(
            &json!({ "plan": plan, "ended": outcome, "failures": failures, "audit": audit }),
        )?;
        return Ok(code);
    }
    match ended {
        Ok(finished) => {
            for (step, reason) in finished.failures() {
                term::note(format_args!("· step {step} did not succeed: {reason}"))?;
            }
            if let Some(fault) = finished.audit_fault {
                term::note(format_args!("· the audit file lacks entries: {fault}"))?;
            }
        }
        Err(error) => {
            term::note(format_args!("\ndomicile: {error}"))?;
            term::note(advice(&error))?;
        }
    }
    Ok(code)
}

const fn code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Completed => DONE,
        Outcome::CalledOff { .. } => CALLED_OFF,
        _ => FAILED,
    }
}

/// What to do about a run that did not come to an end.
const fn advice(error: &ExecuteError) -> &'static str {
    match error {
        ExecuteError::Stopped { .. } | ExecuteError::LockLost | ExecuteError::Unfinished { .. } => {
            "`domicile status` shows where it stands; `domicile resume` goes on, `domicile abandon PLAN` ends it there"
        }
        ExecuteError::Stale { .. } => "the cluster has changed since: give the command again",
        ExecuteError::Held { .. } => "wait for it, or end it there",
        _ => "nothing more was changed",
    }
}

#[cfg(test)]
pub(crate) fn example() -> Plan {
    serde_json::from_str(include_str!("example.json")).expect("a plan")
}
