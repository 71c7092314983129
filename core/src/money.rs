//! Money: integer micro-units with a currency. No floats, checked arithmetic only.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An amount that does not fit: negative, above [`Micro::MAX`], or the result of an overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the amount is outside 0..=9_000_000_000_000_000 micro-units")]
pub struct AmountOutOfRange;

/// A non-negative amount in micro-units (1 EUR = 1 000 000), at most [`Micro::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Micro(u64);

impl Micro {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// 9 × 10^15: exact in an `f64`-based JSON reader and far inside Postgres' `bigint`.
    pub const MAX: Self = Self(9_000_000_000_000_000);

    /// Makes an amount from micro-units.
    pub const fn new(micro: u64) -> Result<Self, AmountOutOfRange> {
        if micro <= Self::MAX.0 { Ok(Self(micro)) } else { Err(AmountOutOfRange) }
    }

    /// The micro-units.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The micro-units as Postgres stores them.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Sum, or an error above the maximum.
    pub fn checked_add(self, other: Self) -> Result<Self, AmountOutOfRange> {
        self.0.checked_add(other.0).ok_or(AmountOutOfRange).and_then(Self::new)
    }

    /// `self × numerator / denominator`, rounded down (towards the house), in 128-bit arithmetic.
    pub fn mul_ratio(self, numerator: u64, denominator: u64) -> Result<Self, AmountOutOfRange> {
        u128::from(self.0)
            .checked_mul(u128::from(numerator))
            .and_then(|product| product.checked_div(u128::from(denominator)))
            .and_then(|quotient| u64::try_from(quotient).ok())
            .ok_or(AmountOutOfRange)
            .and_then(Self::new)
    }
}

impl TryFrom<u64> for Micro {
    type Error = AmountOutOfRange;
    fn try_from(micro: u64) -> Result<Self, AmountOutOfRange> {
        Self::new(micro)
    }
}

impl TryFrom<i64> for Micro {
    type Error = AmountOutOfRange;
    fn try_from(micro: i64) -> Result<Self, AmountOutOfRange> {
        u64::try_from(micro).ok().ok_or(AmountOutOfRange).and_then(Self::new)
    }
}

impl From<Micro> for u64 {
    fn from(amount: Micro) -> u64 {
        amount.0
    }
}

impl std::fmt::Display for Micro {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// An ISO 4217 code: three upper-case letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(String);

/// A text that is not an ISO 4217 code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a currency is three upper-case letters, such as EUR")]
pub struct InvalidCurrency;

impl Currency {
    /// Parses the code.
    pub fn parse(text: &str) -> Result<Self, InvalidCurrency> {
        let valid = text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase());
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidCurrency) }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidCurrency;
    fn try_from(text: String) -> Result<Self, InvalidCurrency> {
        Self::parse(&text)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.0
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_round_towards_the_house() {
        let stake = Micro::new(10).unwrap();
        assert_eq!(stake.mul_ratio(99, 100), Micro::new(9));
        assert_eq!(stake.mul_ratio(1, 0), Err(AmountOutOfRange));
        assert_eq!(Micro::MAX.mul_ratio(2, 1), Err(AmountOutOfRange));
    }
}
