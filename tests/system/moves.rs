//! The writer moves by the operator's own commands, under load, and the evidence for it holds.

use domicile_tests::cluster::Cluster;
use domicile_tests::topology::THREE_REGIONS;
use serde_json::Value;

/// Round trips in a row.
const ROUND_TRIPS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_goes_away_and_comes_back_and_nobody_loses_anything() {
    let cluster = Cluster::start("moves", THREE_REGIONS.get(..2).expect("two regions"));
    refusals_say_what_would_mend_them(&cluster);
    a_dry_run_changes_nothing(&cluster);

    let report = drill(&cluster, "switchover");
    assert_eq!(writer_region(&cluster), "de-1");
    assert_evidence(&report);
    assert_eq!(report["loads"][0]["failed_attempts"], serde_json::json!({}), "{report:#}");

    let report = drill(&cluster, "failback");
    assert_eq!(writer_region(&cluster), "mt-1");
    assert_evidence(&report);
    let plan = cluster.try_cli(&["failback"]);
    assert_eq!(plan.status.code(), Some(2), "it is there already");

    let report = drill(&cluster, "round-trip");
    assert_eq!(writer_region(&cluster), "mt-1");
    assert_evidence(&report);
    assert_every_round_trip(&report);
    assert!(cluster.cli(&["loss-statement"]).contains("zero rounds lost"));
}

/// Each cycle by itself: the region was killed, the writer went away, two copies and then the writer came back, and what
/// that cycle's players were told is proven.
fn assert_every_round_trip(report: &Value) {
    let moves = report["moves"].as_array().expect("moves");
    let loads = report["loads"].as_array().expect("loads");
    assert_eq!(loads.len(), ROUND_TRIPS, "{report:#}");
    for (cycle, load) in (1_u64..).zip(loads) {
        assert_eq!(load["lost"], serde_json::json!([]), "cycle {cycle}: {load:#}");
        assert_eq!(load["proven"], load["acknowledged"], "cycle {cycle}: {load:#}");
        let own: Vec<&Value> = moves.iter().filter(|moved| moved["cycle"] == cycle).collect();
        let verbs: Vec<&str> = own.iter().filter_map(|moved| moved["verb"].as_str()).collect();
        assert_eq!(verbs, ["failover", "restore-durability", "failback"], "cycle {cycle}");
        let fault = own[0]["fault"].as_str().expect("a fault");
        assert!(fault.contains("SIGKILL") && fault.contains("ledger-mt/postgres"), "{fault}");
        for moved in own {
            assert_eq!(moved["done"], true, "cycle {cycle}: {moved:#}");
            let logs = moved["logs"].as_array().expect("logs");
            assert!(logs.iter().all(|log| log["fault"].is_null()), "cycle {cycle}: {moved:#}");
        }
    }
}

fn refusals_say_what_would_mend_them(cluster: &Cluster) {
    let refused = cluster.try_cli(&["plan", "switchover", "--to", "mt-1", "--json"]);
    assert_eq!(refused.status.code(), Some(2));
    let refused: Value = serde_json::from_slice(&refused.stdout).expect("JSON");
    let missing = &refused["refused"]["missing"][0];
    assert_eq!(missing["code"], "already-there");
    assert!(!missing["remedy"].as_str().expect("a remedy").is_empty());
    // Two members of the control plane: none can be lost.
    for (kind, why) in [("failover", "no majority"), ("switchover", "break a region")] {
        let drill = cluster.try_cli(&[
            "drill",
            kind,
            "--mode",
            "live",
            "--yes",
            "--etcd-leader",
            "elsewhere",
        ]);
        let said = String::from_utf8_lossy(&drill.stderr).into_owned();
        assert!(drill.status.code() == Some(1) && said.contains(why), "{said}");
    }
    let unasked = cluster.try_cli(&["switchover", "--to", "de-1"]);
    assert_eq!(unasked.status.code(), Some(1), "nobody can be asked, and nobody has agreed");
}

fn a_dry_run_changes_nothing(cluster: &Cluster) {
    let before = cluster.status()["record"].clone();
    let plan: Value =
        serde_json::from_str(&cluster.cli(&["switchover", "--to", "de-1", "--dry-run", "--json"]))
            .expect("JSON");
    assert_eq!(plan["intent"]["verb"], "switchover");
    cluster.cli(&["drill", "switchover", "--mode", "dry-run"]);
    assert_eq!(cluster.status()["record"], before);
}

/// A live drill; its report, after the signature over it was checked by the program.
fn drill(cluster: &Cluster, kind: &str) -> Value {
    let folder = cluster.state().join(format!("report-{kind}"));
    let folder = folder.to_str().expect("a text path");
    let cycles = if kind == "round-trip" { ROUND_TRIPS } else { 1 }.to_string();
    let output = cluster.try_cli(&[
        "drill", kind, "--mode", "live", "--yes", "--json", "--report", folder, "--cycles", &cycles,
    ]);
    // Whether it was quick enough depends on the machine, and is no matter of this test.
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{told}");
    let key = cluster.state().join("operator/keys/drills.vkey");
    let key = std::fs::read_to_string(key).expect("the drill key");
    cluster.cli(&["verify", "--report", folder, "--key", key.trim()]);
    serde_json::from_slice(&output.stdout).expect("a report")
}

fn assert_evidence(report: &Value) {
    for finding in report["findings"].as_array().expect("findings") {
        assert!(finding["passed"] == true || finding["is_timing"] == true, "{report:#}");
    }
    for moved in report["moves"].as_array().expect("moves") {
        assert!(!moved["logs"].as_array().expect("logs").is_empty(), "{moved:#}");
        assert!(moved["log_gate"]["epoch"].is_u64(), "{moved:#}");
    }
}

fn writer_region(cluster: &Cluster) -> String {
    cluster.status()["record"]["writer_region"].as_str().expect("a region").to_owned()
}
