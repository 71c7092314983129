//! The auditor: one writer, nothing acknowledged lost, the plan complete or cleanly undone, the journal in order.

use crate::cluster::{Cluster, node};
use domicile_execute::{Entry, Finished, Happened, Outcome};
use domicile_topology::plan::{Action, Intent, LostWrites, Plan};
use domicile_topology::record::Writes;
use std::collections::BTreeSet;

/// Looks at what is left, and says what is wrong with it.
pub(crate) fn audit(cluster: &mut Cluster, plan: &Plan, finished: &Finished) {
    one_writer(cluster);
    nothing_lost(cluster, plan);
    journal_in_order(cluster, plan, finished);
    match &finished.outcome {
        Outcome::Completed => complete(cluster, plan, finished),
        Outcome::CalledOff { .. } => as_before(cluster, plan),
        outcome => panic!("{outcome:?}"),
    }
    writes_go_on(cluster);
}

/// No epoch acknowledges anything after a later one has.
fn one_writer(cluster: &Cluster) {
    let mut epochs = cluster.acknowledged.iter().map(|(epoch, _)| *epoch);
    let mut latest = epochs.next().unwrap();
    for epoch in epochs {
        assert!(epoch >= latest, "epoch {epoch} acknowledges after epoch {latest}");
        latest = epoch;
    }
}

fn nothing_lost(cluster: &Cluster, plan: &Plan) {
    let present: BTreeSet<_> = cluster.ledgers[&cluster.record().writer_node].log.iter().collect();
    let lost = cluster.acknowledged.iter().filter(|write| !present.contains(write));
    let accepted = plan.expected.lost_writes != LostWrites::None;
    let lost: Vec<_> = lost.filter(|(epoch, _)| !accepted || *epoch != plan.record.epoch).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

fn journal_in_order(cluster: &Cluster, plan: &Plan, finished: &Finished) {
    let plane = &cluster.plane;
    assert_eq!((&plane.current, &plane.lock), (&None, &None), "nothing is under way");
    let stored = &plane.plans[&plan.id];
    assert_eq!(&stored.plan, plan);
    let numbers: Vec<u32> = stored.journal.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, (1..finished.history.next).collect::<Vec<_>>());
    let entries: Vec<Entry> =
        stored.journal.iter().map(|entry| serde_json::from_slice(&entry.value).unwrap()).collect();
    let mut begun = BTreeSet::new();
    for (position, entry) in (1..).zip(&entries) {
        match &entry.happened {
            Happened::Begun { step } => assert!(begun.insert(*step), "step {step} begins twice"),
            Happened::Done { step, .. } => {
                let has_effect = !matches!(
                    plan.steps[step - 1].action,
                    Action::Record { .. } | Action::AwaitReplay { .. } | Action::AwaitWriter { .. }
                );
                assert!(!has_effect || begun.contains(step), "step {step} had not begun");
            }
            Happened::Ended { outcome } => {
                assert_eq!((outcome, position), (&finished.outcome, entries.len()));
            }
            _ => {}
        }
    }
    let told: BTreeSet<_> = (stored.journal.iter().zip(&entries))
        .filter_map(|(stored, entry)| Some((stored.revision.0, entry.record()?.clone())))
        .map(|(revision, record)| (revision, format!("{record:?}")))
        .collect();
    let changed: BTreeSet<_> = (plane.records.iter())
        .filter(|(revision, _)| *revision > plan.record_revision)
        .map(|(revision, record)| (*revision, format!("{record:?}")))
        .collect();
    assert_eq!(told, changed, "each change of the record is in the journal, and no other");
}

fn complete(cluster: &Cluster, plan: &Plan, finished: &Finished) {
    let record = cluster.record();
    assert_eq!(record.writes, Writes::Open);
    for number in 1..=plan.steps.len() {
        assert!(finished.history.is_over(number), "step {number} is not over");
    }
    let moves_to = match &plan.intent {
        Intent::Switchover { to } | Intent::Failover { to, .. } => Some(to),
        Intent::Failback => Some(&cluster.topology.failover.preferred_region),
        _ => None,
    };
    if let Some(to) = moves_to {
        assert_eq!((&record.writer_region, record.epoch.0), (to, plan.record.epoch.0 + 1));
    } else {
        assert_eq!(record.epoch, plan.record.epoch);
    }
    if matches!(
        plan.intent,
        Intent::Switchover { .. } | Intent::Failback | Intent::RestoreDurability
    ) {
        assert!(record.promotable);
        let member = record.sync_member.clone().unwrap();
        assert!(cluster.confirming(&record.writer_node, &member));
    }
    if plan.intent == (Intent::Rejoin { node: node("ledger-mt") }) {
        assert!(cluster.streams(&node("ledger-mt"), &record.writer_node));
    }
    for (node, publisher) in &cluster.following {
        let follows = |number: &usize| match &plan.steps[number - 1].action {
            Action::Subscriptions { node: reader, .. } => reader == node,
            _ => false,
        };
        let is_refused = finished.failures().keys().any(follows);
        let is_asked = (1..=plan.steps.len()).any(|number| follows(&number));
        if is_asked && !is_refused {
            assert_eq!(publisher, &record.writer_node, "{node} follows");
        }
    }
}

fn as_before(cluster: &Cluster, plan: &Plan) {
    let (record, before) = (cluster.record(), &plan.record);
    assert_eq!((record.epoch, &record.writer_node), (before.epoch, &before.writer_node));
    assert_eq!(record.writes, Writes::Open);
    assert!(cluster.ledgers[&record.writer_node].is_primary);
}

/// A player can play, at one place only.
fn writes_go_on(cluster: &mut Cluster) {
    let writer = cluster.record().writer_node.clone();
    let nodes: Vec<_> = cluster.ledgers.keys().cloned().collect();
    for node in nodes {
        let is_acknowledged = cluster.write_at(&node);
        assert_eq!(is_acknowledged, node == writer, "a write at {node}");
    }
}
