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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        checkpoint::Origin,
        log::{frontier::Frontier, proof::ProofPlan},
        note::SigningKey,
    };

    const ENTRY: &[u8] = b"entry 5";

    fn proven() -> (TlogProof, Vec<VerifierKey>) {
        let key = SigningKey::from_seed("demo/MT/1", &[1; 32]).unwrap();
        let leaves: Vec<Hash> =
            (0..9).map(|n| leaf_hash(format!("entry {n}").as_bytes())).collect();
        let root = leaves.iter().copied().collect::<Frontier>().root();
        let head = Checkpoint { origin: Origin::parse("demo/MT/1").unwrap(), size: 9, root };
        let path = ProofPlan::inclusion(5, 9).unwrap().assemble(&mut leaves.as_slice()).unwrap();
        let checkpoint = head.sign(&key).unwrap();
        let proof = TlogProof { extra: None, index: 5, path, checkpoint };
        (proof, vec![key.verifier().clone()])
    }

    #[test]
    fn a_proof_has_the_published_form() {
        let (proof, keys) = proven();
        let text = proof.encode();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 5\n"), "{text}");
        assert!(text.ends_with(&format!("=\n\n{}", proof.checkpoint)), "{text}");
        assert_eq!(TlogProof::parse(&text).as_ref(), Ok(&proof));
        assert_eq!(proof.verify(ENTRY, &keys).map(|head| head.size), Ok(9));
        let extra = TlogProof { extra: Some(b"more".to_vec()), ..proof };
        assert!(extra.encode().contains("@v1\nextra bW9yZQ==\nindex 5\n"));
        assert_eq!(TlogProof::parse(&extra.encode()), Ok(extra));
    }

    #[test]
    fn no_flipped_bit_of_a_proof_or_its_entry_is_accepted() {
        let (proof, keys) = proven();
        let text = proof.encode().into_bytes();
        let accepted = |text: &[u8], entry: &[u8]| {
            let proof = str::from_utf8(text).ok().and_then(|text| TlogProof::parse(text).ok());
            proof.is_some_and(|proof| proof.verify(entry, &keys).is_ok())
        };
        assert!(accepted(&text, ENTRY));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!accepted(&flipped, ENTRY), "bit {bit}");
        }
        for bit in 0..ENTRY.len() * 8 {
            let mut flipped = ENTRY.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!accepted(&text, &flipped), "entry bit {bit}");
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let (proof, _) = proven();
        let text = proof.encode();
        let long = TlogProof { path: vec![[0; 32]; PROOF_PATH_MAX_HASHES + 1], ..proof };
        for bad in [
            text.replace("@v1", "@v2"),
            text.replace("index 5", "index 05"),
            text.replace("index 5", "index +5"),
            text.replacen("index 5\n", "", 1),
            text.replacen("\n\n", "\n", 1),
            text.replacen("\nindex", "\nextra AB==\nindex", 1),
            text.replacen("\nindex", "\nextra AA==\nextra AA==\nindex", 1),
            text.replacen("=\n", "\n", 1),
            long.encode(),
            "x".repeat(TLOG_PROOF_MAX_BYTES + 1),
        ] {
            assert_eq!(TlogProof::parse(&bad), Err(TlogProofError::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_proof_round_trips(
            extra: Option<Vec<u8>>,
            index: u64,
            path in prop::collection::vec(any::<Hash>(), 0..=64),
            checkpoint in "(\\PC|\n){0,80}",
        ) {
            let proof = TlogProof { extra, index, path, checkpoint };
            prop_assert_eq!(TlogProof::parse(&proof.encode()), Ok(proof));
        }

        #[test]
        fn arbitrary_texts_are_read_exactly_or_refused(
            text in "(c2sp.org/tlog-proof@v1\n)?(extra [A-D=]{0,5}\n)?(index [0-9]{0,3}\n)?(\\PC|\n){0,50}",
        ) {
            if let Ok(proof) = TlogProof::parse(&text) {
                prop_assert_eq!(proof.encode(), text);
            }
        }
    }
}
