//! No flipped bit of a bundle or an opening is accepted, unless the file still says the very same.

use domicile_core::{
    bundle::{Bundle, Opening},
    verify::{Verdict, verify_bundle},
};
use proptest::prelude::*;

use crate::draft::{Draft, Keys};

/// Every variant of the bytes with one bit flipped.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn no_flipped_bit_of_a_bundle_is_accepted() {
    let keys = Keys::new();
    for draft in [Draft::settled(), Draft::played()] {
        let (bundle, opening) = draft.seal(&keys);
        for flipped in flips(bundle.to_json().unwrap().as_bytes()) {
            let Ok(read) = Bundle::parse(&flipped) else { continue };
            let verdict = verify_bundle(&read, Some(&opening), &keys.pinned()).verdict;
            assert!(verdict == Verdict::Failed || read == bundle, "{read:?}");
        }
    }
}

#[test]
fn no_flipped_bit_of_an_opening_is_accepted() {
    let keys = Keys::new();
    for draft in [Draft::settled(), Draft::played()] {
        let (bundle, opening) = draft.seal(&keys);
        for flipped in flips(opening.to_json().unwrap().as_bytes()) {
            let Ok(read) = Opening::parse(&flipped) else { continue };
            let verdict = verify_bundle(&bundle, Some(&read), &keys.pinned()).verdict;
            assert!(verdict == Verdict::Failed || read == opening, "{}", read.record);
        }
    }
}

#[test]
fn files_are_read_strictly() {
    let (bundle, opening) = Draft::settled().seal(&Keys::new());
    let bundle = bundle.to_json().unwrap();
    for bad in [
        bundle.replacen('{', "{\"more\":1,", 1),
        bundle.replace("domicile/bundle/v1", "domicile/bundle/v2"),
        bundle.replace("\"kind\":\"round\",", ""),
        bundle.replacen("\"kind\"", "\"kind\":\"round\",\"kind\"", 1),
        bundle.clone() + "{}",
        bundle.clone() + &" ".repeat(1024 * 1024),
        "[".repeat(100_000),
    ] {
        assert!(Bundle::parse(bad.as_bytes()).is_err());
    }
    let opening = opening.to_json().unwrap();
    for bad in [
        opening.replacen('{', "{\"more\":1,", 1),
        opening.replacen("5a5a", "5A5a", 1),
        opening.replace("\"payout_micro\":", "\"payout_micro\":-"),
        opening.replacen("=\"", "\"", 1),
    ] {
        assert!(bad != opening && Opening::parse(bad.as_bytes()).is_err());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at: usize, cut: usize) {
        prop_assert!(Bundle::parse(&bytes).is_err());
        prop_assert!(Opening::parse(&bytes).is_err());
        // A damaged file: some bytes replaced in the middle, or the end missing.
        let (bundle, _) = Draft::played().seal(&Keys::new());
        let mut json = bundle.to_json().unwrap().into_bytes();
        let at = at % json.len();
        let until = (at + bytes.len()).min(json.len());
        json.splice(at..until, bytes);
        json.truncate(json.len() - cut % 16);
        if let Ok(read) = Bundle::parse(&json) {
            let verdict = verify_bundle(&read, None, &Keys::new().pinned()).verdict;
            prop_assert!(verdict == Verdict::Failed || read == bundle);
        }
    }
}
