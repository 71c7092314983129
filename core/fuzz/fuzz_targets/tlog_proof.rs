//! A proof has one spelling, and checking it never panics.
#![no_main]

use domicile_core::{
    log::{leaf_hash, proof::verify_inclusion},
    tlog_proof::TlogProof,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(proof.encode(), text);
        let leaf = leaf_hash(text.as_bytes());
        let size = proof.index.saturating_add(1);
        assert!(verify_inclusion(proof.index, size, &leaf, &proof.path, &[0; 32]).is_err());
    }
});
