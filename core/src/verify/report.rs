//! What a verification says, step by step: for the command line, for the web page, for an auditor.
//!
//! Invariants: the ids are stable and always come in the same order; a step after a failed one is `not-checked`,
//! because what it would rest on is not authenticated; the verdict follows from the steps alone.

use serde::Serialize;

/// One question that a verification answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepId {
    /// Is the checkpoint signed by the pinned key of this jurisdiction's log?
    Signature,
    /// Was the commitment in the log before the bet?
    Commitment,
    /// Is the terminal leaf in the log, after the commitment it names?
    Settlement,
    /// Does the revealed seed match the commitment?
    Seed,
    /// Does the seed give the stated outcome?
    Outcome,
    /// Does the bet's private record open to what the log committed to?
    Record,
}

impl StepId {
    /// Every step, in order.
    pub const ALL: [Self; 6] = [
        Self::Signature,
        Self::Commitment,
        Self::Settlement,
        Self::Seed,
        Self::Outcome,
        Self::Record,
    ];

    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Commitment => "commitment",
            Self::Settlement => "settlement",
            Self::Seed => "seed",
            Self::Outcome => "outcome",
            Self::Record => "record",
        }
    }

    /// What the step shows when it passes.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Signature => "The checkpoint is signed by the pinned key",
            Self::Commitment => "The commitment was logged before the bet",
            Self::Settlement => "The round's end is in the log",
            Self::Seed => "The seed matches the commitment",
            Self::Outcome => "The outcome follows from the seed",
            Self::Record => "The bet's record opens",
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Shown.
    Passed,
    /// Refuted, or not shown by this file.
    Failed,
    /// The round has not ended: there is nothing to check yet.
    NotRevealed,
    /// This file has nothing of the kind.
    NotApplicable,
    /// An earlier step failed.
    NotChecked,
}

/// One step's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Which step.
    pub id: StepId,
    /// What it shows when it passes.
    pub title: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found, in one sentence.
    pub detail: String,
}

/// The result as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing failed and the round has ended.
    Verified,
    /// Nothing failed, but the round has not ended.
    NotRevealed,
    /// A step failed.
    Failed,
}

/// The steps of one verification and their verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The result as a whole.
    pub verdict: Verdict,
    /// Every step of [`StepId::ALL`], in that order.
    pub steps: Vec<Step>,
}

impl Report {
    /// The step that failed, if one did.
    pub fn failed_step(&self) -> Option<StepId> {
        self.steps.iter().find(|step| step.status == Status::Failed).map(|step| step.id)
    }
}

/// A step that did not pass, and why.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(String),
    NotRevealed(String),
    NotApplicable(String),
}

/// A failure in words.
pub(super) fn failed<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(why.into()))
}

/// Collects the steps in their order.
#[derive(Default)]
pub(super) struct Steps {
    done: Vec<Step>,
}

impl Steps {
    /// Runs a check that needs what earlier ones authenticated, unless one of those failed.
    pub(super) fn run<T>(
        &mut self,
        id: StepId,
        check: impl FnOnce() -> Result<(T, String), Stop>,
    ) -> Option<T> {
        let failed_before = self.done.iter().any(|step| step.status == Status::Failed);
        let (value, status, detail) = if failed_before {
            (None, Status::NotChecked, "an earlier step failed".to_owned())
        } else {
            match check() {
                Ok((value, detail)) => (Some(value), Status::Passed, detail),
                Err(Stop::Failed(why)) => (None, Status::Failed, why),
                Err(Stop::NotRevealed(why)) => (None, Status::NotRevealed, why),
                Err(Stop::NotApplicable(why)) => (None, Status::NotApplicable, why),
            }
        };
        self.done.push(Step { id, title: id.title(), status, detail });
        value
    }

    pub(super) fn report(self) -> Report {
        let any = |status| self.done.iter().any(|step| step.status == status);
        let verdict = if any(Status::Failed) {
            Verdict::Failed
        } else if any(Status::NotRevealed) {
            Verdict::NotRevealed
        } else {
            Verdict::Verified
        };
        Report { verdict, steps: self.done }
    }
}
