//! Stored nodes: one row per leaf hash (level 0) and one per complete subtree of 256^level leaves.
//!
//! Invariant: rows are only ever inserted, each exactly once, in the transaction that completes them.
//! Every complete binary subtree is the fold of at most 128 neighbouring rows of one level.

use super::{Hash, Subtree, frontier::Frontier, node_hash};

/// Binary levels between two stored levels: 256 = 2^8.
const STORED_LEVEL_BITS: u32 = 8;

/// A stored node: the root of the `index`-th complete subtree of 256^level leaves. Level ≥ 1; level 0
/// is the leaf's own row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The stored level.
    pub level: u32,
    /// Position among the nodes of this level.
    pub index: u64,
    /// The subtree's root.
    pub hash: Hash,
}

/// Neighbouring stored rows of one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRange {
    /// The stored level: 0 for leaf rows.
    pub level: u32,
    /// Index of the first row.
    pub first: u64,
    /// How many rows: a power of two, at most 128.
    pub count: u64,
}

/// Appends leaves to the edge and returns the stored nodes that they complete, in order of completion.
pub fn append(frontier: &mut Frontier, leaves: impl IntoIterator<Item = Hash>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for leaf in leaves {
        frontier.push_observed(leaf, |subtree, hash| {
            if subtree.level.is_multiple_of(STORED_LEVEL_BITS) {
                let level = subtree.level / STORED_LEVEL_BITS;
                nodes.push(Node { level, index: subtree.index, hash: *hash });
            }
        });
    }
    nodes
}

/// The rows whose fold ([`fold_rows`]) is the root of the subtree.
pub const fn rows_of(subtree: Subtree) -> RowRange {
    let below = subtree.level % STORED_LEVEL_BITS;
    RowRange {
        level: subtree.level / STORED_LEVEL_BITS,
        first: subtree.index << below,
        count: 1 << below,
    }
}

/// The root over neighbouring rows; nothing unless their number is a power of two.
pub fn fold_rows(rows: &[Hash]) -> Option<Hash> {
    if !rows.len().is_power_of_two() {
        return None;
    }
    let mut level = rows.to_vec();
    while level.len() > 1 {
        let (pairs, _) = level.as_chunks::<2>();
        level = pairs.iter().map(|[left, right]| node_hash(left, right)).collect();
    }
    level.first().copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::leaf_hash;
    use super::*;

    #[test]
    fn every_edge_is_found_in_stored_rows() {
        let mut frontier = Frontier::new();
        let mut rows = BTreeMap::new();
        for size in 0..70_000u64 {
            let leaf = leaf_hash(&size.to_be_bytes());
            rows.insert((0, size), leaf);
            for node in append(&mut frontier, [leaf]) {
                assert!(node.level >= 1);
                assert!(rows.insert((node.level, node.index), node.hash).is_none(), "one row each");
            }
            if size % 997 == 0 || size == 65_535 {
                let edge = Frontier::subtrees(size + 1).into_iter().map(|subtree| {
                    let range = rows_of(subtree);
                    let hashes: Vec<Hash> = (range.first..range.first + range.count)
                        .map(|index| rows[&(range.level, index)])
                        .collect();
                    fold_rows(&hashes).unwrap()
                });
                assert_eq!(Frontier::from_subtrees(size + 1, edge.collect()).unwrap(), frontier);
            }
        }
        assert!(rows.contains_key(&(2, 0)) && rows.contains_key(&(1, 272)));
    }

    #[test]
    fn only_powers_of_two_fold() {
        assert_eq!(fold_rows(&[]), None);
        assert_eq!(fold_rows(&[[1; 32]; 3]), None);
        assert_eq!(fold_rows(&[[1; 32]]), Some([1; 32]));
    }
}
