//! Rows of a log's tree in memory: neighbouring proofs share them, and the replica is asked for each once.
//!
//! Invariants: only rows below the verified head are kept, and a log only appends, so what was read stays
//! right; still nothing is trusted for being here: who makes a proof of it verifies that against a signed
//! root, and calls [`Tiles::forget`] when it does not hold. Memory is bounded in bytes per log.

use crate::store::{LogId, Store};
use domicile_core::log::proof::{HashSource, Missing};
use domicile_core::log::{Hash, Subtree, node_hash};
use domicile_postgres::Error;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Binary levels of a tile: 256 = 2^8 rows of one stored level.
const TILE_LEVELS: u32 = 8;
/// Rows of a complete tile.
const TILE_ROWS: u64 = 1 << TILE_LEVELS;
/// Memory for the tiles of one log, in bytes: a million leaves.
const TILES_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Tiles expected: sizes the cache's tables.
const TILES_EXPECTED: usize = 4_096;
/// Tiles of one log that are read at the same time, at most.
const LOADS_AT_ONCE: usize = 8;

/// Which tile: a stored level (0 for leaves) and a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct TileId {
    level: u32,
    index: u64,
}

/// The first rows of a tile, and above them the roots of the complete subtrees over them.
#[derive(Debug, Clone, Default)]
struct Tile {
    levels: [Vec<Hash>; TILE_LEVELS as usize + 1],
}

impl Tile {
    fn push(&mut self, row: Hash) {
        let mut hash = row;
        for level in &mut self.levels {
            level.push(hash);
            match level.as_chunks::<2>() {
                (pairs, []) => match pairs.last() {
                    Some([left, right]) => hash = node_hash(left, right),
                    None => return,
                },
                _ => return,
            }
        }
    }

    fn rows(&self) -> u64 {
        let [rows, ..] = &self.levels;
        u64::try_from(rows.len()).unwrap_or(u64::MAX)
    }

    fn root(&self, place: Place) -> Option<Hash> {
        let level = self.levels.get(usize::try_from(place.height).ok()?)?;
        level.get(usize::try_from(place.index).ok()?).copied()
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<TileId, Arc<Tile>> for ByBytes {
    fn weight(&self, _: &TileId, tile: &Arc<Tile>) -> u64 {
        let hashes: usize = tile.levels.iter().map(Vec::len).sum();
        u64::try_from((hashes + 1) * size_of::<Hash>()).unwrap_or(u64::MAX)
    }
}

/// A subtree's place in its tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    height: u32,
    index: u64,
}

impl Place {
    fn of(subtree: Subtree) -> (TileId, Self) {
        let height = subtree.level % TILE_LEVELS;
        let across = TILE_LEVELS - height;
        let id = TileId { level: subtree.level / TILE_LEVELS, index: subtree.index >> across };
        (id, Self { height, index: subtree.index & ((1 << across) - 1) })
    }

    /// How many rows its tile must have at least.
    fn rows(self) -> u64 {
        (self.index + 1) << self.height
    }
}

/// The tiles of one log.
pub struct Tiles {
    store: Store,
    log: LogId,
    kept: Cache<TileId, Arc<Tile>, ByBytes>,
    /// One reads a tile and all others who want it wait for that.
    loading: [Mutex<()>; LOADS_AT_ONCE],
}

impl Tiles {
    /// Reads through `store`.
    pub fn new(store: Store, log: LogId) -> Self {
        let kept = Cache::with_weighter(TILES_EXPECTED, TILES_MAX_BYTES, ByBytes);
        Self { store, log, kept, loading: Default::default() }
    }

    /// The tiles that hold the `wanted` subtrees of the tree of `size` leaves, which must be verified here.
    pub async fn holding(
        &self,
        wanted: impl Iterator<Item = Subtree>,
        size: u64,
    ) -> Result<Held, Error> {
        let mut needed: Vec<(TileId, u64)> = Vec::new();
        for (id, place) in wanted.map(Place::of) {
            match needed.iter_mut().find(|(known, _)| *known == id) {
                Some((_, rows)) => *rows = place.rows().max(*rows),
                None => needed.push((id, place.rows())),
            }
        }
        let mut held = Vec::with_capacity(needed.len());
        for (id, rows) in needed {
            held.push((id, self.tile(id, rows, size).await?));
        }
        Ok(Held(held))
    }

    /// Forgets everything: a proof made of it did not hold.
    pub fn forget(&self) {
        self.kept.clear();
    }

    async fn tile(&self, id: TileId, rows: u64, size: u64) -> Result<Arc<Tile>, Error> {
        let known = || self.kept.get(&id).filter(|tile| tile.rows() >= rows);
        if let Some(tile) = known() {
            return Ok(tile);
        }
        let number = usize::try_from(id.index).unwrap_or(0) % LOADS_AT_ONCE;
        let _turn = match self.loading.get(number) {
            Some(loading) => Some(loading.lock().await),
            None => None,
        };
        if let Some(tile) = known() {
            return Ok(tile);
        }
        metrics::counter!("domicile_reader_tiles_read_total").increment(1);
        let mut tile = self.kept.get(&id).map_or_else(Tile::default, |tile| Tile::clone(&tile));
        let first = id.index.saturating_mul(TILE_ROWS);
        let complete = size.checked_shr(id.level.saturating_mul(TILE_LEVELS)).unwrap_or(0);
        let (from, to) = (first + tile.rows(), complete.min(first + TILE_ROWS));
        for row in self.store.tree_rows(&self.log, id.level, from, to).await? {
            tile.push(row);
        }
        let tile = Arc::new(tile);
        self.kept.insert(id, Arc::clone(&tile));
        Ok(tile)
    }
}

/// Tiles in hand: hashes for proofs.
pub struct Held(Vec<(TileId, Arc<Tile>)>);

impl HashSource for &Held {
    type Error = Missing;

    fn subtree(&mut self, subtree: Subtree) -> Result<Hash, Missing> {
        let (wanted, place) = Place::of(subtree);
        let tile = self.0.iter().find(|(id, _)| *id == wanted);
        tile.and_then(|(_, tile)| tile.root(place)).ok_or(Missing(subtree))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_core::log::frontier::Frontier;
    use domicile_core::log::leaf_hash;
    use domicile_core::log::node::append;
    use domicile_core::log::proof::{ProofPlan, verify_inclusion};
    use std::collections::HashMap;

    #[test]
    fn proofs_made_of_tiles_lead_to_the_root() {
        let (mut frontier, mut tiles) = (Frontier::new(), HashMap::<TileId, Tile>::new());
        let mut put = |level: u32, n: u64, hash: Hash| {
            let tile = tiles.entry(TileId { level, index: n / TILE_ROWS }).or_default();
            assert_eq!(tile.rows(), n % TILE_ROWS, "rows come in order");
            tile.push(hash);
        };
        let size = 66_100_u64;
        let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for (leaf, n) in leaves.iter().zip(0..) {
            put(0, n, *leaf);
            for node in append(&mut frontier, [*leaf]) {
                put(node.level, node.index, node.hash);
            }
        }
        let held = Held(tiles.into_iter().map(|(id, tile)| (id, Arc::new(tile))).collect());
        let root = frontier.root();
        for index in (0..size).step_by(331).chain([0, 255, 256, 65_535, 65_536, size - 1]) {
            let plan = ProofPlan::inclusion(index, size).unwrap();
            let path = plan.assemble(&mut &held).unwrap();
            let leaf = &leaves[usize::try_from(index).unwrap()];
            verify_inclusion(index, size, leaf, &path, &root).unwrap();
        }
    }

    #[test]
    fn a_subtree_beyond_the_rows_is_missing() {
        let mut tile = Tile::default();
        for n in 0..3_u8 {
            tile.push([n; 32]);
        }
        let held = Held(vec![(TileId { level: 0, index: 0 }, Arc::new(tile))]);
        let root = |level, index| (&mut &held).subtree(Subtree { level, index });
        assert_eq!(root(0, 2).unwrap(), [2; 32]);
        assert_eq!(root(1, 0).unwrap(), node_hash(&[0; 32], &[1; 32]));
        for (level, index) in [(0, 3), (1, 1), (2, 0), (0, 256), (8, 0)] {
            assert!(root(level, index).is_err(), "{level} {index}");
        }
        assert_eq!(Place::of(Subtree { level: 3, index: 40 }).1.rows(), 72);
    }
}
