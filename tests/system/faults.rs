//! `kill -9` under load of each part in turn: nothing acknowledged is lost or doubled, retried requests get
//! their first answer, and the log goes on consistently.

use domicile_chaos::history::{Operation, violations};
use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::load::Load;
use domicile_tests::operator::Operator;
use domicile_tests::player::Player;
use domicile_tests::topology::{Place, THREE_REGIONS};
use http::StatusCode;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Players of the load, per jurisdiction.
const PLAYERS: usize = 4;
/// Plays that must be acknowledged before and after each fault.
const PLAYS: usize = 20;
/// How long they may take.
const WITHIN: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_part_loses_nothing_and_doubles_nothing() {
    let places: &[Place] = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start("kills", places);
    let operator = cluster.operator("acme", &["MT", "DE"], "MT").await;
    let checkpoint = checkpoint(&cluster).await;
    for unit in [
        "writer-mt/writer",
        "ledger-mt/postgres",
        "reader-mt/reader",
        "router-mt/router",
        "ledger-mt/agent",
    ] {
        kill_under_load(&cluster, &operator, unit).await;
    }
    log_extends(&cluster, &checkpoint).await;
}

async fn kill_under_load(cluster: &Cluster, operator: &Operator, unit: &str) {
    let name = unit.replace('/', "-");
    let mut players = Vec::new();
    for number in 0..PLAYERS {
        let opened = operator.session(&format!("{name}-{number}"), "MT", "hilo-dice").await;
        players.push(Player::new(cluster.outside(), cluster.router("MT"), &opened));
    }
    let load = Load::start(&name, players.clone());
    load.acknowledged(PLAYS, WITHIN).await;
    assert_counts(cluster, &load).await;
    cluster.kill(unit);
    // The agent starts its Postgres again by itself; everything else is started by its supervisor: us.
    if !unit.ends_with("/postgres") {
        cluster.start_unit(unit);
    }
    load.acknowledged(PLAYS, WITHIN).await;
    let history = load.finish().await;
    let operations = history.operations();
    let exists = existing_rounds(cluster, &name).await;
    let found = violations(&operations, &exists);
    assert!(found.is_empty(), "after kill -9 of {unit}: {found:#?}");
    first_answers_are_kept(players.first().expect("a player"), &operations).await;
    proofs_hold(players.first().expect("a player"), &operations).await;
}

/// A run counts only if the standby was `sync` and writes were in flight when the fault was injected.
async fn assert_counts(cluster: &Cluster, load: &Load) {
    let ledger = database::connect(cluster, "ledger-mt").await;
    let sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    assert_eq!(database::count(&ledger, sync).await, 1, "NOT RUN: the standby is not sync");
    for _ in 0..1_000 {
        if load.history().in_flight() > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("NOT RUN: no write is in flight");
}

/// Rounds of the load's players in the ledger, each with the number of its bets.
async fn existing_rounds(cluster: &Cluster, name: &str) -> BTreeMap<String, usize> {
    let ledger = database::connect(cluster, "ledger-mt").await;
    let rows = ledger
        .query(
            "SELECT round_id::text, count(*) FROM ledger.bet WHERE player_ref LIKE $1 GROUP BY 1",
            &[&format!("{name}-%")],
        )
        .await
        .expect("the bets");
    rows.iter()
        .map(|row| (row.get(0), usize::try_from(row.get::<_, i64>(1)).expect("a count")))
        .collect()
}

/// The first player's last plays, sent once more with their keys, are answered byte for byte as before.
async fn first_answers_are_kept(player: &Player, operations: &[Operation]) {
    let mine = operations.iter().filter(|operation| operation.key.contains("-0-"));
    let known: Vec<(&str, &Value)> = mine
        .filter_map(|operation| operation.acknowledged().map(|body| (operation.key.as_str(), body)))
        .collect();
    let session = player.session().await;
    for (key, before) in known.iter().rev().take(3) {
        let number: u64 =
            key.rsplit('-').next().and_then(|text| text.parse().ok()).expect("a number");
        let mut body = Player::play_body(&session, "high", 1_000_000, number);
        // The body must be the one sent then: the receipt in the answer names what the bet named.
        let receipt = before["receipt"].as_str().expect("a receipt");
        let named = |field: &str| {
            receipt
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .expect("a receipt line")
                .trim()
        };
        body["commitment"] = named("commitment ").into();
        body["checkpoint_size"] = named("checkpoint_size ").parse::<u64>().expect("a size").into();
        let again = player.post("/v1/plays", key, &body).await.expect("an answer");
        assert_eq!(again.status, StatusCode::CREATED, "{key}: {}", again.json());
        assert!(again.replayed, "{key} is answered from the store");
        assert_eq!(&again.json(), *before, "{key}");
    }
}

async fn proofs_hold(player: &Player, operations: &[Operation]) {
    let last = operations
        .iter()
        .filter_map(Operation::acknowledged)
        .next_back()
        .expect("an acknowledged play");
    let round = last["round"].as_str().expect("a round");
    let deadline = Duration::from_secs(20);
    domicile_tests::eventually::eventually("a proof after the fault", deadline, || async {
        let proof = player.proof(round).await;
        if proof.status == StatusCode::OK { Ok(()) } else { Err(proof.json().to_string()) }
    })
    .await;
}

async fn log_text(cluster: &Cluster, path: &str) -> String {
    let url = format!("{}/log/MT{path}", cluster.router("MT").trim_end_matches('/'));
    let request = http::Request::get(url).body(bytes::Bytes::new()).expect("a request");
    let response = cluster.outside().send(request).await.expect("an answer");
    let text = String::from_utf8_lossy(response.body()).into_owned();
    assert_eq!(response.status(), StatusCode::OK, "{path}: {text}");
    text
}

/// The first checkpoint of the run: made by one play.
async fn checkpoint(cluster: &Cluster) -> String {
    let operator = cluster.operator("first", &["MT"], "MT").await;
    let opened = operator.session("first", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.session().await;
    let answer = player.play(&session, "first", 1).await;
    assert_eq!(
        player.proof(answer["round"].as_str().expect("a round")).await.status,
        StatusCode::OK
    );
    log_text(cluster, "/checkpoint").await
}

/// The log of now extends the log of then, as proven by the reader and checked here.
async fn log_extends(cluster: &Cluster, then: &str) {
    use domicile_core::checkpoint::Checkpoint;
    use domicile_core::log::proof::verify_consistency;
    use domicile_core::note::VerifierKey;
    let keys = &cluster.topology().log_keys;
    let key = keys.iter().find(|key| key.jurisdiction.as_str() == "MT").expect("MT's log key");
    let key = VerifierKey::parse(&key.vkey).expect("a verifier key");
    let old = Checkpoint::open(then, std::slice::from_ref(&key)).expect("the checkpoint of then");
    let text = log_text(cluster, &format!("/consistency?from={}", old.size)).await;
    let (head, note) = text.split_once("\n\n").expect("a blank line");
    let new = Checkpoint::open(note, std::slice::from_ref(&key)).expect("the checkpoint of now");
    let path: Vec<_> = head
        .lines()
        .skip(1)
        .map(|line| domicile_core::base64::decode_32(line).expect("a base64 hash"))
        .collect();
    assert!(new.size > old.size);
    verify_consistency(old.size, new.size, &old.root, &new.root, &path)
        .expect("the log extends itself");
}
