//! What proofs of one log are made of: its rows, and in memory what many proofs share.
//!
//! Invariants: a checkpoint is opened with the pinned key before it is used; what is remembered is bounded, and is
//! verified again in each proof made of it: when one does not hold, everything remembered is forgotten.

use crate::proofs::ProofFailure;
use crate::shared_reads::{Rounds, SharedReads};
use crate::store::{LogId, Store, StoredCheckpoint};
use crate::tiles::Tiles;
use domicile_core::checkpoint::Checkpoint;
use domicile_core::note::VerifierKey;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Opened checkpoints remembered, at most; one is below 1 KiB.
const CHECKPOINTS_REMEMBERED: usize = 4_096;
/// Commit leaves of seed chains remembered, at most: each stands in the bundle of every play of its chain.
const COMMITS_REMEMBERED: usize = 16_384;

/// A checkpoint whose signature opens under the pinned key.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: String,
}

/// The material of one log's proofs.
pub struct Evidence {
    /// The rows.
    pub store: Store,
    /// Which log.
    pub log: LogId,
    /// The pinned key; its name is the origin.
    pub key: VerifierKey,
    /// Reads of rounds.
    pub rounds: SharedReads<Rounds>,
    /// Rows of the tree.
    pub tiles: Tiles,
    checkpoints: Cache<u64, Arc<Opened>>,
    commits: Cache<u64, Arc<str>>,
}

impl Evidence {
    /// Nothing remembered yet.
    pub fn new(store: Store, log: LogId, key: VerifierKey) -> Self {
        Self {
            rounds: SharedReads::start(Rounds { store: store.clone(), log: log.clone() }),
            tiles: Tiles::new(store.clone(), log.clone()),
            checkpoints: Cache::new(CHECKPOINTS_REMEMBERED),
            commits: Cache::new(COMMITS_REMEMBERED),
            store,
            log,
            key,
        }
    }

    /// Opens a stored checkpoint; the same note is opened once.
    pub fn open(&self, stored: StoredCheckpoint) -> Result<Arc<Opened>, ProofFailure> {
        let known = self.checkpoints.get(&stored.size).filter(|known| known.note == stored.note);
        if let Some(known) = known {
            return Ok(known);
        }
        let checkpoint = Checkpoint::open(&stored.note, std::slice::from_ref(&self.key))
            .map_err(|cause| ProofFailure::Contradiction(cause.to_string()))?;
        if checkpoint.size != stored.size {
            return Err(ProofFailure::Contradiction("a checkpoint states another size".to_owned()));
        }
        let opened = Arc::new(Opened { checkpoint, note: stored.note });
        self.checkpoints.insert(stored.size, Arc::clone(&opened));
        Ok(opened)
    }

    /// The text of a chain's commit leaf.
    pub async fn commit(&self, index: u64) -> Result<Arc<str>, ProofFailure> {
        if let Some(known) = self.commits.get(&index) {
            return Ok(known);
        }
        let text: Arc<str> = self.leaf(index).await?.into();
        self.commits.insert(index, Arc::clone(&text));
        Ok(text)
    }

    /// The exact text of leaf `index`.
    pub async fn leaf(&self, index: u64) -> Result<String, ProofFailure> {
        let leaves = self.store.leaves(&self.log, index, index.saturating_add(1)).await?;
        let leaf = leaves.into_iter().next().ok_or(ProofFailure::NotCovered(index))?;
        String::from_utf8(leaf.entry)
            .map_err(|_not_text| ProofFailure::Contradiction(format!("leaf {index} is not text")))
    }

    /// Forgets what rows were remembered: a proof made of them did not hold.
    pub fn forget(&self) {
        self.tiles.forget();
        self.commits.clear();
    }
}
