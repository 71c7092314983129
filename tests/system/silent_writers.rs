//! A writer process that says nothing any more – dead for good, or frozen with its database sessions open – holds up
//! neither a degradation nor a move, and what it thinks it knows when it wakes up acknowledges nothing that gets lost.

use crate::faults::{self, OPERATIONS};
use crate::writers::{all_ready, judged};
use domicile_chaos::experiment::{Experiment, Step};
use domicile_chaos::fault::Fault;
use domicile_chaos::system::{Programs, System};
use domicile_oracles::Limits;
use domicile_tests::cluster::{self, Cluster};
use domicile_tests::topology::{THREE_REGIONS, document_with};

/// How long acknowledged operations, and the way back to a whole system, may take, in milliseconds.
const WITHIN_MS: u64 = 90_000;
/// The longest time without an acknowledgement, in milliseconds.
const GAP_MAX_MS: u64 = 60_000;
/// The process that says nothing.
const SILENT: &str = "writer-mt-2/writer";

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_says_nothing_holds_up_neither_a_degradation_nor_a_move() {
    let places = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start_document("silent", &document_with("silent", places, 2).text);
    let programs =
        Programs { domicile: cluster::binary("domicile"), postgres_bin: cluster::postgres_bin() };
    let system = System::open(programs, cluster.state()).expect("the system");

    let dead = Fault::KillUnit { unit: SILENT.to_owned() };
    judged(&cluster, &system, &degradation("dead-writer-degrade", dead)).await;
    all_ready(&cluster).await;

    let frozen = || Fault::FreezeUnit { unit: SILENT.to_owned() };
    judged(&cluster, &system, &degradation("frozen-writer-degrade", frozen())).await;
    all_ready(&cluster).await;

    judged(&cluster, &system, &switchover(frozen())).await;
    all_ready(&cluster).await;
    assert_eq!(cluster.status()["record"]["writer_region"], "de-1");
    let log = std::fs::read_to_string(cluster.state().join("nodes/ledger-mt/agent/log"));
    assert!(
        log.is_ok_and(|log| log.contains("writer that does not finish")),
        "NOT RUN: nobody's sessions were ended"
    );
}

/// The process falls silent, then the standby dies for good: one copy is chosen, and writes are acknowledged by the other
/// process. Healed, the silent one wakes up with what it knew.
fn degradation(name: &str, fault: Fault) -> Experiment {
    let degrade = ["degrade", "--reason", "the standby is lost", "--yes"];
    let steps = vec![
        Step::Inject { fault },
        Step::Inject { fault: Fault::KillNode { node: "ledger-de".to_owned() } },
        command(&degrade),
        acknowledged(),
        Step::Heal,
        acknowledged(),
        command(&["restore-durability", "--yes"]),
        acknowledged(),
        Step::Redundant { within_ms: WITHIN_MS },
    ];
    experiment(name, steps)
}

/// The process is frozen with its sessions, and the writer moves.
fn switchover(fault: Fault) -> Experiment {
    let steps = vec![
        Step::Inject { fault },
        command(&["switchover", "--to", "de-1", "--yes"]),
        acknowledged(),
        Step::Heal,
        acknowledged(),
        Step::Redundant { within_ms: WITHIN_MS },
    ];
    experiment("frozen-writer-switchover", steps)
}

fn command(arguments: &[&str]) -> Step {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    Step::Command { arguments, aside: false }
}

fn acknowledged() -> Step {
    Step::Acknowledged { more: OPERATIONS, within_ms: WITHIN_MS }
}

/// Without a standby nothing is acknowledged, until somebody degrades.
fn experiment(name: &str, steps: Vec<Step>) -> Experiment {
    let limits = Limits { gap_max_ms: Some(GAP_MAX_MS), ..Limits::default() };
    let title = format!("{SILENT} says nothing any more");
    Experiment { limits, ..faults::experiment(name, title, steps) }
}
