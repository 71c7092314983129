//! Why a plan was not run, or not to its end.

use crate::world::WorldError;
use thiserror::Error;

/// Why a run ended without an outcome. The journal stands; what can go on goes on with `resume`.
#[derive(Debug, Error)]
pub enum ExecuteError {
    /// Another executor is at work.
    #[error("{owner} runs a plan already")]
    Held {
        /// Who.
        owner: String,
    },
    /// Another plan is under way and must be gone on with first.
    #[error("plan {id} ({verb}) is not finished; resume it first")]
    Unfinished {
        /// Its id.
        id: String,
        /// What it was for.
        verb: &'static str,
    },
    /// The control record changed after the plan was made: plan again.
    #[error(
        "the plan is stale: it was made under revision {planned} of the control record, which now is at {present}"
    )]
    Stale {
        /// The plan's revision.
        planned: i64,
        /// The record's.
        present: i64,
    },
    /// No plan is under way.
    #[error("no plan is under way")]
    NothingToResume,
    /// A plan of that name exists and says something else.
    #[error("plan {id} exists and is not this one")]
    OtherPlan {
        /// The name.
        id: String,
    },
    /// A step failed; resumed, the plan goes on from there.
    #[error("step {step} failed: {reason}")]
    Stopped {
        /// Which; 0 when it was the calling off.
        step: usize,
        /// Why.
        reason: String,
    },
    /// The lock ended; somebody else may go on with the plan.
    #[error("the plan lock is lost; nothing more was changed")]
    LockLost,
    /// A journal that this version does not understand.
    #[error("the journal of plan {id} cannot be read: {cause}")]
    Journal {
        /// Whose.
        id: String,
        /// Why.
        cause: String,
    },
    /// The control plane, which holds the journal.
    #[error(transparent)]
    Control(domicile_control::Error),
}

impl From<domicile_control::Error> for ExecuteError {
    fn from(error: domicile_control::Error) -> Self {
        match error {
            domicile_control::Error::LockHeld { owner } => Self::Held { owner },
            domicile_control::Error::LockLost => Self::LockLost,
            error => Self::Control(error),
        }
    }
}

impl From<WorldError> for ExecuteError {
    fn from(error: WorldError) -> Self {
        match error {
            WorldError::Control(error) => error.into(),
            error => Self::Stopped { step: 0, reason: error.to_string() },
        }
    }
}

/// Why a step failed.
#[derive(Debug, Error)]
pub enum StepError {
    /// What must hold before it does not.
    #[error("its precondition does not hold: {0}")]
    Precondition(String),
    /// It was refused, or failed for good.
    #[error("{0}")]
    Refused(String),
    /// Its postcondition did not come about in time.
    #[error("not within {timeout_ms} ms; last seen: {seen}")]
    TimedOut {
        /// The step's time.
        timeout_ms: u64,
        /// What was seen last.
        seen: String,
    },
    /// The executor may do nothing more.
    #[error("the plan lock is lost")]
    LockLost,
}
