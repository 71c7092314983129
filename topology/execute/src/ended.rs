//! A plan that is over, as the operations log is told of it: who conducted it, how it ended, and the digest of its journal.
//!
//! Invariant: all of it follows from the journal in the control plane, so that whoever tells of a plan says the same.

use crate::audit::alone;
use crate::entry::{Entry, Happened, Outcome};
use domicile_control::StoredPlan;
use serde::Serialize;

/// Most characters of a text.
const TEXT_MAX_CHARS: usize = 100;

/// A plan that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// What it is, to the operations log.
    pub kind: &'static str,
    /// The plan's id.
    pub id: String,
    /// What was asked for.
    pub verb: String,
    /// How it ended.
    pub outcome: String,
    /// Who ended it, as the journal names them.
    pub actor: String,
    /// The last hash of an audit file that holds this plan alone.
    pub sha256: String,
    /// Why it ended so, else why a person asked for it.
    pub reason: String,
}

impl Ended {
    /// Reads a kept plan; `None` while it is under way.
    pub fn read(stored: &StoredPlan) -> Result<Option<Self>, serde_json::Error> {
        let entries: Result<Vec<Entry>, _> =
            stored.journal.iter().map(|entry| serde_json::from_slice(&entry.value)).collect();
        let entries = entries?;
        let Some(Entry { by, happened: Happened::Ended { outcome }, .. }) = entries.last() else {
            return Ok(None);
        };
        let (verb, word) = (stored.plan.intent.verb(), outcome.word());
        let reason = outcome.reason().or(stored.plan.intent.reason());
        let reason = reason.map_or_else(|| format!("{verb} {word}"), ToOwned::to_owned);
        let short = |text: &str| text.chars().take(TEXT_MAX_CHARS).collect::<String>();
        Ok(Some(Self {
            kind: "plan",
            id: stored.plan.id.clone(),
            verb: verb.to_owned(),
            outcome: word.to_owned(),
            actor: short(by),
            sha256: alone(&stored.plan, &entries)?,
            reason: short(&reason),
        }))
    }
}

impl Outcome {
    /// Its name.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::CalledOff { .. } => "called-off",
            Self::Overtaken => "overtaken",
            Self::Abandoned { .. } => "abandoned",
            Self::Superseded { .. } => "superseded",
        }
    }

    /// Why, where it says so; the plan that took its place is a reason.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::CalledOff { reason } | Self::Abandoned { reason } => Some(reason),
            Self::Superseded { by } => Some(by),
            Self::Completed | Self::Overtaken => None,
        }
    }
}
