//! Over arbitrary facts every plan that comes out is sound, and a plan with a step lost or out of order is found out.

use super::situation::{Change, alone, degraded, healthy, member, node, plan, region, short};
use domicile_core::epoch::Epoch;
use domicile_topology::document::Durability;
use domicile_topology::observed::PostgresState;
use domicile_topology::plan::lint::lint;
use domicile_topology::plan::{Action, Facts, Intent, Plan, RecordChange, RefusalCode, Undo};
use domicile_topology::record::{Beginning, DegradedBy, Writes};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn any_node() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("ledger-mt"), Just("ledger-de"), Just("reader-gb"), Just("reader-de")]
}

fn any_intent() -> impl Strategy<Value = Intent> {
    let regions = || prop_oneof![Just("mt-1"), Just("de-1"), Just("de-1"), Just("gb-1")];
    let reason = || prop_oneof![Just(None), Just(Some("it burns".to_owned()))];
    prop_oneof![
        regions().prop_map(|to| Intent::Switchover { to: region(to) }),
        (regions(), reason(), any::<bool>()).prop_map(|(to, accept_data_loss, waives)| {
            let waived_readers =
                waives.then(|| node("reader-gb")).into_iter().collect::<BTreeSet<_>>();
            Intent::Failover { to: region(to), accept_data_loss, waived_readers }
        }),
        Just(Intent::Failback),
        Just(Intent::RestoreDurability),
        any_node().prop_map(|name| Intent::Rejoin { node: node(name) }),
        reason().prop_map(|reason| Intent::Degrade { reason: reason.unwrap_or_default() }),
        (any_node(), reason()).prop_map(|(name, reason)| Intent::WaiveReader {
            node: node(name),
            reason: reason.unwrap_or_default(),
        }),
        any_node().prop_map(|name| Intent::ReaderAdd { node: node(name) }),
        any_node().prop_map(|name| Intent::ReaderReseed { node: node(name) }),
        any_node().prop_map(|name| Intent::ReaderRemove { node: node(name) }),
    ]
}

type Change1 = fn(&mut Facts, bool);

/// One thing after another that may differ from a named situation.
const CHANGES: &[Change1] = &[
    |facts, _| *facts = facts.clone().silent("ledger-mt"),
    |facts, _| *facts = facts.clone().silent("ledger-de"),
    |facts, _| *facts = facts.clone().silent("reader-gb"),
    |facts, _| facts.record.promotable = false,
    |facts, is_mt| {
        facts.record.promotable = false;
        let other = if is_mt { "ledger-mt" } else { "ledger-xx" };
        if facts.record.writer_node != node(other) {
            facts.record.sync_member = Some(member(other, 3));
            facts.record.durability = Durability::Two;
            facts.record.degraded_by = DegradedBy::Course;
        }
    },
    |facts, _| facts.record.writes = Writes::Closing,
    |facts, _| facts.record.beginning = Beginning::Forced,
    |facts, is_mt| state(facts, is_mt, PostgresState::Standby),
    |facts, is_mt| state(facts, is_mt, PostgresState::Primary),
    |facts, is_mt| state(facts, is_mt, PostgresState::Stopped),
    |facts, is_mt| state(facts, is_mt, PostgresState::Absent),
    |facts, is_mt| {
        if let Some(fact) = facts.nodes.get_mut(&ledger(is_mt)) {
            fact.age_ms = 60_000;
        }
    },
    |facts, is_mt| status(facts, is_mt, |s| s.slots.clear()),
    |facts, is_mt| status(facts, is_mt, |s| s.replication.clear()),
    |facts, is_mt| status(facts, is_mt, |s| s.postgres.receiving = Some(false)),
    |facts, is_mt| status(facts, is_mt, |s| s.postgres.member = None),
    |facts, is_mt| status(facts, is_mt, |s| s.postgres.sync_member = None),
    |facts, is_mt| status(facts, is_mt, |s| s.epoch_open = Some(Epoch(4))),
    |facts, _| facts.leases.clear(),
    |facts, _| facts.topology.failover.preferred_region = region("de-1"),
    |facts, _| {
        facts.topology.jurisdictions[2].writer_regions = BTreeSet::from([region("mt-1")]);
    },
];

fn ledger(is_mt: bool) -> domicile_core::ids::NodeId {
    node(if is_mt { "ledger-mt" } else { "ledger-de" })
}

fn status(
    facts: &mut Facts,
    is_mt: bool,
    change: fn(&mut domicile_topology::observed::NodeStatus),
) {
    if let Some(status) = facts.nodes.get_mut(&ledger(is_mt)).and_then(|f| f.status.as_mut()) {
        change(status);
    }
}

fn state(facts: &mut Facts, is_mt: bool, state: PostgresState) {
    if let Some(status) = facts.nodes.get_mut(&ledger(is_mt)).and_then(|f| f.status.as_mut()) {
        status.postgres.state = state;
    }
}

fn any_situation() -> impl Strategy<Value = (usize, Vec<(usize, bool)>)> {
    (0..STARTS.len(), proptest::collection::vec((0..CHANGES.len(), any::<bool>()), 0..5))
}

const STARTS: &[fn() -> Facts] = &[healthy, degraded, alone];

fn facts_of((start, changes): (usize, Vec<(usize, bool)>)) -> Facts {
    let mut facts = STARTS[start]();
    for (index, is_mt) in changes {
        CHANGES[index](&mut facts, is_mt);
    }
    facts
}

/// Steps that serve speed or one reader alone: a plan without them is slower, not wrong.
fn is_dispensable(plan: &Plan, action: &Action) -> bool {
    let is_reader_verb =
        matches!(plan.intent, Intent::ReaderAdd { .. } | Intent::ReaderReseed { .. });
    match action {
        Action::Checkpoint { .. } => true,
        Action::AwaitSlots { .. } => is_reader_verb,
        Action::Record { change: RecordChange::CloseWrites } => {
            plan.record.writes == Writes::Closing
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_plan_is_sound_and_none_can_lose_a_step(situation in any_situation(), intent in any_intent()) {
        let facts = facts_of(situation);
        let plan = match plan(&facts, &intent) {
            Ok(plan) => plan,
            Err(refusal) => {
                prop_assert_ne!(refusal.code, RefusalCode::Unsound, "{:#?}", refusal);
                return Ok(());
            }
        };
        prop_assert_eq!(lint(&facts, &plan), []);
        for index in 0..plan.steps.len() {
            let mut without = plan.clone();
            let lost = without.steps.remove(index);
            if !is_dispensable(&plan, &lost.action) {
                let text = short(&lost.action);
                prop_assert_ne!(lint(&facts, &without), [], "without {} of {:#?}", text, intent);
            }
        }
    }
}

#[test]
fn no_two_steps_that_matter_may_change_places() {
    let accept = |reason: &str| Some(reason.to_owned());
    let failover = |accept_data_loss| Intent::Failover {
        to: region("de-1"),
        accept_data_loss,
        waived_readers: BTreeSet::new(),
    };
    let cases = [
        (healthy(), Intent::Switchover { to: region("de-1") }),
        (healthy().silent("ledger-mt"), failover(None)),
        (degraded().silent("ledger-mt"), failover(accept("it burns"))),
        (alone(), Intent::Failback),
        (alone(), Intent::RestoreDurability),
        (healthy().stopped("ledger-de"), Intent::RestoreDurability),
        (healthy(), Intent::Degrade { reason: "maintenance".into() }),
    ];
    for (facts, intent) in cases {
        let plan = plan(&facts, &intent).unwrap();
        for first in 0..plan.steps.len() {
            for second in first + 1..plan.steps.len() {
                if plan.steps[first] == plan.steps[second] {
                    continue;
                }
                let mut swapped = plan.clone();
                swapped.steps.swap(first, second);
                let is_sound = lint(&facts, &swapped).is_empty();
                let between = &plan.steps[first..=second];
                let commutes =
                    between[1..].iter().all(|step| commute(&between[0].action, &step.action))
                        && between
                            .iter()
                            .all(|step| commute(&step.action, &between[between.len() - 1].action));
                let names = || [first, second].map(|index| short(&plan.steps[index].action));
                assert!(!is_sound || commutes, "{} with {:?} swapped", intent.verb(), names());
            }
        }
    }
}

/// Whether the order of the two steps is free.
fn commute(first: &Action, second: &Action) -> bool {
    use Action::{AwaitSlots, Checkpoint, Promote, Rejoin, Slot, Subscriptions, Sync};
    let free = |a: &Action, b: &Action| {
        matches!(a, Checkpoint { .. })
            || matches!((a, b), (Subscriptions { .. }, Subscriptions { .. }))
            // Made before the demotion is what counts.
            || matches!((a, b), (Slot { .. }, Action::Record { .. }))
            // The demoted node may wait for its source.
            || matches!((a, b), (Promote { .. }, Rejoin { .. }))
            || matches!((a, b), (Subscriptions { .. } | AwaitSlots { .. }, Sync { .. }))
            || matches!((a, b), (Subscriptions { .. } | AwaitSlots { .. }, Action::Record { change: RecordChange::SetDurability { .. } }))
    };
    first == second || free(first, second) || free(second, first)
}

#[test]
fn a_plan_of_another_record_or_with_misplaced_undos_is_found_out() {
    let facts = healthy();
    let sound = plan(&facts, &Intent::Switchover { to: region("de-1") }).unwrap();
    let stale = Plan { record_revision: 41, ..sound.clone() };
    assert_eq!(lint(&facts, &stale).len(), 1);
    let misplaced =
        [(3, Undo::Stop), (4, Undo::Stop), (4, Undo::GoOn), (7, Undo::CallOff), (8, Undo::GoOn)];
    for (index, on_failure) in misplaced {
        let mut plan = sound.clone();
        plan.steps[index].on_failure = on_failure;
        let findings = lint(&facts, &plan);
        assert!(!findings.is_empty(), "{index} {on_failure:?}");
        assert_eq!(findings[0].step, Some(index + 1));
    }
}

#[test]
fn a_plan_made_for_a_healthy_cluster_is_found_out_where_it_would_lose() {
    let healthy = healthy();
    let mut failover = plan(&healthy, &super::situation::failover("de-1", None)).unwrap();
    let unready = healthy.record(|record| record.promotable = false);
    failover.record = unready.record.clone();
    let rules: Vec<String> = lint(&unready, &failover).iter().map(ToString::to_string).collect();
    assert!(
        rules.iter().any(|rule| rule.contains("only a ready standby takes over")),
        "{rules:#?}"
    );
}
