//! The protocol that moves the writer, checked over every order of events within bounds; and seeded faults of the
//! design, each of which the same check must find.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod design;
mod steps;
mod world;

use design::{Bounds, Bug, Protocol};
use stateright::{Checker, HasDiscoveries, Model};

/// Two writes, one fault and two plans are enough for every seeded fault and for a failover with its failback.
const BOUNDS: Bounds = Bounds { writes: 2, faults: 1, plans: 2 };

#[test]
fn the_protocol_is_safe_and_gets_somewhere() {
    let checker = Protocol::new(None, BOUNDS).checker().threads(2).spawn_bfs().join();
    assert!(checker.unique_state_count() > 100_000, "the model has lost its actions");
    checker.assert_properties();
}

/// The check finds the fault, by breaking this property first.
fn assert_found(bug: Bug, property: &str) {
    let model = Protocol::new(Some(bug), BOUNDS);
    // One thread: the shortest way comes first, and the same one each time.
    let checker =
        model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries();
    assert!(found.contains_key(property), "{bug:?} breaks only {:?}", found.keys());
    let path = found[property].clone().into_actions();
    assert!(path.len() < 40, "a way there that nobody reads: {path:#?}");
}

const KEPT: &str = "every acknowledged write is on the writer";
const ALONE: &str = "at most one node acknowledges";

#[test]
fn a_cancelled_wait_that_counts_is_found() {
    assert_found(Bug::CancelledWaitCounts, KEPT);
}

#[test]
fn sync_turned_off_before_the_record_says_one_is_found() {
    assert_found(Bug::SyncOffBeforeRecord, KEPT);
}

#[test]
fn promotable_set_before_the_confirmation_is_found() {
    assert_found(Bug::PromotableBeforeConfirmed, KEPT);
}

#[test]
fn a_promotion_without_promotable_is_found() {
    assert_found(Bug::PromotesWithoutPromotable, KEPT);
}

#[test]
fn a_rejoin_without_rewind_is_found() {
    assert_found(Bug::RejoinsWithoutRewind, KEPT);
}

#[test]
fn a_start_as_primary_without_asking_is_found() {
    assert_found(Bug::StartsWithoutAsking, KEPT);
}

#[test]
fn a_lease_end_that_is_not_awaited_is_found() {
    assert_found(Bug::LeaseEndNotAwaited, ALONE);
}

#[test]
fn a_degradation_without_enforcement_is_found() {
    assert_found(Bug::DegradesWithoutEnforcement, KEPT);
}

#[test]
fn a_writer_that_leaves_its_lease_before_its_key_says_so_is_found() {
    assert_found(Bug::LeavesLeaseBeforeItsKeySaysSo, KEPT);
}

#[test]
fn a_degradation_that_takes_a_writer_without_a_lease_for_harmless_is_found() {
    assert_found(Bug::WritersWithoutLeaseAreNotFenced, KEPT);
}

#[test]
fn sessions_that_are_opened_without_asking_are_found() {
    assert_found(Bug::NewSessionsAreNotTold, KEPT);
}
