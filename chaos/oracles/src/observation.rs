//! What exists after a run, as looked up on every node by somebody who needs no service for it.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Something that an operation brought about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Its name, such as `bet/0198…`.
    pub effect: String,
    /// SHA-256 over the same fields that the client hashed.
    pub digest: String,
    /// What it shows of the key that asked for it.
    pub tag: Option<String>,
    /// Whose it is.
    pub jurisdiction: String,
}

/// One log on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldLog {
    /// Index and leaf hash (hex), in the order of the index.
    pub leaves: Vec<(u64, String)>,
    /// Leaves whose hash is not the hash of their bytes.
    pub leaves_altered: u64,
    /// Every checkpoint's note.
    pub checkpoints: Vec<String>,
}

/// What a node is allowed to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// All jurisdictions.
    Ledger,
    /// These only.
    Reader(BTreeSet<String>),
}

impl Holder {
    /// Whether a row of this jurisdiction belongs here.
    pub fn may_hold(&self, jurisdiction: &str) -> bool {
        match self {
            Self::Ledger => true,
            Self::Reader(own) => own.contains(jurisdiction),
        }
    }
}

/// One node, after the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The node.
    pub node: String,
    /// What it may hold.
    pub holder: Holder,
    /// The effects of the run's operations found here; one that is there twice is listed twice.
    pub effects: Vec<Effect>,
    /// Every jurisdiction found in any row of any table.
    pub jurisdictions: BTreeSet<String>,
    /// The logs, by `jurisdiction/log epoch`.
    pub logs: BTreeMap<String, HeldLog>,
    /// The epochs opened, with their writer's node; empty on readers.
    pub epochs: Vec<(u64, String)>,
    /// What the database server wrote during the run.
    pub server_log: Vec<String>,
}

/// Every node of the final epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observations {
    /// One per node.
    pub nodes: Vec<Observation>,
    /// Nodes that could not be looked at, and why. Nothing about them is judged as kept.
    pub unseen: BTreeMap<String, String>,
}
