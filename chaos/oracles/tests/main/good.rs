//! What must be accepted.

use crate::scene::{Scene, effect, invoke, outcome, told};
use domicile_oracles::history::{Event, History, Kind, Outcome, Standing};
use domicile_oracles::observation::Money;
use domicile_oracles::verdict::Oracle;
use proptest::prelude::*;

#[test]
fn a_good_run_passes_every_oracle_and_each_has_looked() {
    let judgement = Scene::good().judge();
    for verdict in &judgement.verdicts {
        assert!(verdict.holds(), "{verdict:#?}");
    }
    assert_eq!(judgement.verdicts.len(), Oracle::ALL.len());
    let figures = judgement.figures;
    assert_eq!((figures.operations, figures.acknowledged), (7, 4));
    assert_eq!((figures.refused, figures.unknown, figures.retried), (1, 2, 3));
    assert_eq!((figures.gap_ms, figures.new_epoch_ms), (17, Some(15)));
}

#[test]
fn an_undecided_operation_may_have_happened_everywhere() {
    let mut scene = Scene::good();
    for node in &mut scene.observations.nodes {
        node.effects.push(effect("bet/9", "u"));
    }
    assert_eq!(scene.rejected_by(), []);
}

#[test]
fn the_same_answer_may_be_given_again() {
    let mut scene = Scene::good();
    scene.events.push(invoke(50, "a", Kind::Play));
    let again =
        domicile_oracles::history::Acknowledged { epoch: None, replayed: true, ..told("bet/1", 1) };
    scene.events.push(outcome(51, "a", Outcome::Acknowledged(again)));
    assert_eq!(scene.rejected_by(), []);
}

#[test]
fn an_answer_that_was_under_way_may_be_of_the_older_epoch() {
    let mut scene = Scene::good();
    scene.events.insert(0, invoke(2, "late", Kind::Open));
    scene.events.push(outcome(60, "late", Outcome::Acknowledged(told("round/7", 1))));
    let found = scene.rejected_by();
    assert!(!found.contains(&Oracle::C6), "{found:?}");
}

#[test]
fn an_oracle_that_saw_nothing_does_not_hold() {
    let mut scene = Scene::good();
    scene.events.clear();
    scene.observations.nodes.clear();
    scene.observations.money = Money::default();
    let judgement = scene.judge();
    assert!(judgement.verdicts.iter().all(|verdict| !verdict.holds()), "{judgement:#?}");
}

#[test]
fn a_history_is_read_back_and_half_a_line_is_left_out() {
    let scene = Scene::good();
    let mut text: String = scene
        .events
        .iter()
        .map(|event| serde_json::to_string(event).expect("JSON") + "\n")
        .collect();
    let whole = History::parse(&text).expect("a history");
    assert_eq!(whole, History::of(scene.events).expect("a history"));
    text.push_str("{\"event\":\"invo");
    assert_eq!(History::parse(&text).expect("a history"), whole);
    assert!(History::parse("{}\n").is_err());
    let orphan = outcome(1, "nobody", Outcome::Unknown("x".into()));
    assert!(History::of(vec![orphan]).is_err());
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Acknowledged(told("bet/1", 1))),
        Just(Outcome::Refused("r".into())),
        Just(Outcome::Unknown("u".into())),
    ]
}

proptest! {
    /// However a client's attempts end: it knows of the effect when it was once told, and only knows that there is none when
    /// every attempt was refused.
    #[test]
    fn a_client_knows_what_its_attempts_said(ends in prop::collection::vec(prop::option::of(any_outcome()), 1..8)) {
        let mut events = Vec::new();
        // What never ends is sent last, as a client has at most one attempt in flight.
        let (ended, open): (Vec<_>, Vec<_>) = ends.into_iter().partition(Option::is_some);
        for end in ended.iter().chain(open.iter().take(1)) {
            events.push(invoke(1, "k", Kind::Play));
            if let Some(end) = end {
                events.push(outcome(2, "k", end.clone()));
            }
        }
        let history = History::of(events).expect("a history");
        let told = ended.iter().flatten().any(|end| matches!(end, Outcome::Acknowledged(_)));
        let refused = open.is_empty() && ended.iter().flatten().all(|end| matches!(end, Outcome::Refused(_)));
        let standing = history.operations[0].standing();
        prop_assert_eq!(matches!(standing, Standing::Acknowledged(_)), told);
        prop_assert_eq!(matches!(standing, Standing::Refused), refused);
    }

    /// Losing any acknowledged effect on any node is found, whichever it is.
    #[test]
    fn any_lost_effect_is_found(node in 0..3usize, place in 0..4usize) {
        let mut scene = Scene::good();
        scene.observations.nodes[node].effects.remove(place);
        prop_assert!(scene.rejected_by().contains(&Oracle::C1));
    }

    /// So is any altered, missing or doubled leaf on any node.
    #[test]
    fn any_spoilt_leaf_is_found(node in 0..3usize, place in 0..4usize, how in 0..3u8) {
        let mut scene = Scene::good();
        let leaves = &mut scene.observations.nodes[node].logs.get_mut("MT/1").expect("the log").leaves;
        match how {
            0 => leaves[place].1 = "ab".repeat(32),
            1 => drop(leaves.remove(place)),
            _ => leaves.insert(place, leaves[place].clone()),
        }
        prop_assert!(scene.rejected_by().contains(&Oracle::C5));
    }

    /// Events that are no operation do not change what is known of operations.
    #[test]
    fn marks_change_nothing(places in prop::collection::vec(0..20usize, 0..5)) {
        let scene = Scene::good();
        let mut events = scene.events.clone();
        for place in places {
            events.insert(place, Event::Record { at_ns: 0, observer: "x".into(), epoch: 1, node: "writer-mt".into() });
        }
        let with = History::of(events).expect("a history");
        prop_assert_eq!(with.operations, History::of(scene.events).expect("a history").operations);
    }
}
