//! Bundles, openings and consistency proofs, made from this replica alone and verified before they leave.
//!
//! Invariant: a bundle is pinned to the smallest checkpoint that covers its last leaf, and carries nothing
//! that could differ the next time it is made: the same round gives the same bytes for ever.

use crate::auditor::VerifiedHead;
use crate::evidence::{Evidence, Opened};
use crate::shared_reads::Unread;
use crate::store::{StoredBet, StoredEntry};
use domicile_core::bundle::{
    BetInclusion, Bundle, BundleFormat, Entry, Opening, OpeningFormat, RoundKind,
};
use domicile_core::ids::RoundId;
use domicile_core::leaf::Leaf;
use domicile_core::log::proof::{ProofError, ProofPlan, verify_inclusion};
use domicile_core::log::{Hash, leaf_hash};
use domicile_core::money::Micro;
use domicile_core::tlog_proof::TlogProof;
use std::sync::Arc;
use thiserror::Error;

/// Bets of one round whose inclusion is proven here, at most.
const BETS_PER_ROUND_MAX: usize = 100_000;

/// Why a proof cannot be given.
#[derive(Debug, Error)]
pub enum ProofFailure {
    /// The replica cannot be read now.
    #[error("the replica cannot be read")]
    Database(#[from] domicile_postgres::Error),
    /// The round cannot be read now.
    #[error("the round cannot be read")]
    Unread(#[from] Unread),
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
    evidence: &'a Evidence,
    head: &'a VerifiedHead,
}

impl<'a> Prover<'a> {
    /// Proves against checkpoints at or below the verified `head`.
    pub fn new(evidence: &'a Evidence, head: &'a VerifiedHead) -> Self {
        Self { evidence, head }
    }

    /// The public bundle of a round or a play.
    pub async fn bundle(&self, round: RoundId) -> Result<MadeBundle, ProofFailure> {
        let stored = self.evidence.rounds.get(round).await?;
        let last = stored.last().ok_or(ProofFailure::Absent)?;
        let covering = last.checkpoint.clone().filter(|stored| stored.size <= self.head.size);
        let covering = covering.ok_or(ProofFailure::NotCovered(last.index))?;
        let opened = self.evidence.open(covering)?;
        let ended = stored.iter().any(|entry| entry.kind != "round-commit");
        let mut leaves: Vec<(u64, Arc<str>)> = Vec::with_capacity(stored.len() + 1);
        let mut kind = RoundKind::Round;
        for StoredEntry { kind: leaf_kind, index, entry, .. } in stored {
            let entry = entry.ok_or(ProofFailure::NotCovered(index))?;
            if leaf_kind == "play" {
                kind = RoundKind::Play;
                let commit = commit_index(&entry)?;
                leaves.push((commit, self.evidence.commit(commit).await?));
            }
            leaves.push((index, entry.into()));
        }
        let bundle = Bundle {
            format: BundleFormat::V1,
            kind,
            jurisdiction: self.evidence.log.jurisdiction.clone(),
            round,
            origin: self.evidence.key.name().to_owned(),
            entries: self.entries(&leaves, &opened).await?,
        };
        Ok(MadeBundle { bundle, ended, size: opened.checkpoint.size })
    }

    async fn entries(
        &self,
        leaves: &[(u64, Arc<str>)],
        opened: &Opened,
    ) -> Result<Vec<Entry>, ProofFailure> {
        let mut entries = Vec::with_capacity(leaves.len());
        for (index, leaf) in leaves {
            let proof = self.inclusion(*index, leaf, opened).await?;
            entries.push(Entry { leaf: String::from(&**leaf), proof });
        }
        Ok(entries)
    }

    /// The opening of a bet: its private record, and how it hangs together with the round's bundle.
    pub async fn opening(&self, bet: &StoredBet) -> Result<Opening, ProofFailure> {
        let made = self.bundle(bet.round).await?;
        if !made.ended {
            return Err(ProofFailure::NotEnded);
        }
        let Evidence { store, log, .. } = self.evidence;
        let named = store
            .checkpoint_at(log, bet.checkpoint_size)
            .await?
            .ok_or(ProofFailure::NotCovered(bet.checkpoint_size))?;
        let consistency = self.consistency(bet.checkpoint_size, made.size).await?;
        let inclusion = match made.bundle.kind {
            RoundKind::Play => None,
            RoundKind::Round => Some(self.bet_inclusion(bet).await?),
        };
        Ok(Opening {
            format: OpeningFormat::V1,
            jurisdiction: log.jurisdiction.clone(),
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

    /// Hashes that prove that the tree of `new_size` leaves begins with the tree of `old_size` leaves.
    pub async fn consistency(
        &self,
        old_size: u64,
        new_size: u64,
    ) -> Result<Vec<Hash>, ProofFailure> {
        let plan = ProofPlan::consistency(old_size, new_size).map_err(contradiction)?;
        self.assemble(&plan).await
    }

    /// The smallest published checkpoint that covers leaf `index`, if it is verified here.
    pub async fn covering(&self, index: u64) -> Result<Arc<Opened>, ProofFailure> {
        let Evidence { store, log, .. } = self.evidence;
        let stored = store.checkpoint_covering(log, index).await?;
        let stored = stored.filter(|stored| stored.size <= self.head.size);
        self.evidence.open(stored.ok_or(ProofFailure::NotCovered(index))?)
    }

    /// The text of a `.tlog-proof` for leaf `index`, verified against the checkpoint's root.
    pub async fn inclusion(
        &self,
        index: u64,
        leaf: &str,
        Opened { checkpoint, note }: &Opened,
    ) -> Result<String, ProofFailure> {
        let plan = ProofPlan::inclusion(index, checkpoint.size).map_err(contradiction)?;
        let path = self.assemble(&plan).await?;
        let hash = leaf_hash(leaf.as_bytes());
        verify_inclusion(index, checkpoint.size, &hash, &path, &checkpoint.root).map_err(
            |cause| {
                // The rows may have been read from a replica that was rebuilt since.
                self.evidence.forget();
                contradiction(cause)
            },
        )?;
        Ok(TlogProof { extra: None, index, path, checkpoint: note.clone() }.encode())
    }

    async fn assemble(&self, plan: &ProofPlan) -> Result<Vec<Hash>, ProofFailure> {
        let held = self.evidence.tiles.holding(plan.subtrees(), self.head.size).await?;
        plan.assemble(&mut &held)
            .map_err(|missing| ProofFailure::Contradiction(missing.to_string()))
    }

    async fn bet_inclusion(&self, bet: &StoredBet) -> Result<BetInclusion, ProofFailure> {
        let Evidence { store, log, .. } = self.evidence;
        let bets = store.record_commitments(&log.jurisdiction, bet.round).await?;
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
