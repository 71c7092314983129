//! A bet record has one spelling.
#![no_main]

use domicile_core::record::BetRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(record) = BetRecord::parse(text) {
        assert_eq!(record.encode(), text);
    }
});
