//! Why an operation did not reach its postcondition.
//!
//! Invariant: the texts name nodes, steps and files, never secrets or row values. They go to operators' tools over
//! mutual TLS, and say what stands in the way.

use domicile_core::error::Code;
use thiserror::Error;

use crate::decide::{Refusal, SyncRefusal};
use crate::transfer::TransferRefusal;

/// An operation's failure. Each operation may be repeated.
#[derive(Debug, Error)]
pub enum Error {
    /// Another operation runs.
    #[error("another operation is running")]
    Busy,
    /// The control record does not permit it.
    #[error("postgres is not started: {0}")]
    NotStarted(#[from] Refusal),
    /// What commits wait for is not changed.
    #[error("the synchronous standby is not changed: {0}")]
    Sync(#[from] SyncRefusal),
    /// The record does not permit to move the writer so.
    #[error(transparent)]
    Transfer(#[from] TransferRefusal),
    /// The node's state does not permit it.
    #[error("{0}")]
    State(String),
    /// The control plane is needed and away.
    #[error("the control plane is away: {0}")]
    ControlAway(&'static str),
    /// The record names another node or epoch.
    #[error("{0}")]
    NotNamed(String),
    /// A step did not get there in time.
    #[error("{step} did not finish within {timeout_ms} ms")]
    Timeout {
        /// The step.
        step: &'static str,
        /// Its limit.
        timeout_ms: u64,
    },
    /// Writers hold database sessions still.
    #[error("the writer has not finished within {timeout_ms} ms; database sessions: {who}")]
    NotFinished {
        /// The limit.
        timeout_ms: u64,
        /// Whose, how many, and what they do.
        who: String,
    },
    /// A tool or statement failed.
    #[error("{step}: {detail}")]
    Step {
        /// The step.
        step: &'static str,
        /// What the tool or Postgres said.
        detail: String,
    },
    /// A commit's outcome is unknown.
    #[error("{0}: the commit's outcome is unknown; repeat the request")]
    Unknown(&'static str),
}

impl Error {
    /// A step's failure with the reason at hand.
    pub fn step(step: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Step { step, detail: detail.to_string() }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Busy => Code::NodeBusy,
            Self::NotStarted(Refusal::NotNamed | Refusal::RecordLost)
            | Self::Sync(SyncRefusal::NotNamed)
            | Self::Transfer(
                TransferRefusal::NotNamed { .. }
                | TransferRefusal::NoRecord
                | TransferRefusal::WritesOpen,
            )
            | Self::NotNamed(_) => Code::WriterNotNamed,
            Self::NotStarted(Refusal::NotLastPrimary | Refusal::Unfenced)
            | Self::Sync(SyncRefusal::Away)
            | Self::Transfer(TransferRefusal::Away)
            | Self::ControlAway(_) => Code::ControlUnavailable,
            Self::NotStarted(Refusal::NoData | Refusal::Demoted | Refusal::Returning)
            | Self::Sync(_)
            | Self::State(_) => Code::NodeState,
            Self::Timeout { .. } | Self::NotFinished { .. } => Code::StepTimeout,
            Self::Step { .. } => Code::StepFailed,
            Self::Unknown(_) => Code::OutcomeUnknown,
        }
    }
}
