//! The verbs about the second copy, and those about one reader.

use super::situation::{
    Change, alone, assert_outlines, degraded, healthy, member, node, outline, plan, region,
};
use domicile_core::epoch::Epoch;
use domicile_topology::plan::Intent;
use domicile_topology::plan::lint::lint;
use domicile_topology::record::{Beginning, Writes};
use std::collections::BTreeSet;

const RESTORE: &[&str] = &[
    "rejoin ledger-mt",
    "sync ledger-de ledger-mt",
    "record two ledger-mt",
    "follow reader-mt",
    "follow reader-de",
    "follow reader-gb",
    "await slots ledger-mt",
    "record SetPromotable",
];

/// The same where Germany confirms for Malta, and follows already.
const CONFIRM: &[&str] = &[
    "sync ledger-mt ledger-de",
    "follow reader-mt",
    "follow reader-de",
    "follow reader-gb",
    "await slots ledger-de",
    "record SetPromotable",
];

#[test]
fn redundancy_is_restored_from_wherever_it_stands() {
    let joined_anew =
        || healthy().status("ledger-de", |s| s.postgres.member = Some(member("ledger-de", 8)));
    let all = |first: &[&'static str], steps: &[&'static str]| [first, steps].concat();
    let rejoined = all(
        &["record ClearPromotable", "rejoin ledger-de", CONFIRM[0], "record two ledger-de"],
        &CONFIRM[1..],
    );
    let adopted =
        all(&["record ClearPromotable", CONFIRM[0], "record two ledger-de"], &CONFIRM[1..]);
    let one = all(&[CONFIRM[0], "record two ledger-de"], &CONFIRM[1..]);
    assert_outlines(
        &Intent::RestoreDurability,
        vec![
            ("after a failover", alone(), RESTORE),
            ("all is well", healthy(), &["refused", "nothing-to-do"]),
            ("two, not promotable yet", healthy().record(|r| r.promotable = false), CONFIRM),
            ("the standby joined anew", joined_anew(), &adopted),
            ("the standby is stopped", healthy().stopped("ledger-de"), &rejoined),
            (
                "writes were left closing",
                healthy().record(|r| r.writes = Writes::Closing),
                &["record OpenWrites"],
            ),
            ("degraded, all alive", degraded(), &one),
            (
                "not waited for, though the record says so",
                healthy().status("ledger-mt", |s| s.replication.clear()),
                &CONFIRM[..1],
            ),
            ("nobody else answers", alone().silent("ledger-mt"), &["refused", "no-second-region"]),
            (
                "nobody answers",
                alone().silent("ledger-mt").silent("ledger-de"),
                &["refused", "no-second-region", "primary-unreachable"],
            ),
        ],
    );
}

#[test]
fn a_node_rejoins_and_loses_promotable_first() {
    let rejoin = |name| Intent::Rejoin { node: node(name) };
    assert_outlines(
        &rejoin("ledger-mt"),
        vec![
            ("after a failover", alone(), &["rejoin ledger-mt"]),
            ("it writes", healthy(), &["refused", "node-is-writer"]),
            (
                "both are silent",
                alone().silent("ledger-mt").silent("ledger-de"),
                &["refused", "primary-unreachable", "standby-unreachable"],
            ),
        ],
    );
    assert_outlines(
        &rejoin("ledger-de"),
        vec![
            ("it follows", healthy(), &["refused", "nothing-to-do"]),
            (
                "it is stopped",
                healthy().stopped("ledger-de"),
                &["record ClearPromotable", "rejoin ledger-de"],
            ),
        ],
    );
    assert_outlines(
        &rejoin("reader-de"),
        vec![("a reader", healthy(), &["refused", "unknown-node"])],
    );
}

#[test]
fn degrading_keeps_the_order_that_fences() {
    let steps = ["record one", "await lease enforced mt-1", "sync off ledger-mt"];
    let promotable: Vec<&str> = [&["record ClearPromotable"], &steps[..]].concat();
    let follow = ["reader-mt", "reader-de", "reader-gb"].map(|reader| format!("follow {reader}"));
    let opening = ["open epoch ledger-mt", "await writer mt-1"];
    let late = [&promotable, &opening[..], &follow.each_ref().map(String::as_str)].concat();
    let after_failover = ["record one", "await lease enforced de-1", "sync off ledger-de"];
    let intent = |reason: &str| Intent::Degrade { reason: reason.into() };
    assert_outlines(
        &intent("Germany is down"),
        vec![
            ("the standby is dead", healthy().silent("ledger-de"), &promotable),
            ("cleared already", healthy().record(|r| r.promotable = false), &steps),
            (
                "its own epoch waits to be opened",
                healthy().status("ledger-mt", |status| status.epoch_open = None),
                &late,
            ),
            ("a failover left one copy, and it is to stay so", alone(), &after_failover),
            ("interrupted", degraded(), &steps[1..]),
            (
                "degraded",
                degraded().status("ledger-mt", |s| s.postgres.sync_member = None),
                &["refused", "nothing-to-do"],
            ),
            (
                "the primary is dead",
                healthy().silent("ledger-mt"),
                &["refused", "primary-unreachable"],
            ),
        ],
    );
    assert_outlines(&intent(" "), vec![("no reason", healthy(), &["refused", "reason-missing"])]);
}

#[test]
fn a_writer_without_a_lease_is_named_and_holds_nothing_up() {
    let intent = Intent::Degrade { reason: "Germany is down".into() };
    let leased = plan(&healthy().silent("ledger-de"), &intent).unwrap();
    assert_eq!(leased.expected.unleased_writers, BTreeSet::from([node("writer-mt-2")]));
    let gone = healthy().silent("ledger-de").with(|facts| facts.leases.clear());
    let made = plan(&gone, &intent).unwrap();
    assert_eq!(made.steps, leased.steps);
    assert_eq!(
        made.expected.unleased_writers,
        BTreeSet::from(["writer-mt", "writer-mt-2"].map(node))
    );
    assert!(made.remarks.iter().any(|remark| remark.starts_with("writer-mt holds no lease")));
    let mut unsaid = made;
    unsaid.expected.unleased_writers.clear();
    let found = lint(&gone, &unsaid);
    assert!(found.iter().any(|finding| finding.rule.contains("without a lease")), "{found:?}");
}

#[test]
fn a_holder_that_is_gone_is_waived_by_name_and_reason() {
    let waive =
        |name, reason: &str| Intent::WaiveReader { node: node(name), reason: reason.into() };
    let first = healthy().record(|record| {
        (record.epoch, record.beginning) = (Epoch(1), Beginning::First);
    });
    let waived = healthy().record(|record| {
        record.waived_readers.insert(node("reader-gb"));
    });
    let change = r#"record WaiveReader { reader: NodeId("reader-gb") }"#;
    assert_outlines(
        &waive("reader-gb", "its host burnt"),
        vec![
            ("its host is gone", healthy().silent("reader-gb"), &[change]),
            ("nothing was served before", first, &["refused", "nothing-to-do"]),
            ("waived already", waived, &["refused", "nothing-to-do"]),
        ],
    );
    assert_outlines(
        &waive("reader-gb", " "),
        vec![("no reason", healthy(), &["refused", "reason-missing"])],
    );
    assert_outlines(
        &waive("ledger-mt", "why not"),
        vec![("no reader", healthy(), &["refused", "unknown-waived-reader"])],
    );
    let plan = plan(&healthy(), &waive("reader-gb", "its host burnt")).unwrap();
    assert!(plan.remarks[0].starts_with("Given up"), "{plan:#?}");
}

#[test]
fn a_reader_is_added_copied_anew_and_removed() {
    let add = Intent::ReaderAdd { node: node("reader-gb") };
    let reseed = Intent::ReaderReseed { node: node("reader-gb") };
    let remove = |name| Intent::ReaderRemove { node: node(name) };
    assert_outlines(
        &add,
        vec![
            ("healthy", healthy(), &["follow reader-gb", "await slots ledger-de"]),
            ("one copy", degraded(), &["follow reader-gb"]),
            ("it is dead", healthy().silent("reader-gb"), &["refused", "reader-unreachable"]),
        ],
    );
    assert_outlines(
        &reseed,
        vec![("healthy", healthy(), &["reseed reader-gb 1", "await slots ledger-de"])],
    );
    assert_outlines(
        &remove("reader-gb"),
        vec![
            ("the only copy in Britain", healthy(), &["refused", "required-copy"]),
            (
                "dead, it holds up the others",
                healthy().silent("reader-gb"),
                &["drop slots reader-gb"],
            ),
        ],
    );
    let removed =
        healthy().with(|facts| facts.topology.readers.retain(|r| r.node != node("reader-gb")));
    assert_outlines(
        &remove("reader-gb"),
        vec![("its slots are left", removed.clone(), &["drop slots reader-gb"])],
    );
    assert_outlines(
        &remove("reader-mt"),
        vec![("a ledger is there", healthy(), &["drop slots reader-mt"])],
    );
    assert_outlines(&remove("reader-xx"), vec![("unknown", removed, &["refused", "unknown-node"])]);
}

#[test]
fn a_reseed_after_force_warns_of_lost_evidence() {
    let forced = healthy().record(|record| record.beginning = Beginning::Forced);
    let reseed = Intent::ReaderReseed { node: node("reader-gb") };
    let plan = plan(&forced, &reseed).unwrap();
    assert_eq!(plan.expected.reseeded_readers, BTreeSet::from([node("reader-gb")]));
    assert!(plan.remarks.iter().any(|remark| remark.contains("only proof")), "{plan:#?}");
}

#[test]
fn another_ledger_follows_the_new_writer() {
    let third = |facts: &mut domicile_topology::plan::Facts| {
        let mut ledger = facts.topology.ledgers[1].clone();
        (ledger.node, ledger.region) = (node("ledger-gb"), region("gb-1"));
        facts.topology.ledgers.push(ledger);
        for policy in &mut facts.topology.jurisdictions {
            policy.allowed_regions.insert(region("gb-1"));
        }
    };
    let silent = outline(&plan(&healthy().with(third), &super::situation::switchover("de-1")));
    assert!(!silent.contains(&"rejoin ledger-gb".to_owned()));
    let answers = healthy().with(third).with(|facts| {
        let fact = facts.nodes[&node("ledger-de")].clone();
        facts.nodes.insert(node("ledger-gb"), fact);
    });
    let followed = outline(&plan(&answers, &super::situation::switchover("de-1")));
    assert_eq!(followed.last().unwrap(), "rejoin ledger-gb");
}
