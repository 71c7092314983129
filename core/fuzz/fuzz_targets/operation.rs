//! An entry of the operations log is refused, or read and written back to the same bytes.
#![no_main]

use domicile_core::operation::Operation;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(operation) = Operation::parse(text) {
        assert_eq!(operation.encode(), text);
    }
});
