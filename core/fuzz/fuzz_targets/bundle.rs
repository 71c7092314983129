//! A bundle or opening survives its own JSON, and verifying one never panics or passes without a key.
#![no_main]

use domicile_core::{
    bundle::{Bundle, Opening},
    verify::{Verdict, verify_bundle},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::parse(bytes) {
        let json = bundle.to_json().expect("a bundle is JSON");
        assert_eq!(Bundle::parse(json.as_bytes()).expect("its own JSON"), bundle);
        assert_eq!(verify_bundle(&bundle, None, &[]).verdict, Verdict::Failed);
    }
    if let Ok(opening) = Opening::parse(bytes) {
        let json = opening.to_json().expect("an opening is JSON");
        assert_eq!(Opening::parse(json.as_bytes()).expect("its own JSON"), opening);
    }
});
