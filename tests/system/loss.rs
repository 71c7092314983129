//! Real loss, provoked on purpose: what was acknowledged with one copy dies with its region, the loss statement names exactly
//! that, with its stake, once the region is back, and its receipts are honoured: as it was revealed, once, and with the
//! operator's wallet in agreement.

use crate::path::covered_facts;
use crate::wallets::{set_wallet, wallet};
use domicile_tests::cluster::Cluster;
use domicile_tests::eventually::eventually;
use domicile_tests::operator::Operator;
use domicile_tests::player::Player;
use domicile_tests::topology::THREE_REGIONS;
use domicile_tests::wallet::Wallet;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

/// Plays with one copy.
const PLAYS: u64 = 5;
/// The stake of each, and of the bet on a shared round, micro-units.
const STAKE_MICRO: u64 = 1_000_000;
/// What the player has, micro-units.
const FUNDS_MICRO: u64 = 1_000_000_000;
/// How long a node may take to return, keep its tail and be rewound.
pub(crate) const RETURNED_WITHIN: Duration = Duration::from_mins(2);
/// How long wins and rollbacks may take.
const PAID_WITHIN: Duration = Duration::from_mins(1);

/// What the player holds of what was lost.
struct Held {
    /// Plays by round, as they were answered.
    plays: BTreeMap<String, Value>,
    /// The bet on the shared round.
    bet: Value,
    /// A play that was not lost.
    kept: Value,
}

impl Held {
    fn rounds(&self) -> BTreeSet<String> {
        let round = text(&self.bet, "round");
        self.plays.keys().cloned().chain([round]).collect()
    }

    fn paid_micro(&self) -> u64 {
        let plays = self.plays.values().chain([&self.kept]);
        plays.map(|play| play["payout_micro"].as_u64().expect("a payout")).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_copy_loses_is_named_exactly_and_its_receipts_are_honoured() {
    let cluster = Cluster::start("loss", THREE_REGIONS);
    let wallet = wallet(&cluster).await;
    let operator = cluster.operator("acme", &["MT"], "MT").await;
    set_wallet(&cluster, &wallet);
    wallet.store().fund("unlucky", FUNDS_MICRO);
    let opened = operator.session("unlucky", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let held = lose(&cluster, &operator, &player).await;

    let refused = cluster.try_cli(&["failover", "--to", "de-1", "--yes"]);
    assert_eq!(refused.status.code(), Some(2), "loss has to be accepted by a person");
    let reason = "the writer's region is lost";
    cluster.cli(&["failover", "--to", "de-1", "--accept-data-loss", reason, "--yes"]);
    assert_eq!(cluster.status()["record"]["beginning"], "forced");
    assert!(statement(&cluster)["silent"]["ledger-mt"].is_string(), "uncertain until it is back");
    let play = &held.plays.values().next().expect("a play");
    let early = claim(&cluster, &[play]);
    assert_eq!(early.status.code(), Some(1), "its tail may hold a win: {early:?}");
    let seeds_told = player.get("/v1/session").await.expect("an answer");
    assert_eq!(seeds_told.code(), "session-revoked", "the lost tail has told the next seeds");

    cluster.start_unit("ledger-mt/agent");
    named(&cluster, &held).await;
    honoured(&cluster, &operator, &held).await;
    agrees(&wallet, &held).await;
}

/// One copy, plays and a bet under it, and the region dies with them.
async fn lose(cluster: &Cluster, operator: &Operator, player: &Player) -> Held {
    let session = player.session().await;
    let kept = player.play(&session, "kept", 1).await;
    let shared = operator.open_round("hilo-dice", &["MT"]).await;
    let covered = covered_facts(player, &text(&shared, "round")).await;
    kill(cluster, &["ledger-de/agent", "ledger-de/postgres", "writer-de/writer"]);
    cluster.cli(&["degrade", "--reason", "the other region is away", "--yes"]);
    let mut plays = BTreeMap::new();
    for number in 0..PLAYS {
        let answer = player.play(&session, &format!("lost-{number}"), 2 + number).await;
        plays.insert(text(&answer, "round"), answer);
    }
    let mut body = Player::play_body(&shared, "low", STAKE_MICRO, 7);
    body["checkpoint_size"] = covered["checkpoint_size"].clone();
    let path = format!("/v1/rounds/{}/bets", text(&shared, "round"));
    let bet = player.post(&path, "shared", &body).await.expect("an answer");
    assert_eq!(bet.status, 201, "{}", bet.json());
    kill(cluster, &["ledger-mt/agent", "ledger-mt/postgres", "writer-mt/writer"]);
    for unit in ["ledger-de/agent", "writer-de/writer"] {
        cluster.start_unit(unit);
    }
    Held { plays, bet: bet.json(), kept }
}

/// The statement names what was lost, and nothing else.
async fn named(cluster: &Cluster, held: &Held) {
    let statement = eventually("the tail is kept", RETURNED_WITHIN, || async {
        let statement = statement(cluster);
        let silent = statement["silent"].as_object().is_none_or(|silent| !silent.is_empty());
        if silent { Err(statement.to_string()) } else { Ok(statement) }
    })
    .await;
    assert_eq!(lost(&statement, None), held.rounds(), "{statement:#}");
    let total = &statement["totals"][0];
    assert_eq!((&total["jurisdiction"], &total["operator"]), (&"MT".into(), &"acme".into()));
    assert_eq!(
        (total["bets"].as_u64(), total["stake_micro"].as_u64()),
        (Some(PLAYS + 1), Some((PLAYS + 1) * STAKE_MICRO))
    );
    let kept = &statement["files"][0];
    assert_eq!(kept["uncompared"], json!([]), "{kept}");
    let rows = |table: &str| kept["rows"][table].as_u64().unwrap_or(0);
    assert!(rows("ledger.wallet_job") > PLAYS && rows("ledger.request") > PLAYS, "{kept}");
}

/// Each receipt counts once, whoever hands it in; what is not lost, and what is no receipt, is refused.
async fn honoured(cluster: &Cluster, operator: &Operator, held: &Held) {
    let filed =
        operator.post("/operator/v1/losses", &json!({ "receipt": held.bet["receipt"] })).await;
    assert_eq!(filed["state"], "filed", "the operator has no rows: {filed}");
    let plays: Vec<&Value> = held.plays.values().collect();
    for round in ["first", "again"] {
        let claims = claims(&claim(cluster, &plays));
        assert_eq!(claims.len(), plays.len(), "{round}");
        for told in &claims {
            let play = &held.plays[&text(told, "round")];
            assert_eq!((&told["state"], &told["money"]), (&"settled".into(), &"wallet".into()));
            assert_eq!(told["outcome"], play["outcome"], "{round}");
            assert_eq!(told["payout_micro"], play["payout_micro"], "{round}");
        }
    }
    let again =
        operator.post("/operator/v1/losses", &json!({ "receipt": plays[0]["receipt"] })).await;
    assert_eq!(again["state"], "settled");
    // Without a receipt those are taken that operators have filed.
    let refunded = claims(&cluster.try_cli(&["loss", "claim", "--reason", "r", "--json"]));
    assert_eq!(refunded.len(), 1);
    assert_eq!(
        (&refunded[0]["state"], &refunded[0]["round"]),
        (&"refunded".into(), &held.bet["round"])
    );

    let not_lost = claim(cluster, &[&held.kept]);
    assert_eq!(not_lost.status.code(), Some(1), "{not_lost:?}");
    assert!(String::from_utf8_lossy(&not_lost.stdout).contains("round-not-lost"), "{not_lost:?}");
    let mut forged = plays[0].clone();
    forged["receipt"] = text(plays[0], "receipt").replace("stake_micro 1", "stake_micro 9").into();
    assert_eq!(claim(cluster, &[&forged]).status.code(), Some(1), "a forged receipt");

    let statement = statement(cluster);
    let settled: BTreeSet<String> = held.plays.keys().cloned().collect();
    assert_eq!(lost(&statement, Some("settled")), settled, "{statement:#}");
    assert_eq!(lost(&statement, Some("refunded")), [text(&held.bet, "round")].into());
}

/// The wallet has taken each stake once, paid each win once, and given the refunded stake back.
async fn agrees(wallet: &Wallet, held: &Held) {
    let staked = i128::from((PLAYS + 1) * STAKE_MICRO);
    let expected = i128::from(FUNDS_MICRO) - staked + i128::from(held.paid_micro());
    eventually("wins and the refund are booked", PAID_WITHIN, || async {
        let balance = wallet.store().balance("unlucky");
        if balance == expected { Ok(()) } else { Err(format!("{balance}, not {expected}")) }
    })
    .await;
    assert_eq!(wallet.store().violations(), Vec::<String>::new());
}

pub(crate) fn kill(cluster: &Cluster, units: &[&str]) {
    for unit in units {
        cluster.kill(unit);
    }
}

pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().expect("a text").to_owned()
}

pub(crate) fn statement(cluster: &Cluster) -> Value {
    let output = cluster.try_cli(&["loss-statement", "--json"]);
    serde_json::from_slice(&output.stdout).expect("a statement in JSON")
}

/// The lost rounds; only those that were claimed so.
fn lost(statement: &Value, claimed: Option<&str>) -> BTreeSet<String> {
    let rounds = statement["lost"].as_array().expect("rounds").iter();
    let of = rounds.filter(|round| claimed.is_none_or(|claimed| round["claimed"] == claimed));
    of.map(|round| text(round, "id")).collect()
}

/// Hands in the receipts of these answers.
pub(crate) fn claim(cluster: &Cluster, answers: &[&Value]) -> Output {
    let file = |(number, answer): (usize, &&Value)| {
        let path: PathBuf = cluster.state().join(format!("receipt-{number}.txt"));
        std::fs::write(&path, text(answer, "receipt")).expect("write a receipt");
        path.display().to_string()
    };
    let files: Vec<String> = answers.iter().enumerate().map(file).collect();
    let arguments = ["loss", "claim", "--reason", "r", "--json"]
        .into_iter()
        .chain(files.iter().map(String::as_str));
    cluster.try_cli(&arguments.collect::<Vec<_>>())
}

pub(crate) fn claims(output: &Output) -> Vec<Value> {
    let told: Value = serde_json::from_slice(&output.stdout).expect("claims in JSON");
    assert_eq!(output.status.code(), Some(0), "{told:#}");
    told["claims"].as_array().expect("claims").clone()
}
