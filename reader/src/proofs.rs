//! Bundles, openings and consistency proofs, made from this replica alone and verified before they leave.
//!
//! Invariant: a bundle is pinned to the smallest checkpoint that covers its last leaf, and carries nothing
//! that could differ the next time it is made: the same round gives the same bytes for ever.

use crate::auditor::VerifiedHead;
use crate::store::{LogId, Store, StoredBet, StoredCheckpoint};
use domicile_core::bundle::{
    BetInclusion, Bundle, BundleFormat, Entry, Opening, OpeningFormat, RoundKind,
};
use domicile_core::checkpoint::Checkpoint;
use domicile_core::ids::RoundId;
use domicile_core::leaf::Leaf;
use domicile_core::log::proof::{HashSource, ProofError, ProofPlan, verify_inclusion};
use domicile_core::log::{Hash, Subtree, leaf_hash};
use domicile_core::money::Micro;
use domicile_core::note::VerifierKey;
use domicile_core::tlog_proof::TlogProof;
use std::collections::HashMap;
use thiserror::Error;

/// Bets of one round whose inclusion is proven here, at most.
const BETS_PER_ROUND_MAX: usize = 100_000;

/// Why a proof cannot be given.
#[derive(Debug, Error)]
pub enum ProofFailure {
    /// The replica cannot be read now.
    #[error("the replica cannot be read")]
    Database(#[from] domicile_postgres::Error),
    /// The log holds nothing about the round here.
    #[error("no such round")]
    Absent,
    /// The round is still open: its bets cannot be proven yet.
    #[error("the round has not ended")]
    NotEnded,
    /// A leaf exists and no verified checkpoint covers it yet.
    #[error("leaf {0} is not covered by a verified checkpoint yet")]
    NotCovered(u64),
    /// The rows do not give what the signed log says.
    #[error("the replica's rows do not prove what they should: {0}")]
    Contradiction(String),
}

/// A bundle and whether its round has ended: then it never changes again.
#[derive(Debug, Clone)]
pub struct MadeBundle {
    /// The bundle.
    pub bundle: Bundle,
    /// True once a terminal leaf is in it.
    pub ended: bool,
    /// The checkpoint size it is pinned to.
    pub size: u64,
}

/// Makes proofs of one log.
pub struct Prover<'a> {
    store: &'a Store,
    log: &'a LogId,
    key: &'a VerifierKey,
    head: &'a VerifiedHead,
}

impl<'a> Prover<'a> {
    /// Proves against checkpoints at or below the verified `head`.
    pub fn new(
        store: &'a Store,
        log: &'a LogId,
        key: &'a VerifierKey,
        head: &'a VerifiedHead,
    ) -> Self {
        Self { store, log, key, head }
    }

    /// The public bundle of a round or a play.
    pub async fn bundle(&self, round: RoundId) -> Result<MadeBundle, ProofFailure> {
        let subjects = self.store.subjects(self.log, round).await?;
        let first = subjects.first().ok_or(ProofFailure::Absent)?;
        let mut indices: Vec<u64> = subjects.iter().map(|(_, index)| *index).collect();
        let kind = if first.0 == "play" { RoundKind::Play } else { RoundKind::Round };
        let ended = subjects.iter().any(|(kind, _)| kind != "round-commit");
        if kind == RoundKind::Play {
            let play = self.entry(first.1).await?;
            indices.insert(0, commit_index(&play)?);
        }
        let last = indices.last().copied().ok_or(ProofFailure::Absent)?;
        let (checkpoint, stored) = self.covering(last).await?;
        let mut entries = Vec::with_capacity(indices.len());
        for index in indices {
            let leaf = self.entry(index).await?;
            let proof = self.inclusion(index, &leaf, &checkpoint, &stored.note).await?;
            entries.push(Entry { leaf, proof });
        }
        let bundle = Bundle {
            format: BundleFormat::V1,
            kind,
            jurisdiction: self.log.jurisdiction.clone(),
            round,
            origin: self.key.name().to_owned(),
            entries,
        };
        Ok(MadeBundle { bundle, ended, size: checkpoint.size })
    }

    /// The opening of a bet: its private record, and how it hangs together with the round's bundle.
    pub async fn opening(&self, bet: &StoredBet) -> Result<Opening, ProofFailure> {
        let made = self.bundle(bet.round).await?;
        if !made.ended {
            return Err(ProofFailure::NotEnded);
        }
        let named = self
            .store
            .checkpoint_at(self.log, bet.checkpoint_size)
            .await?
            .ok_or(ProofFailure::NotCovered(bet.checkpoint_size))?;
        let consistency = self.consistency(bet.checkpoint_size, made.size).await?;
        let inclusion = match made.bundle.kind {
            RoundKind::Play => None,
            RoundKind::Round => Some(self.bet_inclusion(bet).await?),
        };
        Ok(Opening {
            format: OpeningFormat::V1,
            jurisdiction: self.log.jurisdiction.clone(),
            round: bet.round,
            bet: bet.id,
            record: bet.record.clone(),
            salt: hash_of(&bet.salt)?,
            payout_micro: bet.payout_micro.and_then(|payout| Micro::try_from(payout).ok()),
            receipt: bet.receipt.clone(),
            bet_checkpoint: named.note,
            consistency,
            inclusion,
        })
    }

    /// Hashes that prove that the tree of `new_size` leaves begins with the tree of `old_size`.
    pub async fn consistency(
        &self,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<Hash>, ProofFailure> {
        let plan = ProofPlan::consistency(old_size, new_size).map_err(contradiction)?;
        self.assemble(&plan).await
    }

    /// The smallest published checkpoint that covers leaf `index`, if it is verified here.
    pub async fn covering(
        &self,
        index: u64,
    ) -> Result<(Checkpoint, StoredCheckpoint), ProofFailure> {
        let stored = self
            .store
            .checkpoint_covering(self.log, index)
            .await?
            .filter(|stored| stored.size <= self.head.size)
            .ok_or(ProofFailure::NotCovered(index))?;
        let checkpoint = Checkpoint::open(&stored.note, std::slice::from_ref(self.key))
            .map_err(|cause| ProofFailure::Contradiction(cause.to_string()))?;
        if checkpoint.size != stored.size {
            return Err(ProofFailure::Contradiction("a checkpoint states another size".to_owned()));
        }
        Ok((checkpoint, stored))
    }

    /// The text of a `.tlog-proof` for leaf `index`, verified against the checkpoint's root.
    pub async fn inclusion(
        &self,
        index: u64,
        leaf: &str,
        checkpoint: &Checkpoint,
        note: &str,
    ) -> Result<String, ProofFailure> {
        let plan = ProofPlan::inclusion(index, checkpoint.size).map_err(contradiction)?;
        let path = self.assemble(&plan).await?;
        let hash = leaf_hash(leaf.as_bytes());
        verify_inclusion(index, checkpoint.size, &hash, &path, &checkpoint.root)
            .map_err(contradiction)?;
        Ok(TlogProof { extra: None, index, path, checkpoint: note.to_owned() }.encode())
    }

    /// The exact text of leaf `index`.
    pub async fn entry(&self, index: u64) -> Result<String, ProofFailure> {
        let leaves = self.store.leaves(self.log, index, index.saturating_add(1)).await?;
        let leaf = leaves.into_iter().next().ok_or(ProofFailure::NotCovered(index))?;
        String::from_utf8(leaf.entry)
            .map_err(|_not_text| ProofFailure::Contradiction(format!("leaf {index} is not text")))
    }

    async fn assemble(&self, plan: &ProofPlan) -> Result<Vec<Hash>, ProofFailure> {
        let wanted: Vec<Subtree> = plan.subtrees().collect();
        let mut found = Found(self.store.subtrees(self.log, &wanted).await?);
        plan.assemble(&mut found)
    }

    async fn bet_inclusion(&self, bet: &StoredBet) -> Result<BetInclusion, ProofFailure> {
        let bets = self.store.record_commitments(&self.log.jurisdiction, bet.round).await?;
        let count = bets.len();
        let index = bets.iter().position(|(id, _)| *id == bet.id);
        let index = index.filter(|_| count <= BETS_PER_ROUND_MAX).ok_or_else(|| {
            ProofFailure::Contradiction("the bet is not among its round's bets".to_owned())
        })?;
        let leaves = bets
            .iter()
            .map(|(_, commitment)| hash_of(commitment).map(|hash| leaf_hash(&hash)))
            .collect::<Result<Vec<Hash>, _>>()?;
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let plan = ProofPlan::inclusion(index, count).map_err(contradiction)?;
        let path = plan.assemble(&mut leaves.as_slice()).map_err(contradiction)?;
        Ok(BetInclusion { index, count, path })
    }
}

/// Subtrees fetched before a proof is assembled.
struct Found(HashMap<Subtree, Hash>);

impl HashSource for Found {
    type Error = ProofFailure;

    fn subtree(&mut self, subtree: Subtree) -> Result<Hash, ProofFailure> {
        self.0
            .get(&subtree)
            .copied()
            .ok_or_else(|| ProofFailure::Contradiction(format!("rows of {subtree:?} are missing")))
    }
}

fn contradiction(cause: ProofError) -> ProofFailure {
    ProofFailure::Contradiction(cause.to_string())
}

fn commit_index(play: &str) -> Result<u64, ProofFailure> {
    match Leaf::parse(play.as_bytes()) {
        Ok(Leaf::Play(play)) => Ok(play.commit_index),
        _ => Err(ProofFailure::Contradiction("a play's leaf is not one".to_owned())),
    }
}

fn hash_of(bytes: &[u8]) -> Result<Hash, ProofFailure> {
    Hash::try_from(bytes)
        .map_err(|_length| ProofFailure::Contradiction("a stored hash is not 32 bytes".to_owned()))
}
