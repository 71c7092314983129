//! What the log gate leaves behind: for each log, the first checkpoint of the epoch and proof that it extends what
//! each holder held.
//!
//! Invariant: it is made from what the gate was judged by, and kept with the log's standing until the epoch ends, so
//! that every writer process of the region can state it. Deliberately absent: judging it; whoever cites it verifies notes and proofs as everybody else would.

use super::gate::Holding;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_core::log::Hash;
use domicile_core::{base64, hex};
use domicile_topology::record::Beginning;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The evidence of one log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GateEvidence {
    /// Whose log it is.
    pub jurisdiction: Jurisdiction,
    /// The log's origin.
    pub origin: String,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// How the epoch began.
    pub beginning: Beginning,
    /// When the gate was passed, milliseconds since the Unix epoch.
    pub passed_at_unix_ms: u64,
    /// The tree's size when the gate was passed: what the first checkpoint of the epoch covers.
    pub size: u64,
    /// The root at that size, hexadecimal.
    pub root: String,
    /// The first checkpoint of the epoch; absent until it may be signed, and for an empty log.
    pub checkpoint: Option<String>,
    /// The holders that stated a checkpoint.
    pub holders: Vec<HeldBefore>,
    /// The holders that were not heard.
    pub missing: BTreeSet<String>,
    /// The holders that a person has waived.
    pub waived: BTreeSet<NodeId>,
}

/// What one holder held, and the proof that the epoch's first checkpoint extends it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldBefore {
    /// Who.
    pub holder: String,
    /// The size of the checkpoint it stated.
    pub size: u64,
    /// Its root, hexadecimal.
    pub root: String,
    /// The consistency proof from that size to the evidence's, one base64 hash per entry.
    pub consistency: Vec<String>,
}

impl HeldBefore {
    pub(super) fn new(holding: Holding, proof: &[Hash]) -> Self {
        Self {
            holder: holding.holder,
            size: holding.size,
            root: hex::encode(&holding.root),
            consistency: proof.iter().map(|hash| base64::encode(hash)).collect(),
        }
    }
}

impl GateEvidence {
    /// Tells it to the service's own log, so that it outlives the process.
    pub(super) fn tell(&self) {
        let holders = serde_json::to_string(&self.holders).unwrap_or_default();
        tracing::info!(
            jurisdiction = %self.jurisdiction,
            epoch = %self.epoch,
            beginning = ?self.beginning,
            size = self.size,
            root = self.root,
            checkpoint = self.checkpoint,
            holders,
            missing = ?self.missing,
            waived = ?self.waived,
            "log gate evidence"
        );
    }
}
