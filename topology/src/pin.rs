//! What is held of the operations log outside the ledger.

use domicile_core::epoch::Epoch;
use serde::{Deserialize, Serialize};

/// What the ledger held in an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The epoch that was open.
    pub epoch: Epoch,
    /// The newest checkpoint, a signed note.
    pub checkpoint: Option<String>,
    /// Entries that it does not cover, oldest first: while writes have one copy, the ones that could be lost.
    pub uncovered: Vec<Uncovered>,
    /// How many more of those there are than are named here.
    pub unnamed: u64,
}

/// An entry by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncovered {
    /// The entry's id.
    pub id: String,
    /// What was done, and to what.
    pub what: String,
}
