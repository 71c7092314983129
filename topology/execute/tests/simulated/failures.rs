//! Calls that fail: refused, without an answer, late; and an executor that sleeps through its lease.

use crate::faults::Fault;
use crate::scenario::{Stage, Start, case, cases, in_virtual_time, run, run_changed, start};
use domicile_execute::{ExecuteError, Outcome};
use domicile_topology::plan::{Action, Intent, Plan};

const KINDS: [Fault; 5] =
    [Fault::Refused, Fault::AnswerLost, Fault::Silent, Fault::Late, Fault::Asleep];

#[test]
fn every_plan_ends_well_whichever_call_fails() {
    for case in cases() {
        let calls = run(&case, &[], None).calls.len() as u64;
        for kind in KINDS {
            for call in 1..=calls {
                run(&case, &[(call, kind)], None);
            }
        }
    }
}

/// The auditor can fail: with a step left out, it says so.
#[test]
#[should_panic(expected = "acknowledges after epoch")]
fn the_auditor_finds_a_failover_that_does_not_wait_for_leases() {
    let is_wait = |action: &Action| matches!(action, Action::AwaitLeaseEnd { .. });
    run_changed(&case("forced failover"), |plan| plan.steps.retain(|step| !is_wait(&step.action)));
}

#[test]
#[should_panic(expected = "a write at")]
fn the_auditor_finds_an_epoch_that_is_not_opened() {
    let is_opening =
        |action: &Action| matches!(action, Action::OpenEpoch { .. } | Action::AwaitWriter { .. });
    run_changed(&case("failover"), |plan| plan.steps.retain(|step| !is_opening(&step.action)));
}

#[test]
fn a_plan_for_another_record_and_a_second_plan_are_refused() {
    in_virtual_time(async {
        let stage = Stage::new(start(Start::Healthy), &[]);
        let plan = stage.plan(&case("switchover").intent).await;
        let outdated = Plan { record_revision: plan.record_revision - 1, ..plan.clone() };
        let refused = stage.executor("a", None).run(&outdated, &()).await;
        assert!(matches!(refused, Err(ExecuteError::Stale { .. })), "{refused:?}");
        let nothing = stage.executor("a", None).resume(&()).await;
        assert!(matches!(nothing, Err(ExecuteError::NothingToResume)), "{nothing:?}");
        let (first, second) = (stage.executor("first", None), stage.executor("second", None));
        let (one, two) = tokio::join!(first.run(&plan, &()), second.run(&plan, &()));
        let (winner, finished, loser) = match (one, two) {
            (Ok(finished), Err(refused)) => ("first", finished, refused),
            (Err(refused), Ok(finished)) => ("second", finished, refused),
            other => panic!("{other:?}"),
        };
        assert_eq!(finished.outcome, Outcome::Completed);
        assert!(matches!(loser, ExecuteError::Held { owner } if owner == winner));
        let again = second.run(&plan, &()).await.unwrap();
        assert_eq!(again.outcome, Outcome::Completed, "what is over is not run again");
    });
}

/// What was looked at before may have stopped since, and waits for a person then.
#[test]
fn a_plan_is_taken_over_from_a_dead_executor_and_not_from_one_that_stopped() {
    in_virtual_time(async {
        let stage = Stage::new(start(Start::Healthy), &[]);
        let nothing = stage.executor("b", None).take_over(&()).await;
        assert!(matches!(nothing, Err(ExecuteError::NothingToResume)), "{nothing:?}");
        let plan = stage.plan(&Intent::Degrade { reason: "a test".to_owned() }).await;
        stage.cluster.lock().unwrap().isolate("mt-1");
        let stopped = stage.executor("a", None).run(&plan, &()).await;
        assert!(matches!(stopped, Err(ExecuteError::Stopped { .. })), "{stopped:?}");
        stage.cluster.lock().unwrap().isolated.clear();
        let left = stage.executor("b", None).take_over(&()).await;
        assert!(matches!(left, Err(ExecuteError::NothingToResume)), "{left:?}");
        let finished = stage.executor("a person", None).resume(&()).await.unwrap();
        assert_eq!(finished.outcome, Outcome::Completed);
    });
    in_virtual_time(async {
        let stage = Stage::new(start(Start::Healthy), &[(5, Fault::KilledAfter)]);
        let plan = stage.plan(&case("switchover").intent).await;
        let executor = stage.executor("dies", None);
        tokio::select! {
            () = stage.faults.killed() => {}
            finished = executor.run(&plan, &()) => panic!("{finished:?}"),
        }
        stage.cluster.lock().unwrap().plane.lock = None;
        let finished = stage.executor("b", None).take_over(&()).await.unwrap();
        assert_eq!(finished.outcome, Outcome::Completed);
    });
}

/// The writer's region dies in the middle of a switchover: what can fail over does, what cannot waits for it.
#[test]
fn a_region_that_dies_during_a_switchover_costs_no_acknowledged_write() {
    let calls = run(&case("switchover"), &[], None).calls.len() as u64;
    let (mut failed_over, mut waited, mut unharmed) = (0, 0, 0);
    for call in 5..=calls {
        in_virtual_time(async {
            let stage = Stage::new(start(Start::Healthy), &[(call, Fault::KilledAfter)]);
            let plan = stage.plan(&case("switchover").intent).await;
            let executor = stage.executor("dies", None);
            tokio::select! {
                () = stage.faults.killed() => {}
                // A look at one writer is left when another one serves: nobody dies there.
                finished = executor.run(&plan, &()) => {
                    unharmed += 1;
                    stage.settle_and_audit(&plan, &finished.unwrap()).await;
                    return;
                }
            }
            {
                let mut cluster = stage.cluster.lock().unwrap();
                cluster.plane.lock = None;
                cluster.isolate("mt-1");
            }
            let failover = stage.try_plan(&case("failover").intent, "plan-2").await;
            if let Ok(failover) = failover {
                let finished = stage.executor("operator", None).run(&failover, &()).await.unwrap();
                stage.settle_and_audit(&failover, &finished).await;
                failed_over += 1;
                return;
            }
            if stage.cluster.lock().unwrap().plane.current.is_none() {
                return;
            }
            let resumed = stage.executor("operator", None).resume(&()).await;
            waited += u32::from(resumed.is_err());
            stage.cluster.lock().unwrap().isolated.clear();
            let again = stage.executor("operator", None);
            let finished = if let Ok(finished) = resumed {
                finished
            } else {
                again.resume(&()).await.unwrap()
            };
            stage.settle_and_audit(&plan, &finished).await;
        });
    }
    assert!(failed_over > 5 && waited > 2 && unharmed < 2, "{failed_over} {waited} {unharmed}");
}

#[test]
fn a_switchover_that_cannot_demote_is_called_off_and_can_be_tried_again() {
    let calls = run(&case("switchover"), &[], None).calls;
    let demote = calls.iter().position(|name| *name == "demote").unwrap() as u64 + 1;
    let ended = run(&case("switchover"), &[(demote, Fault::Refused)], None);
    assert!(matches!(ended.finished.outcome, Outcome::CalledOff { .. }));
    assert!(ended.cluster.record().promotable, "nothing is lost by the attempt");
}

/// Each transaction waits for a majority's disks while nobody can play.
#[test]
fn the_pause_of_a_switchover_holds_three_transactions() {
    let calls = run(&case("switchover"), &[], None).calls;
    let demote = calls.iter().position(|name| *name == "demote").unwrap();
    let serves = calls.iter().rposition(|name| *name == "writer").unwrap();
    let within = calls[demote..serves].iter().filter(|name| **name == "journal").count();
    // Closing writes, with the beginning of the demotion; then these.
    assert_eq!((calls[demote - 1], within), ("journal", 2), "{calls:?}");
}

/// A frozen writer takes its time to say nothing; clients wait for the one beside it.
#[test]
fn a_writer_that_does_not_answer_hides_no_other() {
    let whole = run(&case("switchover"), &[], None).calls;
    let look = whole.iter().position(|name| *name == "writer").unwrap() as u64 + 1;
    let ended = run(&case("switchover"), &[(look, Fault::Silent)], None);
    assert!(matches!(ended.finished.outcome, Outcome::Completed));
    let begun = |calls: &[&str]| calls.iter().filter(|name| **name == "record").count();
    assert_eq!(begun(&ended.calls), begun(&whole), "nobody had to go on with the plan");
}
