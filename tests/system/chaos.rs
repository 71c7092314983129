//! The smoke suite of the chaos experiments, as `make chaos` runs it: all of them are carried out, and all pass.

use domicile_chaos::experiment::Experiment;
use domicile_chaos::report::{Report, Word};
use domicile_chaos::suite::{self, Options};

/// No further experiment begins after this; the whole suite takes eight minutes at most.
const WITHIN_S: u64 = 450;

#[tokio::test(flavor = "multi_thread")]
async fn every_experiment_of_the_smoke_suite_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_owned();
    let options = Options { seed: 1, state: None, out: out.clone(), within_s: WITHIN_S };
    let mut experiments = Experiment::shipped().expect("experiments");
    experiments.retain(|experiment| experiment.suites.iter().any(|suite| suite == "smoke"));
    let count = experiments.len();
    let word = suite::run("smoke", experiments, &options).await.expect("a suite");
    let reports = std::fs::read(out.join("suite.json")).expect("the reports");
    let reports: Vec<Report> = serde_json::from_slice(&reports).expect("reports");
    for report in &reports {
        let (word, reason) = report.result();
        assert_eq!(word, Word::Passed, "{}: {reason}\n{report:#?}", report.experiment);
    }
    assert_eq!((word, reports.len()), (Word::Passed, count));
}
