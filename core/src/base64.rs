//! Base64 (RFC 4648 §4, padded) in its one canonical spelling.
//!
//! Invariant: [`decode`] refuses unused trailing bits that are not zero and missing or surplus padding.
//! A lenient decoder would accept several texts for one proof, and a flipped bit would go unnoticed.

use ::base64::{Engine as _, engine::general_purpose::STANDARD};

/// The bytes as canonical base64.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes behind a canonical base64 text; nothing for any other text.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok().filter(|bytes| encode(bytes) == text)
}

/// 32 bytes from a canonical base64 text.
pub fn decode_32(text: &str) -> Option<[u8; 32]> {
    decode(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_accepted() {
        assert_eq!(decode("AA=="), Some(vec![0]));
        for bad in ["AB==", "AA", "AA=", "AA===", "AA==\n", "A A=", "_-==", "AAA"] {
            assert_eq!(decode(bad), None, "{bad} must be refused");
        }
    }
}
