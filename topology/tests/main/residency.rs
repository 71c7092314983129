//! The residency law: its algebra, and that every answer about a document obeys it.

use crate::document::LOCAL;
use domicile_core::ids::{Jurisdiction, RegionId};
use domicile_topology::Topology;
use domicile_topology::residency::Residency;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn region(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

fn jurisdiction(code: &str) -> Jurisdiction {
    Jurisdiction::parse(code).unwrap()
}

fn regions() -> impl Strategy<Value = BTreeSet<RegionId>> {
    proptest::collection::btree_set((0..5_u8).prop_map(|n| region(&format!("r-{n}"))), 0..5)
}

proptest! {
    #[test]
    fn the_law_holds_exactly_when_nothing_is_missing_or_foreign(
        required in regions(), actual in regions(), allowed in regions(),
    ) {
        let law = Residency { required, actual, allowed };
        prop_assert_eq!(law.holds(), law.missing().is_empty() && law.foreign().is_empty());
        prop_assert!(law.missing().is_disjoint(&law.actual));
        prop_assert!(law.foreign().is_disjoint(&law.allowed));
        // A copy more never adds to what is missing; a permission more never adds to what is foreign.
        let more = Residency { actual: &law.actual | &law.allowed, ..law.clone() };
        prop_assert!(more.missing().is_subset(&law.missing()));
        prop_assert_eq!(more.foreign(), law.foreign());
        if law.holds() {
            prop_assert!(law.required.is_subset(&law.allowed));
        }
    }

    #[test]
    fn a_document_that_is_accepted_obeys_the_law(
        allowed in proptest::collection::vec(arbitrary_subset(), 3),
        writers in proptest::collection::vec(arbitrary_subset(), 3),
        required in proptest::collection::vec(arbitrary_subset(), 3),
        served in proptest::collection::vec(arbitrary_subset(), 3),
        held in proptest::collection::vec(arbitrary_codes(), 3),
    ) {
        let mut topology = Topology::parse(LOCAL).unwrap();
        for (index, policy) in topology.jurisdictions.iter_mut().enumerate() {
            policy.allowed_regions.extend(allowed[index].iter().cloned());
            policy.writer_regions = &policy.writer_regions | &writers[index];
            policy.required_copy_regions = required[index].clone();
            policy.serve_regions = served[index].clone();
        }
        for (reader, codes) in topology.readers.iter_mut().zip(held) {
            reader.jurisdictions.extend(codes);
        }
        let obeys = topology.jurisdictions.iter().all(|policy| obeys(&topology, &policy.code));
        prop_assert_eq!(topology.checked().is_ok(), obeys);
    }
}

fn arbitrary_subset() -> impl Strategy<Value = BTreeSet<RegionId>> {
    proptest::sample::subsequence(vec!["mt-1", "de-1", "gb-1"], 0..=3)
        .prop_map(|names| names.into_iter().map(region).collect())
}

fn arbitrary_codes() -> impl Strategy<Value = BTreeSet<Jurisdiction>> {
    proptest::sample::subsequence(vec!["MT", "DE", "GB"], 0..=3)
        .prop_map(|codes| codes.into_iter().map(jurisdiction).collect())
}

/// The law once more, in other words than the checks use.
fn obeys(topology: &Topology, code: &Jurisdiction) -> bool {
    let policy = topology.policy(code).unwrap();
    let holds = |region: &RegionId| {
        topology.ledgers.iter().any(|ledger| &ledger.region == region)
            || topology
                .readers
                .iter()
                .any(|reader| &reader.region == region && reader.jurisdictions.contains(code))
    };
    topology.regions.iter().all(|region| {
        let allowed = policy.allowed_regions.contains(&region.id);
        let required = policy.required_copy_regions.contains(&region.id);
        let used =
            policy.writer_regions.contains(&region.id) || policy.serve_regions.contains(&region.id);
        (!holds(&region.id) || allowed) && (!required || holds(&region.id)) && (!used || allowed)
    }) && !policy.serve_regions.is_empty()
}

#[test]
fn the_example_routes_as_its_policies_say() {
    let topology = Topology::parse(LOCAL).unwrap();
    let readers = |code: &str| -> Vec<String> {
        let readers = topology.permitted_readers(&jurisdiction(code)).into_iter();
        readers.map(|reader| reader.node.to_string()).collect()
    };
    assert_eq!(readers("MT"), ["reader-mt"]);
    assert_eq!(readers("GB"), ["reader-gb"]);
    assert!(topology.router_may_serve(&region("de-1"), &jurisdiction("MT")));
    assert!(!topology.router_may_serve(&region("gb-1"), &jurisdiction("MT")));
    let routers = topology.permitted_routers(&jurisdiction("GB"));
    assert_eq!(routers.len(), 1);
    assert_eq!(routers[0].endpoint.to_string(), "https://127.0.0.1:7160");
    assert!(topology.writer_may_write(&region("de-1"), &jurisdiction("GB")));
    assert!(!topology.may_hold(&region("gb-1"), &jurisdiction("DE")));
    assert!(topology.suspended_under(&region("mt-1")).is_empty());
    assert_eq!(topology.suspended_under(&region("gb-1")).len(), 3);
}

#[test]
fn an_unknown_jurisdiction_is_refused_everywhere() {
    let topology = Topology::parse(LOCAL).unwrap();
    let unknown = jurisdiction("FR");
    assert!(topology.policy(&unknown).is_none() && topology.residency(&unknown).is_none());
    assert!(topology.permitted_readers(&unknown).is_empty());
    assert!(topology.permitted_routers(&unknown).is_empty());
    for region in &topology.regions {
        assert!(!topology.may_hold(&region.id, &unknown));
        assert!(!topology.router_may_serve(&region.id, &unknown));
        assert!(!topology.writer_may_write(&region.id, &unknown));
    }
}
