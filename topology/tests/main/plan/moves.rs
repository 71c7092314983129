//! The verbs that move the writer.

use super::situation::{
    Change, alone, assert_outlines, degraded, failover, healthy, member, node, outline, plan,
    region, switchover,
};
use domicile_core::epoch::Lsn;
use domicile_topology::document::Durability;
use domicile_topology::observed::{PostgresState, StalledProcess};
use domicile_topology::plan::{Facts, Intent, LostWrites, Undo};
use domicile_topology::record::Writes;
use std::collections::BTreeSet;

const SWITCHOVER: &[&str] = &[
    "checkpoint ledger-mt",
    "checkpoint ledger-de",
    "slot ledger-mt ledger-de",
    "record CloseWrites",
    "demote ledger-mt",
    "await replay ledger-de",
    "record epoch 5 ledger-de Switchover",
    "promote ledger-de",
    "rejoin ledger-mt",
    "open epoch ledger-de",
    "await writer de-1",
    "follow reader-mt",
    "follow reader-de",
    "follow reader-gb",
    "sync ledger-de ledger-mt",
    "await slots ledger-mt",
    "record SetPromotable",
];

#[test]
fn a_switchover_needs_both_regions_healthy() {
    let stalled = || StalledProcess { process: "walsender reader-gb".into(), pid: 7 };
    assert_outlines(
        &switchover("de-1"),
        vec![
            ("healthy", healthy(), SWITCHOVER),
            (
                "writes were left closing",
                healthy().record(|record| record.writes = Writes::Closing),
                SWITCHOVER,
            ),
            (
                "the primary is dead",
                healthy().silent("ledger-mt"),
                &["refused", "primary-unreachable"],
            ),
            (
                "the primary's last word is old",
                healthy().with(|f| f.nodes.get_mut(&node("ledger-mt")).unwrap().age_ms = 5_001),
                &["refused", "primary-unreachable"],
            ),
            (
                "everything is dead",
                healthy().silent("ledger-mt").silent("ledger-de"),
                &["refused", "primary-unreachable", "standby-unreachable"],
            ),
            (
                "one copy, and the epoch is closed",
                degraded().status("ledger-mt", |status| status.epoch_open = None),
                &["refused", "primary-not-ready", "not-promotable"],
            ),
            (
                "the standby does not replay",
                healthy().status("ledger-de", |s| s.postgres.lsn = Some(Lsn(1 << 40))),
                &["refused", "standby-not-ready"],
            ),
            (
                "the standby is not waited for",
                healthy().status("ledger-mt", |s| s.replication[0].sync_state = "async".into()),
                &["refused", "standby-not-ready"],
            ),
            (
                "the standby joined anew",
                healthy().status("ledger-de", |s| {
                    s.postgres.member = Some(member("ledger-de", 8));
                }),
                &["refused", "standby-not-ready"],
            ),
            (
                "a walsender is frozen",
                healthy().status("ledger-mt", |s| s.postgres.stalled.push(stalled())),
                &["refused", "stalled-process"],
            ),
            (
                "the document is old",
                healthy().record(|record| record.topology_generation = 2),
                &["refused", "topology-outdated"],
            ),
        ],
    );
    assert_outlines(&switchover("mt-1"), vec![("there", healthy(), &["refused", "already-there"])]);
    assert_outlines(
        &switchover("gb-1"),
        vec![("no ledger", healthy(), &["refused", "region-cannot-write"])],
    );
}

#[test]
fn nobody_waits_for_a_silent_reader() {
    assert_outlines(
        &switchover("de-1"),
        vec![
            (
                "a reader is dead",
                healthy().silent("reader-gb"),
                &[&SWITCHOVER[..13], &SWITCHOVER[14..], &SWITCHOVER[13..14]].concat(),
            ),
            (
                "no reader answers",
                healthy().silent("reader-gb").silent("reader-mt").silent("reader-de"),
                &[&SWITCHOVER[..11], &SWITCHOVER[14..15], &SWITCHOVER[16..], &SWITCHOVER[11..14]]
                    .concat(),
            ),
        ],
    );
}

#[test]
fn a_switchover_can_be_called_off_until_the_new_epoch() {
    let plan = plan(&healthy(), &switchover("de-1")).unwrap();
    let called_off: Vec<usize> =
        (0..plan.steps.len()).filter(|i| plan.steps[*i].on_failure == Undo::CallOff).collect();
    assert_eq!(called_off, [2, 3, 4, 5]);
    assert_eq!(plan.expected.lost_writes, LostWrites::None);
    assert_eq!(plan.expected.write_pause_ms, 500);
    assert_eq!((plan.id.as_str(), plan.record_revision), ("a-plan", 42));
}

#[test]
fn an_unready_reader_is_named_and_copied_anew_and_stops_nothing() {
    let facts = healthy().status("ledger-de", |status| status.slots[1].ready = false);
    for intent in [switchover("de-1"), failover("de-1", None)] {
        let plan = plan(&facts, &intent);
        assert!(outline(&plan).contains(&"reseed reader-de 1".to_owned()), "{plan:#?}");
        let plan = plan.unwrap();
        assert_eq!(plan.expected.reseeded_readers, BTreeSet::from([node("reader-de")]));
        assert!(plan.remarks.iter().any(|remark| remark.contains("reader-de cannot go on in DE")));
    }
}

#[test]
fn a_region_that_may_not_write_suspends_the_jurisdiction_visibly() {
    let facts = healthy().with(|facts| {
        facts.topology.jurisdictions[2].writer_regions = BTreeSet::from([region("mt-1")]);
    });
    let plan = plan(&facts, &switchover("de-1")).unwrap();
    let suspended: Vec<String> = plan.expected.suspended.iter().map(ToString::to_string).collect();
    assert_eq!(suspended, ["GB"]);
    assert!(plan.remarks.iter().any(|remark| remark.contains("may not write for GB")));
}

const FAILOVER: &[&str] = &[
    "record epoch 5 ledger-de Failover",
    "promote ledger-de",
    "open epoch ledger-de",
    "await writer de-1",
    "follow reader-mt",
    "follow reader-de",
    "follow reader-gb",
];

#[test]
fn a_failover_goes_to_the_promotable_member() {
    let dead = || healthy().silent("ledger-mt");
    assert_outlines(
        &failover("de-1", None),
        vec![
            ("the primary is dead", dead(), FAILOVER),
            ("it lives", healthy(), FAILOVER),
            ("it died while it closed", dead().record(|r| r.writes = Writes::Closing), FAILOVER),
            (
                "the stream ended",
                dead().status("ledger-de", |status| status.postgres.receiving = Some(false)),
                FAILOVER,
            ),
            (
                "nobody answers there",
                dead().silent("ledger-de"),
                &["refused", "standby-unreachable"],
            ),
            (
                "Postgres there is stopped",
                dead().stopped("ledger-de"),
                &["refused", "standby-not-ready"],
            ),
            (
                "not promotable",
                dead().record(|record| record.promotable = false),
                &["refused", "loss-not-accepted"],
            ),
        ],
    );
    let plan = plan(&dead(), &failover("de-1", None)).unwrap();
    assert_eq!(plan.expected.lost_writes, LostWrites::None);
}

const FORCED: &[&str] = &[
    "record epoch 5 ledger-de Forced",
    "await lease end 5",
    "promote ledger-de",
    "open epoch ledger-de",
    "await writer de-1",
    "follow reader-mt",
    "follow reader-de",
    "follow reader-gb",
];

#[test]
fn force_needs_accepted_loss_and_a_fenced_primary() {
    let dead = || degraded().silent("ledger-mt");
    let elsewhere = || {
        healthy().record(|record| {
            record.promotable = false;
            record.sync_member = Some(member("ledger-xx", 1));
        })
    };
    assert_outlines(
        &failover("de-1", Some("the region burns")),
        vec![
            ("one copy", dead(), FORCED),
            ("its slots are not ready", dead().status("ledger-de", |s| s.slots.clear()), FORCED),
            ("two, not promotable", healthy().record(|r| r.promotable = false), FORCED),
            ("promotable after all", healthy().silent("ledger-mt"), FAILOVER),
            ("a third confirms", elsewhere(), &["refused", "old-primary-unfenced"]),
            ("the old primary is stopped", elsewhere().stopped("ledger-mt"), FORCED),
            (
                "the target is stopped and a third confirms",
                elsewhere().stopped("ledger-de"),
                &["refused", "standby-not-ready", "old-primary-unfenced"],
            ),
        ],
    );
    for reason in [None, Some("  ")] {
        assert_outlines(
            &failover("de-1", reason),
            vec![("no reason", dead(), &["refused", "loss-not-accepted"])],
        );
    }
    let waiving = |reader| Intent::Failover {
        to: region("de-1"),
        accept_data_loss: Some("it burns".into()),
        waived_readers: BTreeSet::from([node(reader)]),
    };
    assert_outlines(&waiving("reader-gb"), vec![("waived", dead(), FORCED)]);
    assert_outlines(
        &waiving("ledger-mt"),
        vec![("not a reader", dead(), &["refused", "unknown-waived-reader"])],
    );
}

#[test]
fn the_loss_is_bounded_only_by_a_fresh_observation() {
    let intent = failover("de-1", Some("it burns"));
    let expected = |facts: &Facts| plan(facts, &intent).unwrap().expected;
    let seen = degraded().status("ledger-de", |s| s.postgres.lsn = Some(Lsn(4_000)));
    let tail = |at_most_bytes| LostWrites::Tail { at_most_bytes };
    assert_eq!(expected(&seen).lost_writes, tail(Some(1_000)));
    assert_eq!(expected(&seen.silent("ledger-mt")).lost_writes, tail(None));
    assert_eq!(expected(&degraded()).write_pause_ms, 4_000);
    assert_eq!(expected(&degraded().with(|facts| facts.leases.clear())).write_pause_ms, 1_000);
}

#[test]
fn a_failback_restores_first_what_is_missing() {
    let restored = [
        "rejoin ledger-mt",
        "sync ledger-de ledger-mt",
        "record two ledger-mt",
        "follow reader-mt",
        "follow reader-de",
        "follow reader-gb",
        "await slots ledger-mt",
        "record SetPromotable",
    ];
    let swap = |text: &&str| match *text {
        "record epoch 5 ledger-de Switchover" => "record epoch 6 ledger-mt Switchover".to_owned(),
        "await writer de-1" => "await writer mt-1".to_owned(),
        text => text
            .replace("ledger-mt", "x")
            .replace("ledger-de", "ledger-mt")
            .replace('x', "ledger-de"),
    };
    let back: Vec<String> =
        restored.iter().map(|&text| text.to_owned()).chain(SWITCHOVER.iter().map(swap)).collect();
    assert_eq!(outline(&plan(&alone(), &Intent::Failback)), back);
    let facts = healthy().with(|f| f.topology.failover.preferred_region = region("de-1"));
    assert_eq!(outline(&plan(&facts, &Intent::Failback)), SWITCHOVER);
    assert_outlines(
        &Intent::Failback,
        vec![
            ("there already", healthy(), &["refused", "already-there"]),
            (
                "the preferred region is dead",
                alone().silent("ledger-mt"),
                &["refused", "standby-unreachable"],
            ),
        ],
    );
    let gone = alone().status("ledger-de", |s| s.postgres.state = PostgresState::Unreachable);
    assert_eq!(outline(&plan(&gone, &Intent::Failback)), ["refused", "primary-not-ready"]);
    assert_eq!(alone().record.durability, Durability::One);
}
