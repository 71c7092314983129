//! A note opens only with a pinned key's signature, which no fuzzer can make.
#![no_main]

use domicile_core::note::{SigningKey, VerifierKey, open};
use libfuzzer_sys::fuzz_target;

const PINNED: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

fuzz_target!(|text: &str| {
    let pinned = VerifierKey::parse(PINNED).expect("the key of Go's example");
    assert!(open(text, &[pinned]).is_err() || text.starts_with("If you think cryptography"));
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    drop(SigningKey::from_text(text));
});
