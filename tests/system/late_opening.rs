//! A switchover loses its second copy between the promotion and the opening of its epoch: the opening would wait for ever, and
//! a degradation takes the plan's place, opens the epoch with one copy and lets the writer serve.

use domicile_chaos::system::{Programs, System};
use domicile_tests::cluster::{self, Cluster};
use domicile_tests::eventually::eventually;
use domicile_tests::player::Player;
use domicile_tests::topology::THREE_REGIONS;
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

/// How long redundancy may take to be whole again.
const WHOLE_WITHIN: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_waits_for_a_dead_second_copy_is_opened_by_a_degradation() {
    let cluster = Cluster::start("late", THREE_REGIONS.get(..2).expect("two regions"));
    let programs =
        Programs { domicile: cluster::binary("domicile"), postgres_bin: cluster::postgres_bin() };
    let system = System::open(programs, cluster.state()).expect("the system");
    let operator = cluster.operator("acme", &["MT"], "MT").await;
    let opened = operator.session("patient", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.session().await;
    let mut rounds = vec![round(&player.play(&session, "before", 1).await)];

    // The executor dies when the new primary is promoted and the old one follows; then the old one dies, too.
    let place = format!("{}:after", promotion(&cluster));
    let switchover = ["switchover", "--to", "de-1", "--yes"];
    let died = system.cli_dying_at(&switchover, &place).await.expect("a command");
    assert!(died.status.code().is_none(), "NOT RUN: it has not died: {died:?}");
    for unit in ["ledger-mt/agent", "ledger-mt/postgres"] {
        cluster.kill(unit);
    }
    let record = cluster.status()["record"].clone();
    assert_eq!((&record["writer_region"], &record["durability"]), (&json!("de-1"), &json!("two")));
    let body = Player::play_body(&session, "high", 1_000_000, 2);
    let held = player.post("/v1/plays", "held", &body).await;
    assert!(held.is_ok_and(|held| !held.status.is_success()), "nobody serves");

    let given_up = cluster.try_cli(&["restore-durability", "--yes"]);
    assert!(!given_up.status.success(), "only a plan for when a move cannot be gone on with");
    let told = eventually("the degradation takes its place", WHOLE_WITHIN, || async {
        nobody_conducts(&cluster).await;
        let degrade = ["degrade", "--reason", "mt-1 burnt down", "--yes", "--json"];
        let output = cluster.try_cli(&degrade);
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output.stdout) } else { Err(said()) }
    })
    .await;
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    assert!(told.to_string().contains("open-epoch"), "NOT RUN: the epoch was open: {told:#}");
    let record = cluster.status()["record"].clone();
    assert_eq!((&record["durability"], &record["degraded_by"]), (&json!("one"), &json!("person")));
    assert_eq!(record["epoch"], 2);

    let play = || async {
        let answer = player.post("/v1/plays", "held", &body).await.map_err(|e| e.to_string())?;
        let told = answer.json();
        if answer.status == StatusCode::CREATED { Ok(told) } else { Err(told.to_string()) }
    };
    rounds.push(round(&eventually("the held play is acknowledged", WHOLE_WITHIN, play).await));

    cluster.start_unit("ledger-mt/agent");
    eventually("two copies again", WHOLE_WITHIN, || async {
        let output = cluster.try_cli(&["restore-durability", "--yes"]);
        let record = cluster.status()["record"].clone();
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if record["promotable"] == true { Ok(()) } else { Err(said()) }
    })
    .await;
    let session = player.session().await;
    rounds.push(round(&player.play(&session, "after", 3).await));
    for round in &rounds {
        let proof = player.proof(round).await;
        assert_eq!(proof.status, StatusCode::OK, "{round}: {}", proof.json());
    }
    let lost = cluster.cli(&["loss-statement"]);
    assert!(lost.contains("zero rounds lost"), "{lost}");
}

/// The dead executor's lock ends with its lease. Then the agent would go on with the plan, and wait for the dead node: it
/// looks two seconds after its start first, which is when the degradation comes.
async fn nobody_conducts(cluster: &Cluster) {
    cluster.kill("ledger-de/agent");
    eventually("nobody holds the executor's lock", WHOLE_WITHIN, || async {
        let status = cluster.status();
        let plan = status["plan"].as_str().unwrap_or_default();
        if plan.contains("run by nobody") { Ok(()) } else { Err(status["plan"].to_string()) }
    })
    .await;
    cluster.start_unit("ledger-de/agent");
}

/// The number of the step that promotes, in the plan that would be made.
fn promotion(cluster: &Cluster) -> usize {
    let plan = cluster.cli(&["plan", "switchover", "--to", "de-1", "--json"]);
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let steps = plan["steps"].as_array().expect("steps");
    let at = steps.iter().position(|step| step["action"]["do"] == "promote");
    at.expect("a promotion") + 1
}

fn round(play: &Value) -> String {
    play["round"].as_str().expect("a round").to_owned()
}
