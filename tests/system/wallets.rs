//! Money at an operator's wallet, across everything that goes wrong at once: the wallet drops, delays and fails calls and
//! loses answers, the writer is killed, the writer moves. Afterwards the wallet and the ledger say the same of every player,
//! to the micro-unit, and the operator's settlement file matches.

use domicile_service::clock::{Clock as _, SystemClock};
use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::player::Player;
use domicile_tests::purse;
use domicile_tests::topology::{Place, THREE_REGIONS};
use domicile_tests::wallet::fault::Storm;
use domicile_tests::wallet::{Trust, Wallet};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const SECRET: &[u8] = b"what the wallet and the ledger share";
const PLAYERS: u64 = 6;
const FUNDS_MICRO: u64 = 10_000_000_000;
/// Longer than the ledger waits for this wallet.
const TOO_LONG: Duration = Duration::from_millis(1_500);
/// How long players go on repeating one request.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long wins and rollbacks may take once the wallet works.
const DRAIN_WITHIN: Duration = Duration::from_mins(2);
/// A day, and more than the test takes, in seconds.
const DAY_S: u64 = 86_400;
const TAKES_S: u64 = 240;
/// Plays that must be answered before and after each fault.
const PLAYS: u64 = 60;

/// What the players were told.
#[derive(Debug, Default)]
struct Told {
    placed: AtomicU64,
    paid_micro: AtomicU64,
    refused: AtomicU64,
    enough: AtomicBool,
}

impl Told {
    fn answers(&self) -> u64 {
        self.placed.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stakes_and_wins_agree_after_a_storm_a_kill_and_a_move() {
    on_one_day().await;
    let places: &[Place] = THREE_REGIONS.get(..2).expect("two regions");
    let cluster = Cluster::start("wallets", places);
    let wallet = wallet(&cluster).await;
    let operator = cluster.operator("acme", &["MT"], "MT").await;
    purse::set(&cluster, "acme", &wallet, SECRET, &STORMY);
    for n in 0..PLAYERS {
        wallet.store().fund(&format!("p{n}"), FUNDS_MICRO);
    }
    wallet.storm(Some(Storm::new(7, 30, TOO_LONG)));
    let told = Arc::new(Told::default());
    let mut players = JoinSet::new();
    for n in 0..PLAYERS {
        let opened = operator.session(&format!("p{n}"), "MT", "hilo-dice").await;
        let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
        players.spawn(plays(player, n, Arc::clone(&told)));
    }
    more(&told).await;
    cluster.kill("writer-mt/writer");
    cluster.start_unit("writer-mt/writer");
    more(&told).await;
    cluster.cli(&["switchover", "--to", "de-1", "--yes"]);
    more(&told).await;
    told.enough.store(true, Ordering::Release);
    while let Some(ended) = players.join_next().await {
        ended.expect("a player");
    }
    wallet.storm(None);
    drained(&cluster).await;
    conserved(&cluster, &wallet, &told).await;
    reconciles(&cluster, &wallet).await;
    let said = cluster.cli(&["conservation"]);
    assert!(said.ends_with("CONSERVED\n") && !said.contains("NOT CONSERVED"), "{said}");
}

const STORMY: [&str; 10] = options("700");

/// With this patience for one answer. What the storm keeps is worth no more; a good wallet on a busy machine is.
const fn options(timeout_ms: &'static str) -> [&'static str; 10] {
    [
        "--timeout-ms",
        timeout_ms,
        "--retry-first-ms",
        "50",
        "--retry-longest-ms",
        "1000",
        "--breaker-failures",
        "20",
        "--breaker-pause-ms",
        "500",
    ]
}

/// A settlement file is of one day: the test does not run across midnight UTC.
async fn on_one_day() {
    let left_s = DAY_S - SystemClock.now_unix_ms() / 1_000 % DAY_S;
    if left_s < TAKES_S {
        tokio::time::sleep(Duration::from_secs(left_s + 1)).await;
    }
}

/// A wallet that shares a secret with the ledger.
pub(crate) async fn wallet(cluster: &Cluster) -> Wallet {
    purse::start(cluster, "wallet", Trust::Hmac(SECRET.to_vec())).await
}

/// Makes it the wallet of `acme`.
pub(crate) fn set_wallet(cluster: &Cluster, wallet: &Wallet) {
    purse::set(cluster, "acme", wallet, SECRET, &options("5000"));
}

/// Plays until there is enough; each play is repeated under its key until its answer is final.
async fn plays(player: Player, n: u64, told: Arc<Told>) {
    let mut session = player.session().await;
    for play in 0u64.. {
        if told.enough.load(Ordering::Acquire) {
            return;
        }
        let body = Player::play_body(&session, "high", 1_000_000 + n, play);
        let answer = settled(&player, "/v1/plays", &format!("k{play}"), &body).await;
        match (answer.0, answer.1["code"].as_str().unwrap_or_default()) {
            (201, _) => {
                told.placed.fetch_add(1, Ordering::Relaxed);
                let paid = answer.1["payout_micro"].as_u64().expect("a payout");
                told.paid_micro.fetch_add(paid, Ordering::Relaxed);
            }
            (409, "stake-returned" | "stake-refused") => {
                told.refused.fetch_add(1, Ordering::Relaxed);
            }
            other => {
                assert_eq!(other, (409, "commitment-mismatch"), "player {n}, play {play}");
                session = player.session().await;
            }
        }
    }
}

pub(crate) async fn settled(player: &Player, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let begun = Instant::now();
    loop {
        let answer = player.post(path, key, body).await;
        if let Ok(answer) = &answer
            && answer.status.as_u16() < 500
            && answer.status.as_u16() != 429
        {
            return (answer.status.as_u16(), answer.json());
        }
        let last = answer.map(|answer| answer.json());
        assert!(begun.elapsed() < PATIENCE, "{key} is not answered: {last:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for some more answers.
async fn more(told: &Told) {
    let wanted = told.answers() + PLAYS;
    eventually("more plays are answered", PATIENCE, || async {
        let answers = told.answers();
        if answers >= wanted { Ok(()) } else { Err(format!("{answers} of {wanted}")) }
    })
    .await;
}

pub(crate) async fn drained(cluster: &Cluster) {
    eventually("no wallet transaction is pending", DRAIN_WITHIN, || async {
        let listed =
            cluster.cli(&["wallet", "jobs", "list", "acme", "--status", "pending", "--json"]);
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let pending = listed["jobs"].as_array().expect("jobs").len();
        if pending == 0 {
            Ok(())
        } else {
            Err(format!("{pending} at least, such as {}", listed["jobs"][0]))
        }
    })
    .await;
    let dead = cluster.cli(&["wallet", "jobs", "list", "acme", "--status", "dead"]);
    assert_eq!(dead, "", "none needs a person");
}

/// The ledger's word against the wallet's, player by player, and both against what the players were told.
async fn conserved(cluster: &Cluster, wallet: &Wallet, told: &Told) {
    let ledger = database::connect(cluster, "ledger-de").await;
    let sql = "SELECT player_ref, count(*), sum(payout_micro - stake_micro)::bigint, sum(payout_micro)::bigint \
         FROM ledger.bet WHERE operator_id = 'acme' GROUP BY 1";
    let rows = ledger.query(sql, &[]).await.expect("the bets");
    let net: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(2))).collect();
    for (player, balance) in wallet.store().balances() {
        let net = net.get(&player).copied().unwrap_or_default();
        assert_eq!(balance, i128::from(FUNDS_MICRO) + i128::from(net), "{player}");
    }
    let placed: i64 = rows.iter().map(|row| row.get::<_, i64>(1)).sum();
    assert_eq!(
        u64::try_from(placed),
        Ok(told.placed.load(Ordering::Relaxed)),
        "bets in the ledger"
    );
    let paid: i64 = rows.iter().map(|row| row.get::<_, i64>(3)).sum();
    assert_eq!(
        u64::try_from(paid),
        Ok(told.paid_micro.load(Ordering::Relaxed)),
        "payouts in the ledger"
    );
    assert_eq!(wallet.store().violations(), Vec::<String>::new());
    assert!(told.refused.load(Ordering::Relaxed) > 0, "a storm without a returned stake was none");
    one_end_each(&ledger).await;
}

/// Each stake that was taken stands under a bet; each win is its bet's payout; nothing else was paid or given back.
async fn one_end_each(ledger: &tokio_postgres::Client) {
    for (what, sql) in [
        (
            "stakes without a bet, or bets without a stake",
            "SELECT count(*) FROM ledger.bet b FULL JOIN (SELECT * FROM ledger.wallet_job WHERE call = 'bet' \
             AND state = 'done') j ON j.bet_id = b.id WHERE b.id IS NULL OR j.id IS NULL \
             OR j.amount_micro <> b.stake_micro",
        ),
        (
            "payouts that are not their win",
            "SELECT count(*) FROM ledger.bet b FULL JOIN (SELECT * FROM ledger.wallet_job WHERE call = 'win') j \
             ON j.bet_id = b.id WHERE coalesce(b.payout_micro, 0) <> coalesce(j.amount_micro, 0)",
        ),
        (
            "undone bets without a rollback, or the other way round",
            "SELECT count(*) FROM (SELECT * FROM ledger.wallet_job WHERE call = 'bet' AND state = 'undone') b \
             FULL JOIN (SELECT * FROM ledger.wallet_job WHERE call = 'rollback') r ON r.reference = b.id \
             WHERE b.id IS NULL OR r.id IS NULL OR r.state <> 'done'",
        ),
    ] {
        let wrong: i64 = ledger.query_one(sql, &[]).await.expect(what).get(0);
        assert_eq!(wrong, 0, "{what}");
    }
}

/// `domicile reconcile` says MATCH of the wallet's own sums, and tells drifts and bad files apart.
async fn reconciles(cluster: &Cluster, wallet: &Wallet) {
    let ledger = database::connect(cluster, "ledger-de").await;
    let today = "SELECT to_char(max(ended_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'), \
         count(DISTINCT (ended_at AT TIME ZONE 'UTC')::date) FROM ledger.wallet_job";
    let row = ledger.query_one(today, &[]).await.expect("the day");
    let (date, days): (String, i64) = (row.get(0), row.get(1));
    assert_eq!(days, 1, "the test ran across midnight UTC");
    let sums = wallet.store().sums();
    let file = |bets: u64| -> PathBuf {
        let path = cluster.state().join("purses/settlement.csv");
        let header =
            "operatorId,date,currency,betsAmountMicro,winsAmountMicro,rollbacksAmountMicro";
        let row = format!("acme,{date},EUR,{bets},{},{}", sums.wins_micro, sums.rollbacks_micro);
        std::fs::write(&path, format!("{header}\nother,{date},EUR,1,2,3\n{row}\n"))
            .expect("write the file");
        path
    };
    let run = |path: PathBuf, date: &str| {
        let path = path.display().to_string();
        let output = cluster.try_cli(&[
            "reconcile",
            "--operator",
            "acme",
            "--currency",
            "EUR",
            "--date",
            date,
            "--file",
            &path,
            "--verbose",
        ]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = run(file(sums.bets_micro), &date);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("MATCH\n"), "{said}");
    assert_eq!(run(file(sums.bets_micro + 1), &date).0, Some(1));
    let (code, said) = run(file(sums.bets_micro * 2), &date);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("rolled back"), "what may explain it is named: {said}");
    assert_eq!(run(file(sums.bets_micro), "2001-01-01").0, Some(3));
}
