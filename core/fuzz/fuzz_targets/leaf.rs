//! A leaf has one spelling.
#![no_main]

use domicile_core::leaf::Leaf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(leaf) = Leaf::parse(bytes) {
        assert_eq!(leaf.encode().as_bytes(), bytes);
    }
});
