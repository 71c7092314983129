//! A receipt has one spelling.
#![no_main]

use domicile_core::receipt::Receipt;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(receipt) = Receipt::parse(text) {
        assert_eq!(receipt.encode(), text);
    }
});
