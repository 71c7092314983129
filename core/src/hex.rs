//! Lower-case hexadecimal, one spelling per value: what leaves and records are written in.

use std::fmt::Write as _;

/// The bytes as lower-case hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

/// Exactly 32 bytes from exactly 64 lower-case digits; anything else is `None`.
pub fn decode_32(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pairs: &[[u8; 2]; 32] = pairs.try_into().ok().filter(|_| rest.is_empty())?;
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_spelling_is_read() {
        let text = "00ff".repeat(16);
        assert_eq!(decode_32(&text).map(|b| encode(&b)), Some(text.clone()));
        for bad in [
            text.to_uppercase().as_str(),
            text.trim_start_matches('0'),
            &format!("{text}0"),
            &format!("{text}00"),
        ] {
            assert_eq!(decode_32(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_value_round_trips(bytes: [u8; 32]) {
            prop_assert_eq!(decode_32(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,70}") {
            prop_assert!(decode_32(&text).is_none_or(|bytes| encode(&bytes) == text));
        }
    }
}
