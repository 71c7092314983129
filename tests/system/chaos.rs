//! Chaos experiments as the program runs them, a few on one cluster: the writer moves, its region dies, and what could
//! not be carried out is not called passed.

use domicile_chaos::experiment::{Experiment, Step};
use domicile_chaos::report::{Report, Word};
use domicile_chaos::run;
use domicile_chaos::system::{Programs, System};
use domicile_tests::cluster::{self, Cluster};
use domicile_tests::topology::THREE_REGIONS;

async fn run(system: &System, experiment: &Experiment, name: &str) -> Report {
    let folder = system.state.join("chaos").join(name);
    run::run(system, experiment, 1, name, &folder).await.expect("a run")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_moves_and_its_region_dies_and_nothing_is_lost() {
    let cluster = Cluster::start("chaos", THREE_REGIONS);
    let programs =
        Programs { domicile: cluster::binary("domicile"), postgres_bin: cluster::postgres_bin() };
    let system = System::open(programs, cluster.state()).expect("the system");
    for name in ["switchover", "failover-manual"] {
        let experiment = Experiment::find(name).expect("an experiment");
        let report = run(&system, &experiment, name).await;
        let (word, reason) = report.result();
        assert_eq!(word, Word::Passed, "{name}: {reason}\n{report:#?}");
    }
    let mut impossible = Experiment::find("switchover").expect("an experiment");
    impossible.steps =
        vec![Step::Command { arguments: vec!["no-such-verb".to_owned()], aside: false }];
    let report = run(&system, &impossible, "impossible").await;
    assert_eq!(report.result().0, Word::NotRun, "{report:#?}");
}
