//! What a run tells while it goes: for the terminal, for logs, for a drill's timeline.

use crate::entry::{Learnt, Outcome};
use domicile_topology::plan::{Plan, Step};
use std::time::Duration;

/// Somebody who is told. Called in line: it must return at once.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn tell(&self, report: &Report<'_>);
}

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Time since this run began, monotonic.
    pub at: Duration,
    /// What.
    pub what: What<'a>,
}

/// What happened. Steps count from 1.
#[derive(Debug, Clone, Copy)]
pub enum What<'a> {
    /// The run begins, for the first time or again.
    Began {
        /// Steps that are over already.
        over: usize,
    },
    /// A step begins.
    StepBegun {
        /// Which.
        number: usize,
        /// It.
        step: &'a Step,
    },
    /// A step waits.
    Waiting {
        /// Which.
        number: usize,
        /// For what, as last seen.
        seen: &'a str,
        /// Since when.
        elapsed: Duration,
    },
    /// A step is done.
    StepDone {
        /// Which.
        number: usize,
        /// What it learnt.
        learnt: &'a Learnt,
        /// How long it took.
        took: Duration,
    },
    /// A step failed.
    StepFailed {
        /// Which.
        number: usize,
        /// Why.
        reason: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// The move is being called off.
    CallingOff {
        /// Why.
        reason: &'a str,
    },
    /// The plan is over.
    Ended {
        /// How.
        outcome: &'a Outcome,
    },
}

/// Tells nobody.
impl Progress for () {
    fn tell(&self, _: &Report<'_>) {}
}
