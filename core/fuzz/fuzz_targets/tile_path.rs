//! A tile path has one spelling.
#![no_main]

use domicile_core::log::tile::TilePath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    if let Ok(tile) = TilePath::parse(path) {
        assert_eq!(tile.to_string(), path);
        assert!((1..=256).contains(&tile.width()));
    }
});
