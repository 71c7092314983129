//! The executor is killed at every point of every plan, once and twice, and run again.
//!
//! Killed after a call is the same to the world as killed before the next one, so the points are: before the first
//! call, and after each that changes something.

use crate::faults::Fault;
use crate::scenario::{Case, case, cases, run};
use domicile_execute::Outcome;

/// Calls that only look: killed after one is the same as killed after the one before it.
const LOOKS: [&str; 4] = ["record", "leases", "writer", "status"];

/// The calls, by number, after which a killed executor leaves another world behind than after the call before.
fn effective(calls: &[&'static str]) -> Vec<u64> {
    let numbered = (1..).zip(calls).filter(|(_, name)| !LOOKS.contains(name));
    numbered.map(|(number, _)| number).collect()
}

fn points(calls: &[&'static str]) -> Vec<(u64, Fault)> {
    let after = effective(calls).into_iter().map(|call| (call, Fault::KilledAfter));
    std::iter::once((1, Fault::KilledBefore)).chain(after).collect()
}

#[test]
fn every_plan_completes_when_nothing_happens() {
    for case in cases() {
        let ended = run(&case, &[], None);
        assert_eq!(ended.finished.outcome, Outcome::Completed, "{}", case.name);
        for (number, reason) in ended.finished.failures() {
            assert!(reason.contains("is cut off"), "{} {number}: {reason}", case.name);
        }
    }
}

#[test]
fn every_plan_converges_from_every_single_crash() {
    let mut tried = 0;
    for case in cases() {
        let calls = run(&case, &[], None).calls;
        for point in points(&calls) {
            let ended = run(&case, &[point], None);
            assert_eq!(ended.finished.outcome, Outcome::Completed, "{} {point:?}", case.name);
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} points only");
}

/// A second crash at every call after the first: while the plan is gone on with.
fn converges_from_two_crashes(case: &Case) {
    let calls = run(case, &[], None).calls;
    for first in points(&calls) {
        let resumed = run(case, &[first], None).calls;
        for second in effective(&resumed).into_iter().filter(|call| *call > first.0) {
            let second = (second, Fault::KilledAfter);
            let ended = run(case, &[first, second], None);
            assert_eq!(ended.finished.outcome, Outcome::Completed, "{first:?} {second:?}");
        }
    }
}

#[test]
fn a_switchover_converges_from_every_two_crashes() {
    converges_from_two_crashes(&case("switchover"));
}

#[test]
fn a_failover_converges_from_every_two_crashes() {
    converges_from_two_crashes(&case("failover"));
}

#[test]
fn a_forced_failover_converges_from_every_two_crashes() {
    converges_from_two_crashes(&case("forced failover"));
}

#[test]
fn a_failback_converges_from_every_two_crashes() {
    converges_from_two_crashes(&case("failback"));
}

#[test]
fn the_other_plans_converge_from_every_two_crashes() {
    for name in ["rejoin", "restore-durability", "degrade", "reader add", "reader reseed"] {
        converges_from_two_crashes(&case(name));
    }
}
