//! A few crash points on a real cluster, others with each commit: the command dies, its plan is gone on with, and nothing
//! is lost. `make crash-points` tries all of them.

use domicile_chaos::crash::{self, Share};
use domicile_chaos::suite::Options;
use domicile_tests::cluster::Cluster;
use domicile_tests::topology::THREE_REGIONS;
use std::process::Command;

/// Of this many shares one is tried: about four points. A prime, so that no share holds one verb or one side only.
const SHARES: u64 = 29;
/// No further point begins after this.
const WITHIN_S: u64 = 90;

/// A number that differs between commits.
fn commit() -> u64 {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().expect("run git");
    let text = String::from_utf8(output.stdout).expect("text");
    text.get(..8).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_dies_within_its_plan_is_gone_on_with_and_nothing_is_lost() {
    let cluster = Cluster::start("crash", THREE_REGIONS);
    let out = cluster.state().join("crash-points");
    let state = Some(cluster.state().to_owned());
    let options = Options { seed: 1, state, out: out.clone(), within_s: WITHIN_S };
    let share = Share::new(commit(), SHARES);
    let tally = crash::run(&options, share).await.expect("crash points");
    let lines = std::fs::read_to_string(out.join("points.jsonl")).expect("the report");
    assert_eq!((tally.failed, tally.not_run), (0, 0), "{share:?}: {tally}\n{lines}");
    assert!(tally.passed > 0, "{share:?}: {tally}");
}
