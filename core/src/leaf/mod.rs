//! The entries of the log: fixed lines of ASCII, hashed exactly as stored.
//!
//! Invariants: fixed order, no optional field, one spelling – `parse(encode(leaf)) == leaf` and
//! `encode(parse(text)) == text`. A leaf holds no personal data: a bet appears in it only as a commitment.
//! An entry fits an entry bundle of `tlog-tiles` (65 535 bytes) by its field limits.

#[cfg(test)]
mod samples;
mod text;

use std::fmt::Write as _;

use thiserror::Error;

use crate::{
    hex,
    ids::{ChainId, GameCode, Jurisdiction, RoundId},
    limits::ROUND_JURISDICTIONS_MAX,
    lines::{LineError, Text},
    log::{Hash, frontier::Frontier, leaf_hash},
};

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LeafError {
    /// Not ASCII, too long, or not one of the known forms.
    #[error("not an entry of this log")]
    UnknownForm,
    /// A line is missing or malformed.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The jurisdictions of a round are none, too many, repeated or out of order.
    #[error("a round lists 1-64 jurisdictions, each once, sorted by code")]
    Jurisdictions,
    /// Every field is well-formed, but the text is not the one spelling of them.
    #[error("the entry is not in its canonical spelling")]
    NotCanonical,
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The reason as it stands in the leaf.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Parses the reason.
            pub fn parse(text: &str) -> Result<Self, LineError> {
                Self::ALL.iter().copied().find(|r| r.as_str() == text).ok_or(LineError("reason"))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

reasons!(
    /// Why a round was voided.
    VoidReason {
        /// The operator asked for it.
        Operator = "operator",
        /// It was not settled in time.
        Expired = "expired",
        /// Its jurisdictions were suspended.
        Suspended = "suspended",
    }
);
reasons!(
    /// Why a seed chain was closed.
    CloseReason {
        /// Every seed was played.
        Exhausted = "exhausted",
        /// The session was revoked.
        Revoked = "revoked",
        /// The session expired.
        Expired = "expired",
        /// The writer's epoch ended.
        Epoch = "epoch",
    }
);

/// One jurisdiction's bets in a shared round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JurisdictionBets {
    /// The jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// How many bets.
    pub count: u64,
    /// Root of the tree over their record commitments, in order of bet id: [`bets_root`].
    pub root: Hash,
}

/// The bets of every jurisdiction enabled for a round: 1–64, each once, sorted by code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundBets(Vec<JurisdictionBets>);

impl RoundBets {
    /// Sorts the list by code; refuses an empty, oversized or repeating one.
    pub fn new(mut bets: Vec<JurisdictionBets>) -> Result<Self, LeafError> {
        bets.sort_by(|a, b| a.jurisdiction.cmp(&b.jurisdiction));
        let distinct = bets.is_sorted_by(|a, b| a.jurisdiction < b.jurisdiction);
        if distinct && (1..=ROUND_JURISDICTIONS_MAX).contains(&bets.len()) {
            Ok(Self(bets))
        } else {
            Err(LeafError::Jurisdictions)
        }
    }

    /// The list, sorted by code.
    pub fn as_slice(&self) -> &[JurisdictionBets] {
        &self.0
    }

    /// One jurisdiction's entry.
    pub fn of(&self, jurisdiction: &Jurisdiction) -> Option<&JurisdictionBets> {
        self.0.iter().find(|bets| bets.jurisdiction == *jurisdiction)
    }

    /// The `bets …` lines as they stand in the leaf and in the outcome's context.
    pub fn lines(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, bets| {
            let root = hex::encode(&bets.root);
            // Writing to a String cannot fail.
            writeln!(text, "bets {} {} {root}", bets.jurisdiction, bets.count).unwrap_or_default();
            text
        })
    }
}

/// The root over record commitments: an RFC 6962 tree whose entries are the 32-byte commitments.
pub fn bets_root(commitments: &[Hash]) -> Hash {
    commitments.iter().map(|commitment| leaf_hash(commitment)).collect::<Frontier>().root()
}

/// A shared round is opened: the seed is fixed before the first bet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundCommit {
    /// The log's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The round.
    pub round: RoundId,
    /// The game.
    pub game: GameCode,
    /// The game's parameters.
    pub params: Text,
    /// SHA-256 of the seed.
    pub commitment: Hash,
}

/// A shared round is settled: the seed is revealed and fixes the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundSettle {
    /// The log's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The round.
    pub round: RoundId,
    /// Index of the round's commit leaf in this log.
    pub commit_index: u64,
    /// The seed, no longer secret.
    pub seed: Hash,
    /// The outcome in the game's words.
    pub outcome: Text,
    /// The bets of all jurisdictions.
    pub bets: RoundBets,
}

/// A shared round is voided: the seed is revealed all the same, so that voids can be tested for bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundVoid {
    /// The log's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The round.
    pub round: RoundId,
    /// Index of the round's commit leaf in this log.
    pub commit_index: u64,
    /// The seed, no longer secret.
    pub seed: Hash,
    /// Why.
    pub reason: VoidReason,
    /// The bets of all jurisdictions.
    pub bets: RoundBets,
}

/// A session's seed chain is opened: all its seeds are fixed before the first play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCommit {
    /// The log's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The chain.
    pub chain: ChainId,
    /// The game.
    pub game: GameCode,
    /// The game's parameters.
    pub params: Text,
    /// How many plays it serves.
    pub length: u32,
    /// The chain's end: SHA-256 applied `length` times to its start.
    pub commitment: Hash,
}

/// One instant play: the next seed of a chain is revealed and fixes the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Play {
    /// The log's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// Index of the chain's commit leaf in this log.
    pub commit_index: u64,
    /// 0, 1, 2 … strictly in order.
    pub position: u32,
    /// The round.
    pub round: RoundId,
    /// The seed of this position, no longer secret.
    pub seed: Hash,
    /// The player's entropy.
    pub client_seed: Hash,
    /// The outcome in the game's words.
    pub outcome: Text,
    /// Commitment to the bet's record.
    pub record: Hash,
}

/// A seed chain is closed: its start is revealed, and with it every seed that was not played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainClose {
    /// The log's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// Index of the chain's commit leaf in this log.
    pub commit_index: u64,
    /// How many seeds were played.
    pub plays: u32,
    /// The chain's start.
    pub seed: Hash,
    /// Why.
    pub reason: CloseReason,
}

/// An entry of a jurisdiction's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaf {
    /// `domicile/round-commit/v1`
    RoundCommit(RoundCommit),
    /// `domicile/round-settle/v1`
    RoundSettle(RoundSettle),
    /// `domicile/round-void/v1`
    RoundVoid(RoundVoid),
    /// `domicile/chain-commit/v1`
    ChainCommit(ChainCommit),
    /// `domicile/play/v1`
    Play(Play),
    /// `domicile/chain-close/v1`
    ChainClose(ChainClose),
}

impl Leaf {
    /// The short name that storage uses: `round-commit`, `play` and so on.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RoundCommit(_) => "round-commit",
            Self::RoundSettle(_) => "round-settle",
            Self::RoundVoid(_) => "round-void",
            Self::ChainCommit(_) => "chain-commit",
            Self::Play(_) => "play",
            Self::ChainClose(_) => "chain-close",
        }
    }

    /// The jurisdiction whose log it belongs to.
    pub const fn jurisdiction(&self) -> &Jurisdiction {
        match self {
            Self::RoundCommit(leaf) => &leaf.jurisdiction,
            Self::RoundSettle(leaf) => &leaf.jurisdiction,
            Self::RoundVoid(leaf) => &leaf.jurisdiction,
            Self::ChainCommit(leaf) => &leaf.jurisdiction,
            Self::Play(leaf) => &leaf.jurisdiction,
            Self::ChainClose(leaf) => &leaf.jurisdiction,
        }
    }
}
