//! Strict readers for texts of fixed lines: `name value`, one per line, in a fixed order.
//!
//! Invariant: nothing is skipped and nothing is optional. Each format parses through this and then compares
//! its own encoding with the input, so a text has exactly one spelling.

use thiserror::Error;

use crate::{hex, limits::LINE_TEXT_MAX_BYTES};

/// A line that is missing or does not hold what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("line `{0}` is missing or malformed")]
pub struct LineError(pub &'static str);

/// One line of printable ASCII, 1–1024 bytes, without a space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Text(String);

impl Text {
    /// Parses the text.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if printable && (1..=LINE_TEXT_MAX_BYTES).contains(&text.len()) && text.trim() == text {
            Ok(Self(text.to_owned()))
        } else {
            Err(LineError("text"))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a text line by line.
#[derive(Debug)]
pub struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Lines<'a> {
    /// Starts at the first line.
    pub const fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// The next line must be exactly this.
    pub fn header(&mut self, expected: &'static str) -> Result<(), LineError> {
        if self.line() == Some(expected) { Ok(()) } else { Err(LineError(expected)) }
    }

    /// The value of the next line, whose name must be this.
    pub fn value(&mut self, name: &'static str) -> Result<&'a str, LineError> {
        self.line()
            .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .ok_or(LineError(name))
    }

    /// The next line's value, read by `parse`.
    pub fn read<T, E>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Result<T, LineError> {
        parse(self.value(name)?).or(Err(LineError(name)))
    }

    /// The next line's value as 64 hexadecimal digits.
    pub fn hash(&mut self, name: &'static str) -> Result<[u8; 32], LineError> {
        hex::decode_32(self.value(name)?).ok_or(LineError(name))
    }

    /// The next line's value as a decimal number.
    pub fn number(&mut self, name: &'static str) -> Result<u64, LineError> {
        number(self.value(name)?).ok_or(LineError(name))
    }

    /// The next line's value as a decimal number below 2^32.
    pub fn small_number(&mut self, name: &'static str) -> Result<u32, LineError> {
        u32::try_from(self.number(name)?).or(Err(LineError(name)))
    }

    /// Nothing may follow.
    pub const fn end(self) -> Result<(), LineError> {
        if self.rest.is_empty() { Ok(()) } else { Err(LineError("end of text")) }
    }

    fn line(&mut self) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        Some(line)
    }
}

/// A decimal number without sign or leading zeros.
pub fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_order_and_to_the_end() {
        let mut lines = Lines::new("head\nsize 12\nname a b\n");
        assert_eq!(lines.header("head"), Ok(()));
        assert_eq!(lines.number("size"), Ok(12));
        assert_eq!(lines.value("name"), Ok("a b"));
        assert_eq!(lines.end(), Ok(()));
        assert_eq!(Lines::new("size 12").number("size"), Err(LineError("size")));
        assert_eq!(Lines::new("more").end(), Err(LineError("end of text")));
        for bad in ["+1", "01", "", "-0", "18446744073709551616"] {
            assert_eq!(number(bad), None, "{bad} must be refused");
        }
    }

    #[test]
    fn text_is_one_printable_line() {
        assert!(Text::parse("high 15").is_ok());
        let long = "x".repeat(LINE_TEXT_MAX_BYTES + 1);
        for bad in ["", " a", "a ", "a\nb", "é", "\u{7f}", long.as_str()] {
            assert!(Text::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
