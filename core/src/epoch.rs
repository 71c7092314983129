//! The writer's term and the write-ahead position: numbers that only grow, and order instead of clocks.

use serde::{Deserialize, Serialize};

/// The writer's term. Grows by one at each promotion; 0 means "no writer yet".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// The header with which a writer states the epoch that an answer belongs to.
pub const EPOCH_HEADER: &str = "domicile-epoch";

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A Postgres write-ahead-log position in bytes, written `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Lsn(pub u64);

/// A text that is not a write-ahead-log position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a WAL position is two hexadecimal numbers such as 16/B374D848")]
pub struct InvalidLsn;

impl Lsn {
    /// Parses the two-part hexadecimal form.
    pub fn parse(text: &str) -> Result<Self, InvalidLsn> {
        let (high, low) = text.split_once('/').ok_or(InvalidLsn)?;
        let part = |hex: &str| {
            let plain = (1..=8).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
            if plain { u32::from_str_radix(hex, 16).ok() } else { None }
        };
        match (part(high), part(low)) {
            (Some(high), Some(low)) => Ok(Self((u64::from(high) << 32) | u64::from(low))),
            _ => Err(InvalidLsn),
        }
    }

    /// Bytes from `earlier` to `self`; zero when `earlier` is ahead.
    pub fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl TryFrom<String> for Lsn {
    type Error = InvalidLsn;
    fn try_from(text: String) -> Result<Self, InvalidLsn> {
        Self::parse(&text)
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_text_round_trips() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(Lsn::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "1", "1/", "/1", "1/G", "1/+1", "123456789/0"] {
            assert!(Lsn::parse(bad).is_err(), "{bad} must be refused");
        }
    }
}
