//! Tests of the log against an implementation we did not write, and against flipped bits.

use proptest::prelude::*;
use tlog_tiles::{HashReader, check_record, check_tree, prove_record, prove_tree, tree_hash};

use super::{
    Hash,
    frontier::Frontier,
    leaf_hash, node_hash,
    proof::{ProofError, ProofPlan, verify_consistency, verify_inclusion},
};

/// The other implementation's storage: every hash of the tree by its stored index.
struct Stored(Vec<tlog_tiles::Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

fn entry(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn leaves(size: u64) -> Vec<Hash> {
    (0..size).map(|n| leaf_hash(&entry(n))).collect()
}

fn stored(size: u64) -> Stored {
    let mut hashes = Stored(Vec::new());
    for n in 0..size {
        let more = tlog_tiles::stored_hashes(n, &entry(n), &hashes).unwrap();
        hashes.0.extend(more);
    }
    hashes
}

fn root(leaves: &[Hash]) -> Hash {
    leaves.iter().copied().collect::<Frontier>().root()
}

fn inclusion(index: u64, leaves: &[Hash]) -> Vec<Hash> {
    let mut source = leaves;
    ProofPlan::inclusion(index, leaves.len() as u64).unwrap().assemble(&mut source).unwrap()
}

fn consistency(old_size: u64, leaves: &[Hash]) -> Vec<Hash> {
    let mut source = leaves;
    ProofPlan::consistency(old_size, leaves.len() as u64).unwrap().assemble(&mut source).unwrap()
}

fn theirs(hashes: &[Hash]) -> Vec<tlog_tiles::Hash> {
    hashes.iter().map(|hash| tlog_tiles::Hash(*hash)).collect()
}

fn ours(hashes: Vec<tlog_tiles::Hash>) -> Vec<Hash> {
    hashes.into_iter().map(|hash| hash.0).collect()
}

/// Every hash of the list with each of its bits flipped, one at a time.
fn flips(hashes: &[Hash]) -> impl Iterator<Item = Vec<Hash>> + '_ {
    (0..hashes.len() * 256).map(|bit| {
        let mut flipped = hashes.to_vec();
        flipped[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
        flipped
    })
}

#[test]
fn leaf_and_node_hashes_agree() {
    assert_eq!(leaf_hash(b"abc"), tlog_tiles::record_hash(b"abc").0);
    let (left, right) = (leaf_hash(b"a"), leaf_hash(b"b"));
    let node = tlog_tiles::node_hash(tlog_tiles::Hash(left), tlog_tiles::Hash(right));
    assert_eq!(node_hash(&left, &right), node.0);
}

#[test]
fn every_proof_of_small_trees_agrees() {
    let all = leaves(70);
    let stored = stored(70);
    for size in 1..=70u64 {
        let tree = &all[..usize::try_from(size).unwrap()];
        let tree_root = root(tree);
        assert_eq!(tree_root, tree_hash(size, &stored).unwrap().0);
        for index in 0..size {
            let path = inclusion(index, tree);
            assert_eq!(path, ours(prove_record(size, index, &stored).unwrap()), "{index}/{size}");
            let leaf = &tree[usize::try_from(index).unwrap()];
            assert_eq!(verify_inclusion(index, size, leaf, &path, &tree_root), Ok(()));
        }
        for old in 1..=size {
            let path = consistency(old, tree);
            assert_eq!(path, ours(prove_tree(size, old, &stored).unwrap()), "{old}/{size}");
            let old_root = root(&all[..usize::try_from(old).unwrap()]);
            assert_eq!(verify_consistency(old, size, &old_root, &tree_root, &path), Ok(()));
        }
    }
}

#[test]
fn the_edges_of_the_definition() {
    let empty = root(&[]);
    let one = leaf_hash(b"one");
    assert_eq!(verify_consistency(0, 0, &empty, &empty, &[]), Ok(()));
    assert_eq!(verify_consistency(0, 9, &empty, &one, &[]), Ok(()));
    assert_eq!(verify_consistency(0, 9, &one, &one, &[]), Err(ProofError::Mismatch));
    assert_eq!(verify_consistency(9, 9, &one, &one, &[one]), Err(ProofError::Length));
    assert_eq!(verify_consistency(9, 9, &one, &empty, &[]), Err(ProofError::Mismatch));
    assert_eq!(verify_consistency(2, 1, &one, &one, &[]), Err(ProofError::OutOfRange));
    assert_eq!(verify_consistency(3, 4, &one, &one, &[]), Err(ProofError::Length));
    assert_eq!(verify_inclusion(0, 1, &one, &[], &one), Ok(()));
    assert_eq!(verify_inclusion(0, 0, &one, &[], &one), Err(ProofError::OutOfRange));
    assert_eq!(verify_inclusion(1, 1, &one, &[], &one), Err(ProofError::OutOfRange));
    assert_eq!(verify_inclusion(0, u64::MAX, &one, &[], &one), Err(ProofError::OutOfRange));
    assert!(ProofPlan::inclusion(3, 3).is_err() && ProofPlan::consistency(4, 3).is_err());
    assert_eq!(ProofPlan::inclusion(0, u64::MAX), Err(ProofError::OutOfRange));
}

#[test]
fn huge_trees_are_planned_within_limits() {
    let size = i64::MAX as u64;
    let plan = ProofPlan::inclusion(size / 3, size).unwrap();
    assert!(plan.subtrees().count() <= 64 * 64);
    for subtree in plan.subtrees() {
        assert!((subtree.index + 1) << subtree.level <= size);
        assert!(super::node::rows_of(subtree).count <= 128);
    }
}

#[test]
fn no_flipped_bit_is_accepted() {
    let all = leaves(45);
    let tree_root = root(&all);
    let old_root = root(&all[..21]);
    let path = inclusion(20, &all);
    for flipped in flips(&path) {
        assert!(verify_inclusion(20, 45, &all[20], &flipped, &tree_root).is_err());
    }
    for flipped in flips(&[all[20], tree_root]) {
        assert!(verify_inclusion(20, 45, &flipped[0], &path, &flipped[1]).is_err());
    }
    let path = consistency(21, &all);
    for flipped in flips(&path) {
        assert!(verify_consistency(21, 45, &old_root, &tree_root, &flipped).is_err());
    }
    for flipped in flips(&[old_root, tree_root]) {
        assert!(verify_consistency(21, 45, &flipped[0], &flipped[1], &path).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_trees_agree(size in 1u64..2000, a: u64, b: u64) {
        let (index, old) = (a % size, b % size + 1);
        let all = leaves(size);
        let (tree_root, old_root) = (root(&all), root(&all[..usize::try_from(old).unwrap()]));
        let path = inclusion(index, &all);
        let leaf = all[usize::try_from(index).unwrap()];
        prop_assert!(check_record(
            &theirs(&path),
            size,
            tlog_tiles::Hash(tree_root),
            index,
            tlog_tiles::Hash(leaf),
        ).is_ok());
        prop_assert_eq!(verify_inclusion(index, size, &leaf, &path, &tree_root), Ok(()));
        let path = consistency(old, &all);
        prop_assert!(check_tree(
            &theirs(&path),
            size,
            tlog_tiles::Hash(tree_root),
            old,
            tlog_tiles::Hash(old_root),
        ).is_ok());
        prop_assert_eq!(verify_consistency(old, size, &old_root, &tree_root, &path), Ok(()));
    }

    #[test]
    fn a_proof_fits_one_position_only(
        size in 2u64..300, a: u64, b: u64, other in 0u64..300, other_size in 1u64..300,
    ) {
        let (index, old) = (a % size, b % size + 1);
        let all = leaves(size);
        let (tree_root, old_root) = (root(&all), root(&all[..usize::try_from(old).unwrap()]));
        let leaf = all[usize::try_from(index).unwrap()];
        let mut path = inclusion(index, &all);
        if other != index {
            prop_assert!(verify_inclusion(other, size, &leaf, &path, &tree_root).is_err());
        }
        // A longer or shorter path never fits.
        path.push([0; 32]);
        prop_assert!(verify_inclusion(index, size, &leaf, &path, &tree_root).is_err());
        path.truncate(path.len() - 2);
        prop_assert!(verify_inclusion(index, size, &leaf, &path, &tree_root).is_err());
        // Nor does a fork pass for an extension.
        let mut fork = all.clone();
        fork[usize::try_from(old - 1).unwrap()] = [0; 32];
        let path = consistency(old, &fork);
        prop_assert!(verify_consistency(old, size, &old_root, &root(&fork), &path).is_err());
        let path = consistency(old, &all);
        if other_size != old && old != size {
            prop_assert!(
                verify_consistency(other_size, size, &old_root, &tree_root, &path).is_err()
            );
        }
    }

    #[test]
    fn arbitrary_paths_never_panic(
        index: u64, size: u64, path in prop::collection::vec(any::<Hash>(), 0..70), hash: Hash,
    ) {
        prop_assert!(verify_inclusion(index, size, &hash, &path, &[0; 32]).is_err());
        prop_assert!(verify_consistency(index, size, &hash, &[0; 32], &path).is_err());
    }
}
