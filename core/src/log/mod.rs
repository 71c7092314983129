//! The Merkle log: RFC 6962 with SHA-256, as the C2SP transparency-log formats use it.
//!
//! - [`frontier`]: the right edge of a tree, enough to append to it and to compute its root.
//! - [`proof`]: inclusion and consistency proofs – which hashes they need, their assembly, their check.
//! - [`node`]: how stored rows (leaf hashes, one hash per complete 256^level subtree) yield any subtree.
//! - [`tile`]: the paths and bodies of `tlog-tiles`.
//!
//! Deliberately absent: storage. Callers fetch rows; this code says which ones and what they mean.

pub mod frontier;
pub mod node;
#[cfg(test)]
mod oracle;
pub mod proof;
pub mod tile;

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The largest tree this code handles, in leaves: what a Postgres `bigint` can count.
pub const MAX_TREE_SIZE_LEAVES: u64 = i64::MAX as u64;

/// The hash of one log entry: SHA-256(0x00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(entry).finalize().into()
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([0x01]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of a tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// A complete binary subtree: the leaves `index << level .. (index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtree {
    /// Height: the subtree has 2^level leaves.
    pub level: u32,
    /// Position among the subtrees of this level, from the left.
    pub index: u64,
}

/// The complete subtrees, left to right, that together are the leaves `start..end`.
///
/// `start` must be a multiple of the largest power of two that is not above `end - start`, which
/// holds for every subtree of an RFC 6962 tree.
fn decompose(start: u64, end: u64) -> Vec<Subtree> {
    let mut subtrees = Vec::new();
    let mut at = start;
    while let Some(level) = end.saturating_sub(at).checked_ilog2() {
        subtrees.push(Subtree { level, index: at >> level });
        at = at.saturating_add(1 << level);
    }
    subtrees
}

/// The root over adjacent complete subtrees, left to right, as [`decompose`] lists them.
fn fold_root(hashes: &[Hash]) -> Hash {
    let mut from_right = hashes.iter().rev();
    let Some(last) = from_right.next() else { return empty_root() };
    from_right.fold(*last, |right, left| node_hash(left, &right))
}
