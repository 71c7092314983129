//! After a forced failover a log waits for every reader that may hold more of it; one that is gone is waived by a person,
//! by name, and by nothing else.

use domicile_tests::cluster::Cluster;
use domicile_tests::eventually::eventually;
use domicile_tests::operator::Operator;
use domicile_tests::player::Player;
use domicile_tests::topology::THREE_REGIONS;
use http::StatusCode;
use serde_json::Value;
use std::time::Duration;

/// How long a log may take until it is live, or known as suspended.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// How long a suspended log is watched: its gate asks twice a second.
const WATCH: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_readers_word_waits_until_a_person_waives_it_by_name() {
    let cluster = Cluster::start("waived", THREE_REGIONS);
    let operator = cluster.operator("acme", &["MT", "GB"], "MT").await;
    let (_, before) = play(&cluster, &operator, "GB", "before").await.expect("a play");
    proven(&cluster, &operator, "MT", "first").await;

    for unit in ["ledger-de/agent", "ledger-de/postgres", "writer-de/writer"] {
        cluster.kill(unit);
    }
    cluster.cli(&["degrade", "--reason", "the other region is away", "--yes"]);
    for node in ["ledger-mt", "writer-mt", "reader-mt"] {
        kill(&cluster, node);
    }
    for unit in ["ledger-de/agent", "writer-de/writer"] {
        cluster.start_unit(unit);
    }
    let reason = "the writer's region is lost";
    cluster.cli(&["failover", "--to", "de-1", "--accept-data-loss", reason, "--yes"]);
    assert_eq!(cluster.status()["record"]["beginning"], "forced");

    // The other jurisdictions go on; this one waits, and no other reader's waiver helps it.
    let gb = || play(&cluster, &operator, "GB", "after");
    let (session, _) = eventually("GB plays", SETTLED_WITHIN, gb).await;
    suspended(&cluster, &operator).await;
    cluster.start_unit("ledger-mt/agent");
    two_copies(&cluster).await;
    suspended(&cluster, &operator).await;
    cluster.cli(&["waive-reader", "reader-gb", "--reason", "a mistake", "--yes"]);
    suspended(&cluster, &operator).await;
    let nobody = cluster.try_cli(&["waive-reader", "reader-xx", "--reason", "a slip", "--yes"]);
    assert_eq!(nobody.status.code(), Some(2), "{nobody:?}");

    cluster.cli(&["waive-reader", "reader-mt", "--reason", "its host burnt", "--yes"]);
    let waived = cluster.status()["record"]["waived_readers"].clone();
    assert_eq!(waived, serde_json::json!(["reader-gb", "reader-mt"]));
    eventually("MT plays", SETTLED_WITHIN, || play(&cluster, &operator, "MT", "waived")).await;
    let again = cluster.try_cli(&["waive-reader", "reader-mt", "--reason", "again", "--yes"]);
    assert_eq!(again.status.code(), Some(2), "it is waived: {again:?}");

    // What was held before is held still, and the waived reader agrees once it is back.
    for unit in ["reader-mt/agent", "reader-mt/reader"] {
        cluster.start_unit(unit);
    }
    let player = Player::new(cluster.outside(), cluster.router("GB"), &session);
    assert_eq!(player.proof(&before).await.status, StatusCode::OK);
    eventually("the waived reader proves what came after", Duration::from_mins(2), || async {
        let (session, round) = play(&cluster, &operator, "MT", "back").await?;
        let player = Player::new(cluster.outside(), cluster.router("MT"), &session);
        let proof = player.proof(&round).await;
        if proof.status == StatusCode::OK { Ok(()) } else { Err(proof.json().to_string()) }
    })
    .await;
}

/// With one copy a log whose only reader is away is not signed for: that is another gate than the one looked at.
async fn two_copies(cluster: &Cluster) {
    eventually("two copies again", Duration::from_mins(2), || async {
        let output = cluster.try_cli(&["restore-durability", "--yes"]);
        let record = cluster.status()["record"].clone();
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if record["durability"] == "two" { Ok(()) } else { Err(said()) }
    })
    .await;
}

fn kill(cluster: &Cluster, node: &str) {
    let units: &[&str] = match node.split_once('-') {
        Some(("ledger", _)) => &["agent", "postgres"],
        Some(("reader", _)) => &["agent", "postgres", "reader"],
        _ => &["writer"],
    };
    for unit in units {
        cluster.kill(&format!("{node}/{unit}"));
    }
}

/// Nobody plays under a log that waits, for as long as it is watched.
async fn suspended(cluster: &Cluster, operator: &Operator) {
    let is_suspended = || async {
        match play(cluster, operator, "MT", "suspended").await {
            Err(refused) if refused.contains("jurisdiction-suspended") => Ok(()),
            Err(other) => Err(other),
            Ok((_, round)) => Err(format!("played {round}")),
        }
    };
    eventually("MT is suspended", SETTLED_WITHIN, is_suspended).await;
    let watched = tokio::time::Instant::now();
    while watched.elapsed() < WATCH {
        let played = play(cluster, operator, "MT", "suspended").await;
        assert!(played.is_err(), "played under a log whose reader was not heard: {played:?}");
    }
}

async fn proven(cluster: &Cluster, operator: &Operator, code: &str, key: &str) {
    let (session, round) = play(cluster, operator, code, key).await.expect("a play");
    let player = Player::new(cluster.outside(), cluster.router(code), &session);
    assert_eq!(player.proof(&round).await.status, StatusCode::OK);
}

/// One session and a play in it: the session, and the round.
async fn play(
    cluster: &Cluster,
    operator: &Operator,
    code: &str,
    key: &str,
) -> Result<(Value, String), String> {
    let request = format!("{code}-{key}-{}", uuid_like());
    let body = serde_json::json!({ "player": key, "game": "hilo-dice", "currency": "EUR",
        "jurisdiction": code, "request_id": request });
    let body = body.to_string();
    let opened = operator.send(http::Method::POST, "/operator/v1/sessions", body.as_bytes()).await;
    let opened = opened.map_err(|error| error.to_string())?;
    let opened: Value = serde_json::from_slice(opened.body()).map_err(|error| error.to_string())?;
    if opened["token"].is_null() {
        return Err(opened.to_string());
    }
    let player = Player::new(cluster.outside(), cluster.router(code), &opened);
    let session = player.get("/v1/session").await.map_err(|error| error.to_string())?;
    if session.status != StatusCode::OK {
        return Err(session.json().to_string());
    }
    let body = Player::play_body(&session.json(), "high", 1_000_000, 1);
    let play =
        player.post("/v1/plays", &request, &body).await.map_err(|error| error.to_string())?;
    let round = play.json()["round"].as_str().map(str::to_owned);
    round.map(|round| (opened, round)).ok_or_else(|| play.json().to_string())
}

/// A name that no request had before.
fn uuid_like() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
