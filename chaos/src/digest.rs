//! The fingerprint of an effect: the same over what a client was told and over what a database row shows.

use domicile_core::hex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// SHA-256 of bytes, as hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// SHA-256 over the named fields of a document, each with its name and length, absent ones as null.
pub fn fields(document: &Value, names: &[&str]) -> String {
    let mut text = String::new();
    for name in names {
        let value = document.get(name).unwrap_or(&Value::Null).to_string();
        writeln!(text, "{name} {} {value}", value.len()).ok();
    }
    sha256(text.as_bytes())
}

/// What a play's answer and row agree in.
pub const PLAY: [&str; 5] = ["round", "bet", "outcome", "payout_micro", "receipt"];
/// What a shared round's bet agrees in; its payout comes later.
pub const BET: [&str; 3] = ["round", "bet", "receipt"];
/// What an opened round agrees in.
pub const ROUND: [&str; 3] = ["round", "game", "commitment"];
/// What a closed round agrees in.
pub const CLOSED: [&str; 1] = ["round"];
/// What a settled round agrees in.
pub const SETTLED: [&str; 2] = ["round", "outcome"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_named_fields_count_and_neighbours_do_not_run_together() {
        let told = json!({"round": "1", "bet": "2", "receipt": "r", "seed": "s"});
        let row = json!({"round": "1", "bet": "2", "receipt": "r", "tag": "t"});
        assert_eq!(fields(&told, &BET), fields(&row, &BET));
        let other = json!({"round": "1", "bet": "2", "receipt": "q"});
        assert_ne!(fields(&told, &BET), fields(&other, &BET));
        assert_ne!(
            fields(&json!({"a": "1"}), &["a", "b"]),
            fields(&json!({"b": "1"}), &["a", "b"])
        );
    }
}
