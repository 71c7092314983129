//! The table of states: what plans do is in it, all of it is reachable, and the documented diagram is the present one.

use super::situation::{
    Change, alone, degraded, failover, healthy, member, node, plan, switchover,
};
use domicile_topology::plan::transitions::{
    Stage, State, TRANSITIONS, after, diagram, is_transition,
};
use domicile_topology::plan::{Facts, Intent};
use domicile_topology::record::Writes;
use std::collections::BTreeSet;
use std::path::Path;

/// Plans from wherever a move may have stopped.
fn situations() -> Vec<(Facts, Stage, Intent)> {
    let force = || failover("de-1", Some("it burns"));
    let degrade = || Intent::Degrade { reason: "maintenance".into() };
    let closing = || healthy().record(|record| record.writes = Writes::Closing);
    let waiting = || {
        let switched = healthy().record(|record| record.promotable = false);
        switched.status("ledger-mt", |status| status.epoch_open = None)
    };
    let joined_anew = || {
        let anew = Some(member("ledger-de", 8));
        healthy().status("ledger-de", |status| status.postgres.member = anew)
    };
    vec![
        (healthy(), Stage::Leads, switchover("de-1")),
        (healthy(), Stage::Leads, failover("de-1", None)),
        (healthy(), Stage::Leads, degrade()),
        (healthy().stopped("ledger-de"), Stage::Leads, Intent::Rejoin { node: node("ledger-de") }),
        (joined_anew(), Stage::Leads, Intent::RestoreDurability),
        (joined_anew(), Stage::Leads, force()),
        (closing(), Stage::Leads, failover("de-1", None)),
        (closing(), Stage::Leads, Intent::RestoreDurability),
        (closing().stopped("ledger-mt"), Stage::Demoted, failover("de-1", None)),
        (waiting(), Stage::Promoted, degrade()),
        (waiting().silent("ledger-mt"), Stage::Chosen, force()),
        (alone(), Stage::Leads, degrade()),
        (degraded(), Stage::Leads, force()),
        (degraded().silent("ledger-mt"), Stage::Chosen, force()),
        (alone(), Stage::Leads, Intent::RestoreDurability),
        (alone(), Stage::Leads, Intent::Failback),
    ]
}

#[test]
fn every_step_of_a_plan_goes_along_the_table() {
    let mut taken = BTreeSet::new();
    for (facts, mut stage, intent) in situations() {
        let plan = plan(&facts, &intent).unwrap();
        let mut record = plan.record.clone();
        for step in &plan.steps {
            let from = State::of(&record, stage);
            (record, stage) = after(&record, stage, &step.action);
            let to = State::of(&record, stage);
            assert!(is_transition(from, to), "{} leads from {from:?} to {to:?}", intent.verb());
            taken.insert((from, to));
        }
    }
    for transition in TRANSITIONS.iter().filter(|t| !t.by.starts_with("called off: demotion")) {
        let pair = (transition.from, transition.to);
        assert!(taken.contains(&pair), "no plan goes along {transition:?}");
    }
}

fn reachable(from: State) -> BTreeSet<State> {
    let mut seen = BTreeSet::from([from]);
    while let Some(new) = TRANSITIONS
        .iter()
        .find(|transition| seen.contains(&transition.from) && !seen.contains(&transition.to))
    {
        seen.insert(new.to);
    }
    seen
}

#[test]
fn every_state_is_reachable_and_leads_back_to_promotable() {
    let from_the_first = reachable(State::Single);
    for state in State::ALL {
        assert!(from_the_first.contains(state) || *state == State::Forced, "{state:?}");
        assert!(reachable(*state).contains(&State::Promotable), "{state:?}");
        assert!(is_transition(*state, State::Forced), "{state:?}");
    }
}

#[test]
fn the_documented_diagram_is_the_present_one() {
    const BEGIN: &str = "<!-- generated from topology/src/plan/transitions.rs -->\n";
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/explanation/moving-the-writer.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let after = rest.split_once("\n```\n").unwrap().1;
    let present = format!("{before}{BEGIN}```mermaid\n{}```\n{after}", diagram());
    if std::env::var_os("DOMICILE_REGENERATE").is_some() {
        std::fs::write(&path, &present).unwrap();
    } else {
        assert!(
            page == present,
            "regenerate it: DOMICILE_REGENERATE=1 cargo test -p domicile-topology"
        );
    }
}
