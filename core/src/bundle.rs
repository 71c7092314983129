//! The two files a verifier reads: the public bundle of a round and the private opening of a bet.
//!
//! Invariants: strict JSON (no unknown field, at most 1 MiB); every byte string inside a text has one
//! spelling. Nothing in a file is trusted for being there: `verify` binds each field to something signed.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{
    base64, hex,
    ids::{BetId, Jurisdiction, RoundId},
    limits::{BUNDLE_MAX_BYTES, PROOF_PATH_MAX_HASHES},
    log::Hash,
    money::Micro,
};

/// Why a file is not a bundle or an opening.
#[derive(Debug, Error)]
pub enum BundleError {
    /// Larger than [`BUNDLE_MAX_BYTES`].
    #[error("the file is larger than 1 MiB")]
    TooLarge,
    /// Not the JSON of this format.
    #[error("not the JSON of this format")]
    Malformed(#[from] serde_json::Error),
}

/// The bundle's format name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BundleFormat {
    /// Version 1.
    #[serde(rename = "domicile/bundle/v1")]
    V1,
}

/// The opening's format name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpeningFormat {
    /// Version 1.
    #[serde(rename = "domicile/opening/v1")]
    V1,
}

/// What kind of round a bundle proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundKind {
    /// A shared round with its own seed.
    Round,
    /// An instant play over a session's seed chain.
    Play,
}

/// The public proof of a round: immutable once the round has ended, free of personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// The format.
    pub format: BundleFormat,
    /// Shared round or instant play.
    pub kind: RoundKind,
    /// The jurisdiction whose log proves it.
    pub jurisdiction: Jurisdiction,
    /// The round.
    pub round: RoundId,
    /// The log's origin, `<cluster>/<jurisdiction>/<log epoch>`.
    pub origin: String,
    /// The commit leaf, then the terminal leaf once there is one.
    pub entries: Vec<Entry>,
}

/// One leaf and the proof that the log holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The leaf's exact text.
    pub leaf: String,
    /// Its `tlog-proof`, with the checkpoint that all entries of the bundle share.
    pub proof: String,
}

/// The private side of one bet: for its player and for inspectors of its jurisdiction.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The format.
    pub format: OpeningFormat,
    /// The bet's jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The round.
    pub round: RoundId,
    /// The bet.
    pub bet: BetId,
    /// The bet record's exact text.
    pub record: String,
    /// The salt of the record's commitment.
    #[serde(with = "hex_hash")]
    pub salt: Hash,
    /// What the bet paid; absent while its round is open.
    pub payout_micro: Option<Micro>,
    /// The signed receipt.
    pub receipt: String,
    /// The checkpoint the bet named, signed.
    pub bet_checkpoint: String,
    /// Consistency proof from that checkpoint to the bundle's.
    #[serde(with = "base64_hashes")]
    pub consistency: Vec<Hash>,
    /// The record's place among its jurisdiction's bets; absent for an instant play.
    pub inclusion: Option<BetInclusion>,
}

/// Personal data: only the public identifiers are shown.
impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("bet", &self.bet).finish_non_exhaustive()
    }
}

/// Inclusion of a bet's record commitment in its jurisdiction's `bets` root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BetInclusion {
    /// Place in the order of bet ids.
    pub index: u64,
    /// How many bets the jurisdiction has in the round.
    pub count: u64,
    /// The inclusion path.
    #[serde(with = "base64_hashes")]
    pub path: Vec<Hash>,
}

impl Bundle {
    /// Parses the JSON of a bundle.
    pub fn parse(json: &[u8]) -> Result<Self, BundleError> {
        parse(json)
    }

    /// The JSON, without spaces.
    pub fn to_json(&self) -> Result<String, BundleError> {
        Ok(serde_json::to_string(self)?)
    }
}

impl Opening {
    /// Parses the JSON of an opening.
    pub fn parse(json: &[u8]) -> Result<Self, BundleError> {
        parse(json)
    }

    /// The JSON, without spaces.
    pub fn to_json(&self) -> Result<String, BundleError> {
        Ok(serde_json::to_string(self)?)
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, BundleError> {
    if json.len() > BUNDLE_MAX_BYTES {
        return Err(BundleError::TooLarge);
    }
    Ok(serde_json::from_slice(json)?)
}

/// A hash as 64 hexadecimal digits.
mod hex_hash {
    use super::{Deserialize, Deserializer, Hash, Serializer, hex};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode_32(&text).ok_or_else(|| D::Error::custom("expected 64 hexadecimal digits"))
    }
}

/// Hashes as canonical base64 texts.
mod base64_hashes {
    use super::{Deserialize, Deserializer, Hash, PROOF_PATH_MAX_HASHES, Serializer, base64};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(
        hashes: &[Hash],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.iter().map(|hash| base64::encode(hash)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Hash>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        if texts.len() > PROOF_PATH_MAX_HASHES {
            return Err(D::Error::custom("a path has at most 64 hashes"));
        }
        texts
            .iter()
            .map(|text| base64::decode_32(text))
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("expected 32 bytes in base64"))
    }
}
