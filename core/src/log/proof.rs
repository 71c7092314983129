//! Inclusion and consistency proofs: planned, assembled, checked.
//!
//! A [`ProofPlan`] names the complete subtrees whose hashes a proof is made of, so that a caller can fetch
//! them all at once. The checks follow RFC 9162 §2.1.3.2 and §2.1.4.2 and use every hash of the path
//! exactly once, so a proof has one form.

use std::collections::HashMap;
use std::hash::BuildHasher;

use thiserror::Error;

use super::{Hash, MAX_TREE_SIZE_LEAVES, Subtree, decompose, empty_root, fold_root, node_hash};

/// Why a proof cannot be made or is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The index lies outside the tree, the sizes are in the wrong order, or the tree is too large.
    #[error("the index or the sizes do not describe a proof")]
    OutOfRange,
    /// The path has the wrong number of hashes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The path does not lead to the root.
    #[error("the proof does not lead to the root")]
    Mismatch,
}

/// Where the hashes of complete subtrees come from.
pub trait HashSource {
    /// What can go wrong.
    type Error;
    /// The root of a complete subtree.
    fn subtree(&mut self, subtree: Subtree) -> Result<Hash, Self::Error>;
}

/// A subtree whose hash is not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the hash of {0:?} is missing")]
pub struct Missing(pub Subtree);

/// Subtrees that were fetched beforehand.
impl<S: BuildHasher> HashSource for HashMap<Subtree, Hash, S> {
    type Error = Missing;
    fn subtree(&mut self, subtree: Subtree) -> Result<Hash, Missing> {
        self.get(&subtree).copied().ok_or(Missing(subtree))
    }
}

/// A tree small enough to be kept as its leaf hashes.
impl HashSource for &[Hash] {
    type Error = ProofError;
    fn subtree(&mut self, subtree: Subtree) -> Result<Hash, ProofError> {
        let count = 1usize.checked_shl(subtree.level).ok_or(ProofError::OutOfRange)?;
        usize::try_from(subtree.index)
            .ok()
            .and_then(|index| index.checked_mul(count))
            .and_then(|first| self.get(first..first.checked_add(count)?))
            .and_then(super::node::fold_rows)
            .ok_or(ProofError::OutOfRange)
    }
}

/// Which complete subtrees a proof is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofPlan {
    /// For each hash of the path, the subtrees it is the root of.
    path: Vec<Vec<Subtree>>,
}

impl ProofPlan {
    /// Plans the inclusion proof of a leaf in the tree of `size` leaves.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, ProofError> {
        if index >= size || size > MAX_TREE_SIZE_LEAVES {
            return Err(ProofError::OutOfRange);
        }
        let (mut start, mut end) = (0, size);
        let mut path = Vec::new();
        while let Some(middle) = split(start, end) {
            if index < middle {
                path.push(decompose(middle, end));
                end = middle;
            } else {
                path.push(decompose(start, middle));
                start = middle;
            }
        }
        path.reverse();
        Ok(Self { path })
    }

    /// Plans the proof that the tree of `new_size` leaves begins with the tree of `old_size` leaves.
    pub fn consistency(old_size: u64, new_size: u64) -> Result<Self, ProofError> {
        if old_size > new_size || new_size > MAX_TREE_SIZE_LEAVES {
            return Err(ProofError::OutOfRange);
        }
        let (mut start, mut end) = (0, new_size);
        let mut path = Vec::new();
        if old_size == 0 || old_size == new_size {
            return Ok(Self { path });
        }
        // Walk down to the subtree in which the old tree ends.
        while end != old_size {
            let Some(middle) = split(start, end) else { break };
            if old_size <= middle {
                path.push(decompose(middle, end));
                end = middle;
            } else {
                path.push(decompose(start, middle));
                start = middle;
            }
        }
        // The verifier knows the old root; any other subtree at the old edge must be told.
        if start != 0 {
            path.push(decompose(start, end));
        }
        path.reverse();
        Ok(Self { path })
    }

    /// Every subtree needed, in path order, each exactly once.
    pub fn subtrees(&self) -> impl Iterator<Item = Subtree> + '_ {
        self.path.iter().flatten().copied()
    }

    /// The proof, from the hashes of its subtrees.
    pub fn assemble<S: HashSource>(&self, source: &mut S) -> Result<Vec<Hash>, S::Error> {
        let root = |subtrees: &Vec<Subtree>| {
            let hashes: Result<Vec<Hash>, S::Error> =
                subtrees.iter().map(|subtree| source.subtree(*subtree)).collect();
            hashes.map(|hashes| fold_root(&hashes))
        };
        self.path.iter().map(root).collect()
    }
}

/// Where an RFC 6962 tree over `start..end` divides: after the largest power of two below its size.
fn split(start: u64, end: u64) -> Option<u64> {
    let level = end.saturating_sub(start).saturating_sub(1).checked_ilog2()?;
    Some(start.saturating_add(1 << level))
}

/// Checks that `leaf` (a leaf hash) is at `index` in the tree of `size` leaves with this root.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    path: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size || size > MAX_TREE_SIZE_LEAVES {
        return Err(ProofError::OutOfRange);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // At the right edge, levels without a sibling contribute nothing.
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Mismatch) }
}

/// Checks that the tree of `new_size` leaves begins with the tree of `old_size` leaves.
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    old_root: &Hash,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size || new_size > MAX_TREE_SIZE_LEAVES {
        return Err(ProofError::OutOfRange);
    }
    if old_size == 0 || old_size == new_size {
        let known = if old_size == new_size { *new_root } else { empty_root() };
        return match path {
            [] if *old_root == known => Ok(()),
            [] => Err(ProofError::Mismatch),
            _ => Err(ProofError::Length),
        };
    }
    // A complete old tree is a node of the new one: the path starts from its root.
    let (first, rest) = match path.split_first() {
        _ if old_size.is_power_of_two() => (old_root, path),
        Some(split) => split,
        None => return Err(ProofError::Length),
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::Mismatch) }
}
