//! Real loss, and the money in it: whatever the lost tail has moved at the operator's wallet, what follows moves it once. A
//! win that was paid before is paid under the same transaction again; a stake whose win may have been paid is not given back
//! before that is known; and nothing of the lost tail is served between the failover and the cut.

use crate::loss::{RETURNED_WITHIN, claim, claims, kill, statement, text};
use crate::path::covered_facts;
use crate::wallets::{drained, set_wallet, wallet};
use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::operator::Operator;
use domicile_tests::player::Player;
use domicile_tests::topology::THREE_REGIONS;
use domicile_tests::wallet::Wallet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const PLAYS: u64 = 5;
const STAKE: u64 = 1_000_000;
const FUNDS: u64 = 1_000_000_000;
const WITHIN: Duration = Duration::from_mins(1);
const SIDES: [&str; 2] = ["high", "low"];

/// What players hold, and what the lost region knew of it.
struct Tail {
    /// Plays of one player, all lost.
    plays: Vec<Value>,
    /// A lost play of another.
    given_up: Value,
    /// Bets that both ledgers have, one of which won in the lost tail.
    before: Vec<Value>,
    /// Lost bets on a round that was settled in the lost tail.
    settled: Vec<Value>,
    /// A lost bet on a round that was not.
    open: Value,
    /// What each bet won there.
    payouts: BTreeMap<String, u64>,
    /// The balances before the region was lost.
    balances: BTreeMap<String, i128>,
    /// What the wallet was asked until then.
    calls: Vec<(String, Value)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_lost_tail_has_paid_is_paid_once() {
    let cluster = Cluster::start("loss-money", THREE_REGIONS);
    let wallet = wallet(&cluster).await;
    let operator = cluster.operator("acme", &["MT"], "MT").await;
    set_wallet(&cluster, &wallet);
    let mut players = Vec::new();
    for name in ["unlucky", "gone"] {
        wallet.store().fund(name, FUNDS);
        let opened = operator.session(name, "MT", "hilo-dice").await;
        players.push(Player::new(cluster.outside(), cluster.router("MT"), &opened));
    }
    let tail = Box::pin(lose(&cluster, &operator, &wallet, &players)).await;

    let told = tokio::spawn(first_word(players[0].clone()));
    let reason = "the writer's region is lost";
    cluster.cli(&["failover", "--to", "de-1", "--accept-data-loss", reason, "--yes"]);
    let told = told.await.expect("the player goes on asking");
    assert_eq!(told, "session-revoked", "the first word of the new epoch");
    withheld(&cluster, &wallet, &tail).await;
    given_up(&cluster, &tail, "before the node is back");

    cluster.start_unit("ledger-mt/agent");
    eventually("the tail is kept", RETURNED_WITHIN, || async {
        let statement = statement(&cluster);
        let silent = statement["silent"].as_object().is_none_or(|silent| !silent.is_empty());
        if silent { Err(statement.to_string()) } else { Ok(()) }
    })
    .await;
    given_up(&cluster, &tail, "although its rows are there by now");
    honoured(&cluster, &tail);
    released(&cluster, &tail);
    agrees(&cluster, &wallet, &tail).await;
}

/// Bets under two copies and under one, rounds settled and wins paid under one, and the region dies.
async fn lose(cluster: &Cluster, operator: &Operator, wallet: &Wallet, players: &[Player]) -> Tail {
    let (player, other) = (&players[0], &players[1]);
    let (session, others) = (player.session().await, other.session().await);
    let mut rounds = Vec::new();
    for number in 0..3 {
        let body = json!({
            "request_id": format!("r{number}"), "game": "hilo-dice", "currency": "EUR", "jurisdictions": ["MT"],
        });
        let round = operator.post("/operator/v1/rounds", &body).await;
        let covered = covered_facts(player, &text(&round, "round")).await;
        rounds.push((round, covered["checkpoint_size"].clone()));
    }
    let mut before = Vec::new();
    for side in SIDES {
        before.push(bet(player, &rounds[0], side).await);
    }
    kill(cluster, &["ledger-de/agent", "ledger-de/postgres", "writer-de/writer"]);
    cluster.cli(&["degrade", "--reason", "the other region is away", "--yes"]);
    let mut plays = Vec::new();
    for number in 0..PLAYS {
        plays.push(player.play(&session, &format!("lost-{number}"), 2 + number).await);
    }
    let given_up = other.play(&others, "given-up", 1).await;
    let mut settled = Vec::new();
    for side in SIDES {
        settled.push(bet(player, &rounds[1], side).await);
    }
    let open = bet(player, &rounds[2], "high").await;
    for (round, _) in &rounds[..2] {
        let round = text(round, "round");
        operator.end_round(&round, "close").await;
        assert_eq!(operator.end_round(&round, "settle").await["state"], "settled");
    }
    // The worst that the wallet can know of: every win is paid.
    drained(cluster).await;
    let ledger = database::connect(cluster, "ledger-mt").await;
    let sql = "SELECT id::text, payout_micro FROM ledger.bet WHERE payout_micro IS NOT NULL";
    let rows = ledger.query(sql, &[]).await.expect("the bets");
    let paid = |micro: i64| u64::try_from(micro).expect("an amount");
    let payouts = rows.iter().map(|row| (row.get(0), paid(row.get(1)))).collect();
    kill(cluster, &["ledger-mt/agent", "ledger-mt/postgres", "writer-mt/writer"]);
    for unit in ["ledger-de/agent", "writer-de/writer"] {
        cluster.start_unit(unit);
    }
    let (balances, calls) = (wallet.store().balances(), wallet.calls());
    Tail { plays, given_up, before, settled, open, payouts, balances, calls }
}

async fn bet(player: &Player, (round, checkpoint): &(Value, Value), side: &str) -> Value {
    let id = text(round, "round");
    let mut body = Player::play_body(round, side, STAKE, 7);
    body["checkpoint_size"] = checkpoint.clone();
    let path = format!("/v1/rounds/{id}/bets");
    let bet = player.post(&path, &format!("{id}-{side}"), &body).await.expect("an answer");
    assert_eq!(bet.status, 201, "{}", bet.json());
    bet.json()
}

/// The first answer that the new epoch gives a player of the lost one.
async fn first_word(player: Player) -> String {
    eventually("an answer", WITHIN, || async {
        match player.get("/v1/session").await {
            Ok(answer) if answer.status.as_u16() < 500 => Ok(answer.code()),
            other => Err(format!("{:?}", other.map(|answer| answer.status))),
        }
    })
    .await
}

/// Rounds under way are cut and voided; what goes back of them waits for word from the lost tail.
async fn withheld(cluster: &Cluster, wallet: &Wallet, tail: &Tail) {
    let ledger = database::connect(cluster, "ledger-de").await;
    eventually("the rounds are cut and voided", WITHIN, || async {
        let sql = "SELECT count(*) FROM ledger.round_engine WHERE cut AND state = 'voided'";
        let voided = database::count(&ledger, sql).await;
        if voided == 3 { Ok(()) } else { Err(format!("{voided}")) }
    })
    .await;
    let dead = cluster.cli(&["wallet", "jobs", "list", "acme", "--json"]);
    let dead: Value = serde_json::from_str(&dead).expect("JSON");
    let dead = dead["jobs"].as_array().expect("jobs");
    assert!(dead.iter().all(|job| job["answer"] == "withheld"), "{dead:?}");
    assert_eq!(dead.len(), tail.before.len());
    let release = ["loss", "release", "--reason", "r"];
    for arguments in [&[&release[..], &["--json"]].concat()[..], &release] {
        let early = cluster.try_cli(arguments);
        assert_eq!(early.status.code(), Some(1), "the tail may have paid a win: {early:?}");
    }
    assert_eq!(wallet.store().balances(), tail.balances, "nothing is moved meanwhile");
    assert!(wallet.calls().iter().all(|(call, _)| call != "rollback"), "nor asked for");
}

/// A person gives up what the lost node may know of a play: the stake is owed, by hand, and that stands.
fn given_up(cluster: &Cluster, tail: &Tail, when: &str) {
    let file = cluster.state().join("given-up.txt");
    std::fs::write(&file, text(&tail.given_up, "receipt")).expect("write a receipt");
    let file = file.display().to_string();
    let refunded =
        claims(&cluster.try_cli(&["loss", "claim", &file, "--refund", "--reason", "r", "--json"]));
    let told = (&refunded[0]["state"], &refunded[0]["money"], &refunded[0]["payout_micro"]);
    assert_eq!(told, (&"refunded".into(), &"by-hand".into(), &0.into()), "{when}");
}

/// What was revealed stands as it was revealed, also on a shared round; what was not is refunded.
fn honoured(cluster: &Cluster, tail: &Tail) {
    let lost: Vec<&Value> = tail.plays.iter().chain(&tail.settled).collect();
    let told = claims(&claim(cluster, &lost));
    assert_eq!(told.len(), lost.len());
    for told in &told {
        assert_eq!((&told["state"], &told["money"]), (&"settled".into(), &"wallet".into()));
        let won = tail.payouts[&text(told, "bet")];
        assert_eq!(told["payout_micro"], won, "as the player was told");
    }
    let told = claims(&claim(cluster, &[&tail.open]));
    assert_eq!((&told[0]["state"], &told[0]["money"]), (&"refunded".into(), &"wallet".into()));
}

/// The stake of the bet whose win was paid is never given back, the other one is.
fn released(cluster: &Cluster, tail: &Tail) {
    let output = cluster.try_cli(&["loss", "release", "--reason", "r", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "{told:#}");
    let fates = told["rollbacks"].as_array().expect("rollbacks").iter();
    let fates: BTreeMap<String, String> =
        fates.map(|one| (text(one, "bet"), text(one, "state"))).collect();
    let wanted = |bet: &Value| {
        let bet = text(bet, "bet");
        let fate = if tail.payouts[&bet] > 0 { "resolved" } else { "released" };
        (bet, fate.to_owned())
    };
    assert_eq!(fates, tail.before.iter().map(wanted).collect());
    let again = cluster.cli(&["loss", "release", "--reason", "r", "--json"]);
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!(again["rollbacks"].as_array().map(Vec::len), Some(0), "{again}");
}

/// Two stakes have come back; each win that was paid was asked for again under its own id, and paid once.
async fn agrees(cluster: &Cluster, wallet: &Wallet, tail: &Tail) {
    drained(cluster).await;
    let mut wanted = tail.balances.clone();
    *wanted.get_mut("unlucky").expect("the player") += 2 * i128::from(STAKE);
    assert_eq!(wallet.store().balances(), wanted);
    assert_eq!(wallet.store().violations(), Vec::<String>::new());
    let after = wallet.calls().split_off(tail.calls.len());
    let claimed: Vec<String> =
        tail.plays.iter().chain(&tail.settled).map(|bet| text(bet, "bet")).collect();
    let paid = tail.calls.iter().filter(|(call, body)| {
        call == "win" && claimed.iter().any(|bet| body["bet"] == bet.as_str())
    });
    let mut again = 0;
    for win in paid {
        assert!(after.contains(win), "the same transaction, the same body: {win:?}");
        again += 1;
    }
    assert!(again > 0, "one of two sides has won");
    let said = cluster.cli(&["conservation"]);
    assert!(said.ends_with("CONSERVED\n") && !said.contains("NOT CONSERVED"), "{said}");
}
