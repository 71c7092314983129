//! Server seeds: what a round's outcome is drawn from, and the chain that instant play reveals.
//!
//! A chain is `s_0` (random), `s_{i+1} = SHA-256(s_i)`, committed as `s_length`. Play at position
//! `p` reveals `s_{length-1-p}`, so hashing a revealed seed `p + 1` times gives the commitment, and
//! a revealed seed tells nothing about the seeds still to come.
//! Invariants: a seed is wiped when dropped and never appears in debug output.
//! Deliberately absent: drawing the 32 bytes. They come from the operating system, in the service.

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{hex, limits::CHAIN_MAX_LENGTH};

/// A secret 32-byte server seed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

/// A position or length that a seed chain does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a chain has 1..={CHAIN_MAX_LENGTH} plays and positions below its length")]
pub struct OutsideChain;

impl Seed {
    /// Takes 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Takes a slice of exactly 32 bytes, such as an unsealed one.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads a revealed seed.
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode_32(text).map(Self)
    }

    /// The raw bytes: for deriving, sealing and revealing.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The seed in hexadecimal: this *reveals* it.
    pub fn reveal_hex(&self) -> String {
        hex::encode(&self.0)
    }

    /// SHA-256 of the seed: the commitment of a shared round.
    pub fn commitment(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(redacted)")
    }
}

/// The chain's commitment `s_length`.
pub fn chain_commitment(start: &Seed, length: u32) -> Result<[u8; 32], OutsideChain> {
    if !(1..=CHAIN_MAX_LENGTH).contains(&length) {
        return Err(OutsideChain);
    }
    Ok(hash_times(start.0, length))
}

/// The seed that the play at `position` uses and reveals: `s_{length-1-position}`.
pub fn chain_seed(start: &Seed, length: u32, position: u32) -> Result<Seed, OutsideChain> {
    if length > CHAIN_MAX_LENGTH {
        return Err(OutsideChain);
    }
    let steps = length.checked_sub(1).and_then(|last| last.checked_sub(position));
    Ok(Seed(hash_times(start.0, steps.ok_or(OutsideChain)?)))
}

/// Whether a revealed seed belongs to the chain at that position.
pub fn verify_chain(revealed: &Seed, position: u32, commitment: &[u8; 32]) -> bool {
    position < CHAIN_MAX_LENGTH && hash_times(revealed.0, position + 1) == *commitment
}

fn hash_times(mut bytes: [u8; 32], times: u32) -> [u8; 32] {
    for _ in 0..times {
        bytes = Sha256::digest(bytes).into();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn debug_output_hides_the_seed() {
        assert_eq!(format!("{:?}", Seed::new([7; 32])), "Seed(redacted)");
    }

    #[test]
    fn the_commitment_is_plain_sha_256() {
        let expected = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
        assert_eq!(hex::encode(&Seed::new([0; 32]).commitment()), expected);
    }

    #[test]
    fn a_chain_has_bounds() {
        let start = Seed::new([1; 32]);
        assert_eq!(chain_commitment(&start, 0), Err(OutsideChain));
        assert_eq!(chain_commitment(&start, CHAIN_MAX_LENGTH + 1), Err(OutsideChain));
        assert!(chain_seed(&start, 0, 0).is_err());
        assert!(chain_seed(&start, 8, 8).is_err());
        assert!(chain_seed(&start, CHAIN_MAX_LENGTH + 1, 0).is_err());
        assert!(!verify_chain(&start, u32::MAX, &[0; 32]));
    }

    #[test]
    fn the_last_play_reveals_the_start() {
        let start = Seed::new([1; 32]);
        assert_eq!(chain_seed(&start, 8, 7).unwrap().as_bytes(), start.as_bytes());
    }

    proptest! {
        #[test]
        fn every_position_verifies_and_only_there(
            bytes: [u8; 32], length in 1u32..64, at in 0u32..64, other in 0u32..64,
        ) {
            let start = Seed::new(bytes);
            let commitment = chain_commitment(&start, length).unwrap();
            let at = at % length;
            let seed = chain_seed(&start, length, at).unwrap();
            prop_assert!(verify_chain(&seed, at, &commitment));
            prop_assert_eq!(verify_chain(&seed, other, &commitment), other == at);
        }
    }
}
