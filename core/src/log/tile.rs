//! `tlog-tiles`: the paths under which a log's hashes and entries are read, and their bodies.
//!
//! Invariant: a path has one spelling – [`TilePath::parse`] accepts exactly what `Display` writes.
//! Deliberately absent: stored tiles. A tile is derived from rows when it is asked for.

use std::fmt::{self, Display};

use thiserror::Error;

use super::Hash;
use crate::limits::TILE_PATH_MAX_BYTES;

/// Hashes of a full hash tile, and entries of a full entry bundle.
pub const TILE_WIDTH: u64 = 256;
/// The highest tile level a tree of at most 2^63 leaves can have.
const MAX_LEVEL: u32 = 7;

/// A path that does not name a tile.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a tile path such as tile/0/x001/067 or tile/entries/000.p/5")]
pub struct InvalidTilePath;

/// An entry of more than 65535 bytes, which an entry bundle cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("an entry of a bundle is at most 65535 bytes")]
pub struct EntryTooLong;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TileKind {
    /// Hashes of stored level `0..=7`: leaf hashes, roots of 256 leaves, and so on.
    Hashes(u32),
    /// The entries themselves.
    Entries,
}

/// One tile: `tile/<level>/<index>[.p/<width>]` or `tile/entries/<index>[.p/<width>]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u64,
}

impl TilePath {
    /// A tile of `width` items (1–256; 256 is a full tile).
    pub fn new(kind: TileKind, index: u64, width: u64) -> Result<Self, InvalidTilePath> {
        let level_ok = !matches!(kind, TileKind::Hashes(level) if level > MAX_LEVEL);
        let fits =
            index.checked_mul(TILE_WIDTH).and_then(|first| first.checked_add(width)).is_some();
        if level_ok && fits && (1..=TILE_WIDTH).contains(&width) {
            Ok(Self { kind, index, width })
        } else {
            Err(InvalidTilePath)
        }
    }

    /// Parses the path below the log's address, without a leading slash.
    pub fn parse(path: &str) -> Result<Self, InvalidTilePath> {
        if path.len() > TILE_PATH_MAX_BYTES {
            return Err(InvalidTilePath);
        }
        let rest = path.strip_prefix("tile/").ok_or(InvalidTilePath)?;
        let (kind, rest) = rest.split_once('/').ok_or(InvalidTilePath)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => TileKind::Hashes(level.parse().map_err(invalid)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(invalid)?),
            None => (rest, TILE_WIDTH),
        };
        let mut number = 0u64;
        for group in index.split('/') {
            let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().map_err(invalid)?;
            number = number
                .checked_mul(1000)
                .and_then(|number| number.checked_add(digits))
                .ok_or(InvalidTilePath)?;
        }
        // Printing decides every detail of the grammar: padding, the `x` marks, `.p/256`, signs.
        Self::new(kind, number, width)
            .and_then(|tile| if tile.to_string() == path { Ok(tile) } else { Err(InvalidTilePath) })
    }

    /// What the tile holds.
    pub const fn kind(&self) -> TileKind {
        self.kind
    }

    /// The index of its first item (a leaf, or a stored node of its level).
    pub const fn first(&self) -> u64 {
        self.index.saturating_mul(TILE_WIDTH)
    }

    /// How many items it holds: 256 unless it is partial.
    pub const fn width(&self) -> u64 {
        self.width
    }

    /// Whether a tree of `size` leaves has all items of this tile.
    pub fn is_covered_by(&self, size: u64) -> bool {
        let level = match self.kind {
            TileKind::Hashes(level) => level,
            TileKind::Entries => 0,
        };
        let items = size.checked_shr(level.saturating_mul(8)).unwrap_or(0);
        self.first().saturating_add(self.width) <= items
    }
}

/// A number that does not parse has no more to say than that.
fn invalid(_: std::num::ParseIntError) -> InvalidTilePath {
    InvalidTilePath
}

impl Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = format!("{:03}", self.index % 1000);
        let mut left = self.index / 1000;
        while left > 0 {
            groups = format!("x{:03}/{groups}", left % 1000);
            left /= 1000;
        }
        f.write_str(&groups)?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// The body of a hash tile.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// The body of an entry bundle: each entry behind its length (2 bytes, big endian).
pub fn encode_entries<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, EntryTooLong> {
    let mut body = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let Ok(length_bytes) = u16::try_from(entry.len()) else { return Err(EntryTooLong) };
        body.extend(length_bytes.to_be_bytes());
        body.extend(entry);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_have_the_published_form() {
        let path = |kind, index, width| TilePath::new(kind, index, width).unwrap().to_string();
        assert_eq!(path(TileKind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(TileKind::Hashes(1), 0, 5), "tile/1/000.p/5");
        assert_eq!(path(TileKind::Entries, 1000, 256), "tile/entries/x001/000");
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/+0/000",
            "tile/8/000",
            "tile/-1/000",
            "tile/0/x000/000",
            "tile/0/x001",
            "tile/0/001/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/05",
            "tile/0/000.p/",
            "tile/0/000.p/1/2",
            "/tile/0/000",
            "tile/0/000/",
            "tile/entry/000",
            "tile/0/x018/x446/x744/x073/x709/x551/615",
            "tile/0/+01",
            "tile/0/xx01/000",
        ] {
            assert!(TilePath::parse(bad).is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn a_partial_tile_exists_from_its_size_on() {
        let tile = TilePath::parse("tile/1/000.p/5").unwrap();
        assert!(!tile.is_covered_by(5 * 256 - 1) && tile.is_covered_by(5 * 256));
        let entries = TilePath::parse("tile/entries/001").unwrap();
        assert_eq!((entries.first(), entries.width()), (256, 256));
        assert!(!entries.is_covered_by(511) && entries.is_covered_by(512));
    }

    #[test]
    fn entries_are_length_prefixed() {
        assert_eq!(encode_entries(&["ab", ""]), Ok(vec![0, 2, b'a', b'b', 0, 0]));
        assert_eq!(encode_entries(&[vec![0; 65_536]]), Err(EntryTooLong));
        assert_eq!(encode_hashes(&[[1; 32], [2; 32]]).len(), 64);
    }

    proptest! {
        #[test]
        fn paths_agree_with_tlog_tiles(level in 0u8..8, index in 0u64..1 << 48, width in 1u32..=256) {
            let ours = TilePath::new(TileKind::Hashes(level.into()), index, width.into()).unwrap();
            let theirs = tlog_tiles::Tile::new(8, level, index, width, false);
            // That crate writes the tile height first: tile/8/<level>/…
            prop_assert_eq!(ours.to_string().replacen("tile/", "tile/8/", 1), theirs.path());
            prop_assert_eq!(TilePath::parse(&ours.to_string()), Ok(ours));
        }

        #[test]
        fn parsing_never_panics_and_is_exact(path in "(tile/)?(entries|[0-9]{1,2})?/?[x0-9/.p]{0,24}") {
            if let Ok(tile) = TilePath::parse(&path) {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }
}
