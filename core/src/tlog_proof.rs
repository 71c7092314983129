//! C2SP `tlog-proof@v1`: an inclusion proof and the checkpoint it ends in, as one text.
//!
//! Invariant: a proof has one spelling; [`TlogProof::parse`] accepts exactly what `encode` writes.
//! The optional `extra` line is carried but authenticates nothing.

use std::fmt::Write as _;

use thiserror::Error;

use crate::{
    base64,
    checkpoint::{Checkpoint, CheckpointError},
    limits::{PROOF_PATH_MAX_HASHES, TLOG_PROOF_MAX_BYTES},
    log::{
        Hash, leaf_hash,
        proof::{ProofError, verify_inclusion},
    },
    note::VerifierKey,
};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TlogProofError {
    /// The text does not follow the format.
    #[error("not a tlog-proof text")]
    Malformed,
    /// The checkpoint is refused.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the entry to the checkpoint.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// A proof that a log holds an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Unauthenticated data beside the proof. Our own proofs carry none.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// The inclusion path, the leaf's sibling first.
    pub path: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

impl TlogProof {
    /// The text.
    pub fn encode(&self) -> String {
        let mut text = format!("{HEADER}\n");
        if let Some(extra) = &self.extra {
            // Writing to a String cannot fail.
            writeln!(text, "extra {}", base64::encode(extra)).unwrap_or_default();
        }
        writeln!(text, "index {}", self.index).unwrap_or_default();
        for hash in &self.path {
            writeln!(text, "{}", base64::encode(hash)).unwrap_or_default();
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Parses the text.
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        if text.len() > TLOG_PROOF_MAX_BYTES {
            return Err(TlogProofError::Malformed);
        }
        parse(text).filter(|proof| proof.encode() == text).ok_or(TlogProofError::Malformed)
    }

    /// Checks that the entry is in the log whose pinned key signed the checkpoint, and returns that checkpoint.
    pub fn verify(&self, entry: &[u8], keys: &[VerifierKey]) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, keys)?;
        let leaf = leaf_hash(entry);
        verify_inclusion(self.index, checkpoint.size, &leaf, &self.path, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

fn parse(text: &str) -> Option<TlogProof> {
    // No line of the head is empty, so the first blank line ends it.
    let (head, checkpoint) = text.split_once("\n\n")?;
    let mut lines = head.split('\n').peekable();
    lines.next().filter(|line| *line == HEADER)?;
    let extra = match lines.peek()?.strip_prefix("extra ") {
        Some(extra) => {
            lines.next();
            Some(base64::decode(extra)?)
        }
        None => None,
    };
    let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
    let path: Option<Vec<Hash>> = lines.map(base64::decode_32).collect();
    let path = path.filter(|path| path.len() <= PROOF_PATH_MAX_HASHES)?;
    Some(TlogProof { extra, index, path, checkpoint: checkpoint.to_owned() })
}
