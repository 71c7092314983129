//! Timed rounds with wallets, watched and bet on by players of two jurisdictions, while the process that runs them is
//! killed or stands still and the writer moves: each round ends once, the streams go on, and the money agrees.

use crate::wallets::{drained, set_wallet, settled, wallet};
use domicile_chaos::process::Process;
use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::meter::{by_writer, thousandths};
use domicile_tests::player::Player;
use domicile_tests::stream::{Event, Stream};
use domicile_tests::topology::{Place, THREE_REGIONS, document_with};
use domicile_tests::wallet::Wallet;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const FUNDS_MICRO: u64 = 10_000_000_000;
const STAKE_MICRO: u64 = 3_000_000;
/// How long the next round may take to settle, with a process killed or the writer moved meanwhile.
const WITHIN: Duration = Duration::from_mins(2);

/// How soon another process runs the table of one that was killed, or stands still.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);

/// A player who bets once on each round that opens.
struct Guest {
    stream: Stream,
    placed: Arc<AtomicU64>,
    enough: Arc<AtomicBool>,
}

/// A table of rounds that two players of two jurisdictions watch and bet on.
struct Table {
    cluster: Cluster,
    wallet: Wallet,
    guests: Vec<Arc<Guest>>,
    betting: JoinSet<()>,
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_go_on_when_their_process_is_killed_and_when_the_writer_moves() {
    let table = Table::set("floor").await;
    let (cluster, guests) = (&table.cluster, &table.guests);
    mid_round(guests).await;
    let owner = owned(cluster).await;
    cluster.kill(&format!("{owner}/writer"));
    taken_over(cluster, &owner).await;
    rounds(guests, 2).await;
    cluster.start_unit(&format!("{owner}/writer"));
    recovered(cluster).await;
    mid_round(guests).await;
    cluster.cli(&["switchover", "--to", "de-1", "--yes"]);
    rounds(guests, 2).await;
    cluster.stop_unit("writer-de/writer");
    cluster.start_unit("writer-de/writer");
    rounds(guests, 1).await;
    table.ends("ledger-de").await;
}

/// Nothing tells a process that stands still from one that is gone but its silence; and it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn rounds_go_on_when_their_process_stands_still_and_it_does_no_harm_when_it_wakes() {
    let table = Table::set("frozen").await;
    let (cluster, guests) = (&table.cluster, &table.guests);
    mid_round(guests).await;
    let owner = owned(cluster).await;
    let lost = lost(cluster).await;
    let frozen = Frozen::new(cluster, &format!("{owner}/writer"));
    taken_over(cluster, &owner).await;
    rounds(guests, 2).await;
    frozen.wakes();
    eventually("who woke up has given its tables up", WITHIN, || async {
        let now = self::lost(cluster).await;
        if now > lost { Ok(()) } else { Err(format!("{now}")) }
    })
    .await;
    rounds(guests, 1).await;
    let now = self::owner(cluster).await;
    assert!(now.is_some() && now.as_ref() != Some(&owner), "the taker keeps the table: {now:?}");
    table.ends("ledger-mt").await;
}

/// Every process has taken the wallet up: what one that has not takes as a bet has no stake there.
async fn known(cluster: &Cluster) {
    eventually("every process knows the wallet", WITHIN, || async {
        let shown = by_writer(cluster, "circuit_breaker_state", &["operator=\"acme\""]).await;
        if shown.iter().all(|samples| !samples.is_empty()) {
            Ok(())
        } else {
            Err(format!("{shown:?}"))
        }
    })
    .await;
}

/// How often processes lost what held their tables.
async fn lost(cluster: &Cluster) -> u64 {
    thousandths(cluster, "domicile_writer_floor_lost_total", &[]).await
}

/// A process that stands still, and goes on at the latest when this is dropped.
struct Frozen(Process);

impl Frozen {
    fn new(cluster: &Cluster, unit: &str) -> Self {
        let process = Process::of(cluster.pid(unit)).expect("a running process");
        process.signal(Signal::STOP).expect("it stands still");
        Self(process)
    }

    fn wakes(self) {
        drop(self);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _gone = self.0.signal(Signal::CONT);
    }
}

impl Table {
    async fn set(name: &str) -> Self {
        let places: &[Place] = THREE_REGIONS.get(..2).expect("two regions");
        let cluster = Cluster::start_document(name, &document_with(name, places, 2).text);
        let wallet = wallet(&cluster).await;
        let operator = cluster.operator("acme", &["MT", "DE"], "MT").await;
        set_wallet(&cluster, &wallet);
        known(&cluster).await;
        let mut betting = JoinSet::new();
        let mut guests = Vec::new();
        for (name, code) in [("p0", "MT"), ("p1", "DE")] {
            wallet.store().fund(name, FUNDS_MICRO);
            let opened = operator.session(name, code, "hilo-dice").await;
            let player = Player::new(cluster.outside(), cluster.router(code), &opened);
            let authority = cluster.state().join("operator/tls/ca.pem");
            let stream = Stream::watch(&authority, &cluster.router(code), &player.token);
            let guest = Guest { stream, placed: Arc::default(), enough: Arc::default() };
            guests.push(Arc::new(guest));
            betting.spawn(bets(player, Arc::clone(guests.last().expect("a guest"))));
        }
        schedule(&cluster, &[]);
        rounds(&guests, 2).await;
        Self { cluster, wallet, guests, betting }
    }

    /// No more rounds; what was played agrees everywhere.
    async fn ends(mut self, primary: &str) {
        schedule(&self.cluster, &["--off"]);
        for guest in &self.guests {
            guest.enough.store(true, Ordering::Release);
        }
        while let Some(ended) = self.betting.join_next().await {
            ended.expect("a player");
        }
        let ledger = database::connect(&self.cluster, primary).await;
        all_ended(&ledger).await;
        drained(&self.cluster).await;
        watched_once(&ledger, &self.guests).await;
        conserved(&ledger, &self.wallet, &self.guests).await;
    }
}

/// The writer process that runs the table.
async fn owner(cluster: &Cluster) -> Option<String> {
    let ledger = database::connect(cluster, "ledger-mt").await;
    let sql = "SELECT replace(a.application_name, 'domicile-writer/', '') FROM pg_locks l \
        JOIN pg_locks p ON p.pid = l.pid AND p.locktype = 'advisory' AND p.objsubid = 2 AND p.classid = 1148153193 \
        JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted";
    let rows = ledger.query(sql, &[]).await.expect("the locks");
    rows.first().map(|row| row.get(0))
}

/// The same, once there is one: on a machine that is busy a process may have to take the table twice.
async fn owned(cluster: &Cluster) -> String {
    eventually("the table has an owner", WITHIN, || async {
        owner(cluster).await.ok_or_else(|| "none".to_owned())
    })
    .await
}

/// Another process runs the table.
async fn taken_over(cluster: &Cluster, former: &str) {
    eventually("another process takes over", TAKEN_OVER_WITHIN, || async {
        let owner = owner(cluster).await;
        let is_other = owner.as_deref().is_some_and(|owner| owner != former);
        if is_other { Ok(()) } else { Err(format!("{owner:?}")) }
    })
    .await;
}

fn schedule(cluster: &Cluster, more: &[&str]) {
    let mut arguments = vec![
        "rounds",
        "schedule",
        "acme",
        "--game",
        "hilo-dice",
        "--currency",
        "EUR",
        "--jurisdiction",
        "MT,DE",
        "--betting-ms",
        "3000",
        "--pause-ms",
        "200",
        "--reason",
        "a test",
    ];
    arguments.extend(more);
    cluster.cli(&arguments);
}

/// Bets on each round as it opens; each bet is repeated under its key until its answer is final.
async fn bets(player: Player, guest: Arc<Guest>) {
    let mut done = BTreeSet::new();
    while !guest.enough.load(Ordering::Acquire) {
        let seen = guest.stream.seen();
        let open = seen.last().filter(|event| event.name == "round-opened");
        if let Some(event) = open.filter(|event| !done.contains(&event.round())) {
            place(&player, event, &guest.placed).await;
            done.insert(event.round());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn place(player: &Player, opened: &Event, placed: &AtomicU64) {
    let round = opened.round();
    let body = json!({
        "stake_micro": STAKE_MICRO, "selection": "high", "client_seed": "cd".repeat(32),
        "commitment": opened.data["commitment"], "checkpoint_size": opened.data["checkpoint_size"],
    });
    let answer = settled_bet(player, &round, &body).await;
    let late = ["round-state", "stake-returned"];
    if answer.0 == 201 {
        placed.fetch_add(1, Ordering::Relaxed);
    } else {
        let code = answer.1["code"].as_str().unwrap_or_default();
        assert!(late.contains(&code), "round {round}: {answer:?}");
    }
}

async fn settled_bet(player: &Player, round: &str, body: &Value) -> (u16, Value) {
    settled(player, &format!("/v1/rounds/{round}/bets"), &format!("b-{round}"), body).await
}

/// Waits until everybody has seen so many more rounds settled.
async fn rounds(guests: &[Arc<Guest>], count: usize) {
    for guest in guests {
        let before = guest.stream.count("round-settled");
        guest.stream.more("round-settled", before + count - 1, WITHIN).await;
    }
}

/// Waits until a round is open on which everybody has bet.
async fn mid_round(guests: &[Arc<Guest>]) {
    for guest in guests {
        let before = guest.placed.load(Ordering::Relaxed);
        eventually("the next bet is placed", WITHIN, || async {
            let placed = guest.placed.load(Ordering::Relaxed);
            if placed > before { Ok(()) } else { Err(format!("{placed}")) }
        })
        .await;
    }
}

/// The report of some process names the round that was under way.
async fn recovered(cluster: &Cluster) {
    eventually("a round was under way", WITHIN, || async {
        let output = cluster.try_cli(&["recovery", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let reports = report["reports"].as_array().cloned().unwrap_or_default();
        let rounds = reports.iter().filter_map(|one| one["recovery"]["rounds"].as_array().cloned());
        if rounds.flatten().count() > 0 { Ok(()) } else { Err(report.to_string()) }
    })
    .await;
}

async fn all_ended(ledger: &tokio_postgres::Client) {
    eventually("every round has ended", WITHIN, || async {
        let sql = "SELECT count(*) FROM ledger.round_engine WHERE state IN ('open', 'closed')";
        let open: i64 = ledger.query_one(sql, &[]).await.expect("the rounds").get(0);
        if open == 0 { Ok(()) } else { Err(format!("{open} under way")) }
    })
    .await;
}

/// Everybody was told of every round since their first, in order, and once.
async fn watched_once(ledger: &tokio_postgres::Client, guests: &[Arc<Guest>]) {
    let sql = "SELECT id::text, state FROM ledger.round_engine ORDER BY ordinal";
    let rows = ledger.query(sql, &[]).await.expect("the rounds");
    let rounds: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for guest in guests {
        let (_, last) = rounds.last().expect("a round");
        guest.stream.more(&format!("round-{last}"), 0, WITHIN).await;
        eventually("the last end is told", WITHIN, || async {
            let seen = guest.stream.seen();
            let ends = seen.iter().filter(|event| event.data["seed"].is_string()).count();
            let first = seen.first().map(Event::round);
            let missed = rounds.iter().take_while(|(id, _)| Some(id) != first.as_ref()).count();
            let wanted = rounds.len() - missed;
            if ends == wanted { Ok(()) } else { Err(format!("{ends} of {wanted}")) }
        })
        .await;
        let seen = guest.stream.seen();
        assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id), "ids grow: {seen:?}");
        let mut ends = BTreeMap::new();
        for event in seen.iter().filter(|event| event.data["seed"].is_string()) {
            let before = ends.insert(event.round(), event.name.clone());
            assert_eq!(before, None, "{} ends once", event.round());
        }
        for (round, name) in ends {
            let state = rounds.iter().find(|(id, _)| *id == round).map(|(_, state)| state.as_str());
            assert_eq!(name.strip_prefix("round-"), state, "{round}");
        }
    }
}

/// The ledger's word against the wallet's, and the bets against what the players were told.
async fn conserved(ledger: &tokio_postgres::Client, wallet: &Wallet, guests: &[Arc<Guest>]) {
    let sql = "SELECT player_ref, count(*), sum(payout_micro - stake_micro)::bigint, \
        count(*) FILTER (WHERE payout_micro IS NULL) FROM ledger.bet GROUP BY 1";
    let rows = ledger.query(sql, &[]).await.expect("the bets");
    for (n, guest) in guests.iter().enumerate() {
        let player = format!("p{n}");
        let row = rows.iter().find(|row| row.get::<_, &str>(0) == player).expect("bets");
        let placed = i64::try_from(guest.placed.load(Ordering::Relaxed)).expect("a count");
        assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(3)), (placed, 0), "{player}");
        let balance = wallet.store().balances()[&player];
        assert_eq!(balance, i128::from(FUNDS_MICRO) + i128::from(row.get::<_, i64>(2)), "{player}");
    }
    assert_eq!(wallet.store().violations(), Vec::<String>::new());
    let twice = "SELECT count(*) FROM (SELECT jurisdiction, subject FROM log.subject \
        WHERE kind IN ('round-settle', 'round-void') GROUP BY 1, 2 HAVING count(*) <> 1) t";
    let twice: i64 = ledger.query_one(twice, &[]).await.expect("the leaves").get(0);
    assert_eq!(twice, 0, "a round has one terminal leaf in each log");
}
