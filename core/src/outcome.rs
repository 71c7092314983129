//! From a seed to numbers: HMAC-SHA256 in counter mode, integers only, rejection sampling.
//!
//! Block `i` is `HMAC-SHA256(key = 32 raw seed bytes, "domicile/outcome/v1\n" ‖ context ‖ u64-BE i)`;
//! a draw reads big-endian 64-bit words from the blocks in order. The prefix keeps the derivation
//! apart from the commitment (a plain SHA-256 of the seed), and the context carries everything the
//! players put in: the bets' roots of a shared round, or client seed and record of one play.
//! Deliberately absent: floats and `word % n` without rejection, which would favour small numbers.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    hex,
    ids::{GameCode, Jurisdiction, RoundId},
    limits::OUTCOME_DRAWS_MAX_WORDS,
    seed::Seed,
};

const DOMAIN: &[u8] = b"domicile/outcome/v1\n";
const WORDS_PER_BLOCK: u64 = 4;

/// A draw that cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DrawError {
    /// A range without numbers.
    #[error("cannot draw below 0")]
    EmptyRange,
    /// The game drew more words than any game may.
    #[error("an outcome draws at most {OUTCOME_DRAWS_MAX_WORDS} words")]
    TooManyWords,
}

/// The numbers of one outcome, in order.
pub struct Draws {
    prefix: Hmac<Sha256>,
    block: [u8; 32],
    used_words: u64,
}

impl Draws {
    /// Starts the sequence of this seed and context.
    pub fn new(seed: &Seed, context: &[u8]) -> Self {
        let mut prefix = Hmac::<Sha256>::new((&*block_sized_key(seed)).into());
        prefix.update(DOMAIN);
        prefix.update(context);
        Self { prefix, block: [0; 32], used_words: 0 }
    }

    /// A uniform number in `0..n`.
    pub fn below(&mut self, n: u64) -> Result<u64, DrawError> {
        if n == 0 {
            return Err(DrawError::EmptyRange);
        }
        // 2^64 mod n values at the top would make the small remainders likelier.
        let surplus = (u64::MAX % n + 1) % n;
        loop {
            let word = self.word()?;
            if word <= u64::MAX - surplus {
                return Ok(word % n);
            }
        }
    }

    fn word(&mut self) -> Result<u64, DrawError> {
        if self.used_words >= OUTCOME_DRAWS_MAX_WORDS {
            return Err(DrawError::TooManyWords);
        }
        let place = self.used_words % WORDS_PER_BLOCK;
        if place == 0 {
            let mut mac = self.prefix.clone();
            mac.update(&(self.used_words / WORDS_PER_BLOCK).to_be_bytes());
            self.block = mac.finalize().into_bytes().into();
        }
        self.used_words += 1;
        let (words, _) = self.block.as_chunks::<8>();
        let word = words.iter().zip(0..).find(|(_, index)| *index == place);
        word.map(|(bytes, _)| u64::from_be_bytes(*bytes)).ok_or(DrawError::TooManyWords)
    }
}

/// The seed padded to HMAC's block, which is what HMAC itself does with a short key.
fn block_sized_key(seed: &Seed) -> Zeroizing<[u8; 64]> {
    let mut key = Zeroizing::new([0; 64]);
    for (to, from) in key.iter_mut().zip(seed.as_bytes()) {
        *to = *from;
    }
    key
}

/// The context of a shared round: game, parameters, round and every jurisdiction's bets.
pub fn round_context<'a>(
    game: &GameCode,
    params: &str,
    round: RoundId,
    bets: impl IntoIterator<Item = (&'a Jurisdiction, u64, &'a [u8; 32])>,
) -> String {
    let mut bets: Vec<_> = bets.into_iter().collect();
    bets.sort();
    let mut text = format!("game {game}\nparams {params}\nround {round}\n");
    for (jurisdiction, count, root) in bets {
        // Writing to a String cannot fail.
        writeln!(text, "bets {jurisdiction} {count} {}", hex::encode(root)).unwrap_or_default();
    }
    text
}

/// The context of one instant play.
pub fn play_context(
    game: &GameCode,
    params: &str,
    round: RoundId,
    position: u32,
    client_seed: &[u8; 32],
    record: &[u8; 32],
) -> String {
    let (client_seed, record) = (hex::encode(client_seed), hex::encode(record));
    format!(
        "game {game}\nparams {params}\nround {round}\nposition {position}\n\
         client_seed {client_seed}\nrecord {record}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_are_the_documented_hmac() {
        let (seed, context) = (Seed::new([0x61; 32]), b"context\n");
        let mut expected = Vec::new();
        for counter in 0u64..2 {
            let mut mac = Hmac::<Sha256>::new_from_slice(seed.as_bytes()).unwrap();
            mac.update(&[DOMAIN, context, &counter.to_be_bytes()].concat());
            let block: [u8; 32] = mac.finalize().into_bytes().into();
            let words = block.as_chunks::<8>().0.iter();
            expected.extend(words.map(|word| u64::from_be_bytes(*word)));
        }
        let mut draws = Draws::new(&seed, context);
        let words: Vec<_> = (0..8).map(|_| draws.word().unwrap()).collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn draws_are_bounded() {
        let mut draws = Draws::new(&Seed::new([1; 32]), b"");
        assert_eq!(draws.below(0), Err(DrawError::EmptyRange));
        let until_refused = (0..=OUTCOME_DRAWS_MAX_WORDS).map(|_| draws.below(6));
        assert_eq!(until_refused.last(), Some(Err(DrawError::TooManyWords)));
    }

    #[test]
    fn bets_lines_are_sorted() {
        let (de, mt) = (Jurisdiction::parse("DE").unwrap(), Jurisdiction::parse("MT").unwrap());
        let game = GameCode::parse("wheel").unwrap();
        let round = RoundId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a0b").unwrap();
        let text = round_context(&game, "p=1", round, [(&mt, 3, &[1; 32]), (&de, 0, &[0; 32])]);
        let places = [text.find("bets DE 0 0000"), text.find("bets MT 3 0101")];
        assert!(places[0].is_some() && places[0] < places[1], "{text}");
    }

    proptest! {
        #[test]
        fn numbers_stay_below_their_bound(bytes: [u8; 32], n in 1u64..) {
            let mut draws = Draws::new(&Seed::new(bytes), b"x");
            for _ in 0..16 {
                prop_assert!(draws.below(n).unwrap() < n);
            }
        }
    }
}
