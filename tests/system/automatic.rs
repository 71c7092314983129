//! The writer's region dies by `kill -9` and nobody is there: the standby's agent fails over with a second observer's word,
//! nothing acknowledged is lost, and when the region returns the second copy is back without help.

use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::player::Player;
use domicile_tests::topology::{THREE_REGIONS, document};
use http::StatusCode;
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

/// From the kill to the first acknowledged write; the goal is 3 s, the rest is a shared machine's.
const WITHIN: Duration = Duration::from_secs(30);
/// From the return of the region until a standby may be promoted again.
const REDUNDANT_WITHIN: Duration = Duration::from_mins(3);

const POSTGRES: [&str; 2] = ["ledger-mt/postgres", "reader-mt/postgres"];
const UNITS: [&str; 5] = [
    "ledger-mt/agent",
    "reader-mt/agent",
    "writer-mt/writer",
    "reader-mt/reader",
    "router-mt/router",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_region_is_replaced_and_comes_back_without_hands() {
    let text = document("automatic", THREE_REGIONS).text;
    let text = text.replace("policy = \"manual\"", "policy = \"automatic\"");
    let cluster = Cluster::start_document("automatic", &text);
    let operator = cluster.operator("acme", &["DE"], "DE").await;
    let opened = operator.session("lasting", "DE", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("DE"), &opened);
    let session = player.session().await;
    let mut acknowledged = 0;
    for seed in 0..20 {
        player.play(&session, &format!("before-{seed}"), seed).await;
        acknowledged += 1;
    }

    kill_region(&cluster);
    let took = first_write(&player, &session).await.expect("a write is acknowledged in time");
    acknowledged += 1;
    say("first acknowledged write after the kill", took);
    let ledger = database::connect(&cluster, "ledger-de").await;
    let bets = "SELECT count(*) FROM ledger.bet WHERE player_ref = 'lasting'";
    assert!(database::count(&ledger, bets).await >= acknowledged, "acknowledged writes are lost");
    assert_eq!(database::count(&ledger, "SELECT max(epoch) FROM ledger.epoch").await, 2);

    let returned = Instant::now();
    for unit in UNITS {
        cluster.start_unit(unit);
    }
    eventually("a standby that may be promoted", REDUNDANT_WITHIN, || async {
        let record = cluster.status()["record"].clone();
        if record["promotable"] == true { Ok(()) } else { Err(record.to_string()) }
    })
    .await;
    say("redundant again after the return", returned.elapsed());
    player.play(&session, "after", 99).await;
}

#[expect(clippy::print_stderr, reason = "shown with --no-capture")]
fn say(what: &str, took: Duration) {
    eprintln!("{what}: {} ms", took.as_millis());
}

/// Everything of the region but its member of the control plane, at once.
fn kill_region(cluster: &Cluster) {
    let mut pids: Vec<i32> = UNITS.iter().map(|unit| cluster.pid(unit)).collect();
    for postmaster in POSTGRES.map(|unit| cluster.pid(unit)) {
        let children = Command::new("pgrep").args(["-P", &postmaster.to_string()]).output();
        let children = String::from_utf8(children.expect("run pgrep").stdout).expect("pids");
        pids.push(postmaster);
        pids.extend(children.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    let pids = pids.iter().map(ToString::to_string);
    let _gone = Command::new("kill").arg("-KILL").args(pids).status().expect("run kill");
}

async fn first_write(player: &Player, session: &serde_json::Value) -> Option<Duration> {
    let killed = Instant::now();
    let body = Player::play_body(session, "high", 1_000_000, 50);
    while killed.elapsed() < WITHIN {
        let attempt = player.post("/v1/plays", "through", &body);
        let answer = tokio::time::timeout(Duration::from_secs(2), attempt).await;
        if let Ok(Ok(answer)) = answer
            && answer.status == StatusCode::CREATED
        {
            return Some(killed.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}
