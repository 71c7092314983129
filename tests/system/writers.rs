//! Two writer processes in each ledger region: one dies under load and nobody notices more than a pause; then the writer
//! moves, and both processes of the other region serve.

use crate::faults::{OPERATIONS, WITHIN_MS, experiment};
use domicile_chaos::experiment::{Experiment, Step};
use domicile_chaos::fault::Fault;
use domicile_chaos::report::Word;
use domicile_chaos::run;
use domicile_chaos::system::{Programs, System};
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::tls::ClientTls;
use domicile_tests::cluster::{self, Cluster};
use domicile_tests::eventually::eventually;
use domicile_tests::operator::Operator;
use domicile_tests::player::Player;
use domicile_tests::topology::{THREE_REGIONS, document_with};
use http::StatusCode;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long another process may take to have checkpoints signed again.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_region_writes_on_when_one_of_its_writers_dies() {
    let places = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start_document("writers", &document_with("writers", places, 2).text);
    let operator = cluster.operator("first", &["MT"], "MT").await;
    plays_and_is_proven(&cluster, &operator, "before").await.expect("a proven play");

    let writes_logs = sequencing(&cluster).await;
    cluster.kill(&format!("{writes_logs}/writer"));
    let begun = Instant::now();
    eventually("a new session is covered and its play proven", TAKEN_OVER_WITHIN, || {
        plays_and_is_proven(&cluster, &operator, "after")
    })
    .await;
    eprintln!("the logs of {writes_logs} were taken over within {:?}", begun.elapsed());
    let successor = sequencing(&cluster).await;
    assert_ne!(successor, writes_logs);
    cluster.start_unit(&format!("{writes_logs}/writer"));
    all_ready(&cluster).await;

    let programs =
        Programs { domicile: cluster::binary("domicile"), postgres_bin: cluster::postgres_bin() };
    let system = System::open(programs, cluster.state()).expect("the system");
    let killed = kill(&format!("{successor}/writer"));
    judged(&cluster, &system, &killed).await;
    let moved = Experiment::find("switchover").expect("an experiment");
    judged(&cluster, &system, &moved).await;
    all_ready(&cluster).await;
    assert!(sequencing(&cluster).await.starts_with("writer-de"));
}

/// Killed under load; the load goes on before anything is mended.
fn kill(unit: &str) -> Experiment {
    let more = Step::Acknowledged { more: OPERATIONS, within_ms: WITHIN_MS };
    let steps = vec![
        Step::Inject { fault: Fault::KillUnit { unit: unit.to_owned() } },
        more.clone(),
        Step::Heal,
        more,
        Step::Redundant { within_ms: WITHIN_MS },
    ];
    let title = format!("{unit} is killed, the other writer goes on");
    experiment("one-of-two-writers", title, steps)
}

/// Runs it; it passes.
pub(crate) async fn judged(cluster: &Cluster, system: &System, experiment: &Experiment) {
    let name = &experiment.name;
    let folder = cluster.state().join("chaos").join(name);
    let report = run::run(system, experiment, 1, name, &folder).await.expect("a run");
    let (word, reason) = report.result();
    assert_eq!(word, Word::Passed, "{name}: {reason}\n{report:#?}");
}

/// One session from its opening to the proof of a play.
async fn plays_and_is_proven(
    cluster: &Cluster,
    operator: &Operator,
    key: &str,
) -> Result<(), String> {
    let body = serde_json::json!({ "player": key, "game": "hilo-dice", "currency": "EUR",
        "jurisdiction": "MT", "request_id": key });
    let body = body.to_string();
    let opened = operator.send(http::Method::POST, "/operator/v1/sessions", body.as_bytes()).await;
    let opened = opened.map_err(|error| error.to_string())?;
    let opened: serde_json::Value =
        serde_json::from_slice(opened.body()).map_err(|error| error.to_string())?;
    if opened["token"].is_null() {
        return Err(opened.to_string());
    }
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.get("/v1/session").await.map_err(|error| error.to_string())?;
    if session.status != StatusCode::OK {
        return Err(session.json().to_string());
    }
    let body = Player::play_body(&session.json(), "high", 1_000_000, 1);
    let play = player.post("/v1/plays", key, &body).await.map_err(|error| error.to_string())?;
    let play = play.json();
    let round = play["round"].as_str().ok_or_else(|| play.to_string())?;
    let proof = player.proof(round).await;
    if proof.status == StatusCode::OK { Ok(()) } else { Err(proof.json().to_string()) }
}

/// The one process that writes the logs.
async fn sequencing(cluster: &Cluster) -> String {
    eventually("one process writes the logs", TAKEN_OVER_WITHIN, || async {
        let mut found = Vec::new();
        for writer in &cluster.topology().writers {
            let url = format!("http://{}/metrics", writer.admin);
            let request = http::Request::get(url).body(bytes::Bytes::new()).expect("a request");
            let Ok(answer) = cluster.outside().send(request).await else { continue };
            if String::from_utf8_lossy(answer.body()).contains("\ndomicile_log_sequencing 1") {
                found.push(writer.node.to_string());
            }
        }
        match found.as_slice() {
            [one] => Ok(one.clone()),
            _ => Err(format!("{found:?}")),
        }
    })
    .await
}

/// Waits until nothing is wrong.
pub(crate) async fn all_ready(cluster: &Cluster) {
    eventually("everything is ready", Duration::from_mins(1), || async {
        let status = cluster.status();
        if status["healthy"] == true { Ok(()) } else { Err(status["problems"].to_string()) }
    })
    .await;
}

/// Bets that a process took without knowing of the wallet would have no stake there.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_is_served_by_every_process_once_the_command_has_ended() {
    let places = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start_document("purse", &document_with("purse", places, 2).text);
    let _operator = cluster.operator("first", &["MT"], "MT").await;
    let key = cluster.state().join("key");
    std::fs::write(&key, [7; 16]).expect("write the key");
    let key = key.display().to_string();
    let tls = ClientTls::load(&cluster::certificate(&cluster.state().join("operator/tls")));
    let client = HttpClient::new(&tls.expect("a certificate"), ClientLimits::default());
    let topology = cluster.topology();
    for revision in 1..=5 {
        let url = format!("https://wallet.example/{revision}");
        let set = ["wallet", "set", "first", "--url", &url, "--key-id", "k", "--key-file", &key];
        cluster.cli(&[&set[..], &["--duplicate", "done", "--reason", "a test"]].concat());
        for writer in topology.writers_in(&topology.failover.preferred_region) {
            let path = format!("{}/internal/v1/operators/first/wallet", writer.endpoint);
            let served: Value = client.get_json(&path).await.expect("an answer");
            assert_eq!(served["base_url"], url, "{}", writer.node);
        }
    }

    let dead = "writer-mt-2";
    cluster.cli(&["stop", dead]);
    let url = "https://wallet.example/last";
    let set = ["wallet", "set", "first", "--url", url, "--key-id", "k", "--key-file", &key];
    let set = [&set[..], &["--duplicate", "done", "--reason", "a test"]].concat();
    let output = cluster.try_cli(&set);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("is stored") && said.contains(dead), "{said}");
    assert!(!said.contains("writer-mt does"), "only what did not confirm: {said}");
    cluster.cli(&["start", dead]);
    let dead = topology.writers.iter().find(|writer| writer.node.as_str() == dead);
    let path = format!("{}/internal/v1/operators/first/wallet", dead.expect("it").endpoint);
    let served: Value = client.get_json(&path).await.expect("an answer");
    assert_eq!(served["base_url"], url, "what was stored is served from the start");
}
