//! The right edge of a tree: its size and the roots of its maximal complete subtrees.
//!
//! Invariant: there is one hash per set bit of the size, the largest subtree first; an edge is at most
//! 63 hashes whatever the size of the log. Appending needs nothing else.

use thiserror::Error;

use super::{Hash, MAX_TREE_SIZE_LEAVES, Subtree, decompose, fold_root, node_hash};

/// The right edge of a Merkle tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// One hash per set bit of `size`, most significant bit first.
    edge: Vec<Hash>,
}

/// Hashes that are not the right edge of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not the right edge of a tree: one hash per set bit of the size is needed")]
pub struct InvalidFrontier;

impl Frontier {
    /// The edge of the empty tree.
    pub const fn new() -> Self {
        Self { size: 0, edge: Vec::new() }
    }

    /// The edge of a tree of `size` leaves from the roots of [`Frontier::subtrees`] of that size.
    pub fn from_subtrees(size: u64, edge: Vec<Hash>) -> Result<Self, InvalidFrontier> {
        let wanted = usize::try_from(size.count_ones()).ok();
        if size <= MAX_TREE_SIZE_LEAVES && wanted == Some(edge.len()) {
            Ok(Self { size, edge })
        } else {
            Err(InvalidFrontier)
        }
    }

    /// Which complete subtrees make up the edge of a tree of `size` leaves, left to right.
    pub fn subtrees(size: u64) -> Vec<Subtree> {
        decompose(0, size)
    }

    /// The number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        fold_root(&self.edge)
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_observed(leaf, |_, _| ());
    }

    /// Appends a leaf and reports each subtree of two or more leaves that it completes, smallest first.
    pub fn push_observed(&mut self, leaf: Hash, mut completed: impl FnMut(Subtree, &Hash)) {
        let mut hash = leaf;
        for level in 1..=self.size.trailing_ones() {
            // There is one hash per set bit, so the pop succeeds for each trailing one.
            let Some(left) = self.edge.pop() else { break };
            hash = node_hash(&left, &hash);
            completed(Subtree { level, index: self.size >> level }, &hash);
        }
        self.edge.push(hash);
        self.size = self.size.saturating_add(1);
    }
}

impl Extend<Hash> for Frontier {
    fn extend<I: IntoIterator<Item = Hash>>(&mut self, leaves: I) {
        for leaf in leaves {
            self.push(leaf);
        }
    }
}

impl FromIterator<Hash> for Frontier {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut frontier = Self::new();
        frontier.extend(leaves);
        frontier
    }
}

#[cfg(test)]
mod tests {
    use super::super::{empty_root, leaf_hash};
    use super::*;

    /// RFC 6962 §2.1, word for word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let (left, right) = many.split_at(1 << (many.len() - 1).ilog2());
                node_hash(&root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    #[test]
    fn roots_follow_the_definition_at_every_size() {
        let leaves: Vec<Hash> = (0..300u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut frontier = Frontier::new();
        for size in 0..=leaves.len() {
            assert_eq!(frontier.root(), root_by_definition(&leaves[..size]), "size {size}");
            if let Some(leaf) = leaves.get(size) {
                frontier.push(*leaf);
            }
        }
    }

    #[test]
    fn an_edge_of_the_wrong_length_is_refused() {
        assert!(Frontier::from_subtrees(3, vec![[0; 32]]).is_err());
        assert!(Frontier::from_subtrees(u64::MAX, vec![[0; 32]; 64]).is_err());
    }
}
