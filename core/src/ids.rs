//! Identifiers: parsed once at the edge, trusted afterwards.
//!
//! Invariant: a value of one of these types satisfies its grammar; there is no other way to make one.
//! Deliberately absent: generation. Ids come from the service's id source, so that tests can fix them.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// Why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not a valid {kind}: expected {expected}")]
pub struct InvalidId {
    /// What was being parsed, such as `jurisdiction`.
    pub kind: &'static str,
    /// The grammar in words.
    pub expected: &'static str,
    /// The refused text, cut to 64 characters.
    pub text: String,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $expected:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses the text; the grammar stands in the type's description.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take(64).collect();
                    Err(InvalidId { kind: $kind, expected: $expected, text })
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub Uuid);

        impl $name {
            /// Parses the hyphenated lower-case form and no other spelling, so that one id has one text.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text)
                    .ok()
                    .filter(|id| id.hyphenated().to_string() == text)
                    .map(Self)
                    .ok_or_else(|| InvalidId {
                        kind: $kind,
                        expected: "a lower-case hyphenated UUID",
                        text: text.chars().take(64).collect(),
                    })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

text_id!(
    /// A regulated territory as ISO 3166-1 alpha-2 or 3166-2: `MT`, `DE`, `US-NJ`.
    Jurisdiction, "jurisdiction", "an ISO 3166 code such as MT or US-NJ", is_jurisdiction
);
text_id!(
    /// A region of the topology: a lower-case slug of 1–32 characters.
    RegionId, "region", "a lower-case slug of 1-32 characters", is_slug
);
text_id!(
    /// A node of the topology (database node or service): a lower-case slug of 1–32 characters.
    NodeId, "node", "a lower-case slug of 1-32 characters", is_slug
);
text_id!(
    /// The cluster's name, first part of every log origin: a lower-case slug of 1–32 characters.
    ClusterId, "cluster", "a lower-case slug of 1-32 characters", is_slug
);
text_id!(
    /// An operator (licensee): a lower-case slug of 1–32 characters.
    OperatorId, "operator", "a lower-case slug of 1-32 characters", is_slug
);
text_id!(
    /// A game's code: a lower-case slug of 1–32 characters.
    GameCode, "game", "a lower-case slug of 1-32 characters", is_slug
);
text_id!(
    /// The operator's pseudonym for a player: 1–64 visible ASCII characters. Personal data: never logged.
    PlayerRef, "player reference", "1-64 visible ASCII characters", is_visible_ascii
);
text_id!(
    /// The caller's key of one request (`Idempotency-Key`, `request_id`): 1–64 visible ASCII characters.
    RequestKey, "request key", "1-64 visible ASCII characters", is_visible_ascii
);
uuid_id!(
    /// A round, shared or instant play. `UUIDv7`.
    RoundId, "round id"
);
uuid_id!(
    /// A bet. `UUIDv7`.
    BetId, "bet id"
);
uuid_id!(
    /// A player's session. `UUIDv7`.
    SessionId, "session id"
);
uuid_id!(
    /// A session's seed chain. Random (v4), so that it links nothing across sessions.
    ChainId, "chain id"
);

impl Jurisdiction {
    /// Lower case with `_` for `-`, as used in database object names: `us_nj`.
    pub fn slug(&self) -> String {
        self.0.to_ascii_lowercase().replace('-', "_")
    }
}

fn is_jurisdiction(text: &str) -> bool {
    let (country, subdivision) = match text.split_once('-') {
        Some((country, subdivision)) => (country, Some(subdivision)),
        None => (text, None),
    };
    country.len() == 2
        && country.bytes().all(|b| b.is_ascii_uppercase())
        && subdivision.is_none_or(|s| {
            (1..=3).contains(&s.len())
                && s.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        })
}

fn is_slug(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
}

fn is_visible_ascii(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jurisdictions_follow_iso_3166() {
        for good in ["MT", "DE", "US-NJ", "CA-ON", "FR-75"] {
            assert_eq!(Jurisdiction::parse(good).map(|j| j.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "mt", "M", "MTX", "US-", "US-NEWJ", "US_NJ", "MT "] {
            assert!(Jurisdiction::parse(bad).is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn a_uuid_has_one_spelling() {
        let text = "0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
        assert!(RoundId::parse(text).is_ok());
        assert!(RoundId::parse(&text.to_uppercase()).is_err());
        assert!(RoundId::parse(&text.replace('-', "")).is_err());
        // In JSON, too: a file that is hashed or signed must not have two readings.
        assert!(serde_json::from_value::<RoundId>(text.into()).is_ok());
        assert!(serde_json::from_value::<RoundId>(text.to_uppercase().into()).is_err());
    }
}
