//! A plan at work, on the terminal: what runs, what it waits for, how long that takes, what comes next.

use super::words;
use crate::term::{self, elapsed};
use domicile_execute::{Outcome, Progress, Report, What};
use domicile_topology::plan::Plan;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;

/// Longest line that is written over itself, characters.
const LIVE_MAX_CHARS: usize = 150;

/// Tells a person; and somebody else besides, such as a drill's timeline.
pub(crate) struct Terminal<'a> {
    live: Mutex<bool>,
    besides: &'a dyn Progress,
}

impl<'a> Terminal<'a> {
    /// On standard error; without a terminal only what has ended is told.
    pub(crate) fn with(besides: &'a dyn Progress) -> Self {
        Self { live: Mutex::new(std::io::stderr().is_terminal()), besides }
    }

    /// A line that stays. The terminal may be gone; the plan goes on.
    fn line(&self, text: &str) {
        let wipe = if self.live.lock().is_ok_and(|live| *live) { "\r\x1b[2K" } else { "" };
        let _told = term::note(format_args!("{wipe}{text}"));
    }

    /// A line that the next one replaces.
    fn live(&self, text: &str) {
        if self.live.lock().is_ok_and(|live| *live) {
            let text: String = text.chars().take(LIVE_MAX_CHARS).collect();
            let mut err = std::io::stderr().lock();
            let _told = write!(err, "\r\x1b[2K{text}").and_then(|()| err.flush());
        }
    }
}

impl Progress for Terminal<'_> {
    fn tell(&self, report: &Report<'_>) {
        self.besides.tell(report);
        let plan = report.plan;
        match report.what {
            What::Began { over: 0 } => self.line(&format!("\nPlan {}", plan.id)),
            What::Began { over } => {
                self.line(&format!(
                    "\nPlan {}: {over} of {} steps are over",
                    plan.id,
                    plan.steps.len()
                ));
            }
            What::StepBegun { number, .. } => {
                self.live(&format!("  … {}{}", title(plan, number), next(plan, number)));
            }
            What::Waiting { number, seen, elapsed: time } => {
                let time = elapsed(time);
                self.live(&format!(
                    "  … {} ({time}, waiting: {seen}){}",
                    title(plan, number),
                    next(plan, number)
                ));
            }
            What::StepDone { number, took, .. } => {
                self.line(&format!("  ✓ {} ({})", title(plan, number), elapsed(took)));
            }
            What::StepFailed { number, reason, took } => {
                self.line(&format!("  ✗ {} ({}): {reason}", title(plan, number), elapsed(took)));
            }
            What::CallingOff { reason } => self.line(&format!("  ↩ calling off: {reason}")),
            What::Ended { outcome } => {
                self.line(&format!("{} ({})", ended(outcome), elapsed(report.at)));
            }
        }
    }
}

/// How a plan ended, in words.
pub(crate) fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed => "done".to_owned(),
        Outcome::CalledOff { reason } => format!("called off, all is as it was: {reason}"),
        Outcome::Overtaken => {
            "somebody else moved the writer meanwhile; nothing more was done".to_owned()
        }
        Outcome::Abandoned { reason } => format!("abandoned where it stood: {reason}"),
        Outcome::Superseded { by } => format!("plan {by} took its place"),
    }
}

fn title(plan: &Plan, number: usize) -> String {
    let step = number.checked_sub(1).and_then(|index| plan.steps.get(index));
    let what = step.map(|step| words::action(&step.action)).unwrap_or_default();
    format!("{number}/{} {what}", plan.steps.len())
}

fn next(plan: &Plan, number: usize) -> String {
    let step = plan.steps.get(number);
    step.map(|step| format!(" · next: {}", words::action(&step.action))).unwrap_or_default()
}
