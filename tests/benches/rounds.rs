//! Rounds settled per second: instant plays through the writer's own listener, beside `pgbench` on the same
//! primary with the same synchronous standby, one transaction or one statement per round.

use crate::load::{self, Caller};
use crate::pgbench::{self, Pgbench};
use crate::report::{Report, Sample};
use crate::scene::{Scene, Seat};
use crate::wire::{Answer, Target};
use domicile_service::clock::SystemClock;
use domicile_service::ids::IdSource;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::player::Player;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const CALLERS: [usize; 4] = [1, 8, 32, 256];
const RUNS: usize = 3;
const RUN_TIME: Duration = Duration::from_secs(2);
/// Connections of pgbench at most: the ledger admits 200, and more would not make it faster.
const PGBENCH_CONNECTIONS_MAX: usize = 128;
/// How long the log and the replica may take to hold what was settled.
const CATCH_UP_WITHIN: Duration = Duration::from_mins(2);

const TABLES: &str = "DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench; \
     CREATE TABLE bench.round (LIKE ledger.round INCLUDING ALL); \
     CREATE TABLE bench.bet (LIKE ledger.bet INCLUDING ALL); \
     CREATE TABLE bench.request (LIKE ledger.request INCLUDING ALL); \
     CREATE TABLE bench.pending (LIKE log.pending INCLUDING ALL)";

/// Measures all numbers of callers; or, where only later sections are wanted, settles rounds for them.
pub(crate) async fn measure(scene: &mut Scene, report: &mut Report, wanted: bool) {
    let ledger = database::connect(&scene.cluster, "ledger-mt").await;
    ledger.batch_execute(TABLES).await.expect("the yardstick's tables");
    let sizes = row_sizes(scene, &ledger).await;
    let (one_by_one, at_once) = (script(&sizes, true), script(&sizes, false));
    report.section("Rounds settled at the writer (commit on disk in two regions)");
    for callers in if wanted { &CALLERS[..] } else { &CALLERS[2..3] } {
        let mut samples = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            standby_is_synchronous(&ledger).await;
            if wanted {
                samples[0].push(yardstick(scene, &ledger, &one_by_one, *callers).await);
                samples[1].push(yardstick(scene, &ledger, &at_once, *callers).await);
            }
            samples[2].push(subject(scene, *callers).await);
            standby_is_synchronous(&ledger).await;
        }
        let [transaction, statement, plays] = samples;
        if wanted {
            let yardstick =
                report.yardstick("pgbench, one transaction per round", *callers, &transaction);
            report.row("pgbench, one statement per round", *callers, &statement, yardstick);
            report.row("POST /v1/plays at the writer", *callers, &plays, yardstick);
        }
    }
    catch_up(scene, &ledger, report).await;
}

/// One real round, to make the yardstick's rows as long as the ledger's.
struct RowSizes {
    record: i32,
    receipt: i32,
    entry: i32,
    response: i32,
}

async fn row_sizes(scene: &mut Scene, ledger: &Client) -> RowSizes {
    let players = players(scene, 1);
    let (time, writer) = (Duration::from_millis(200), scene.processes(&["writer-mt/writer"]));
    let (_, players) = load::run(&scene.writer(), players, time, &writer).await;
    scene.rounds.extend(players.into_iter().flat_map(|player| player.rounds));
    let row = ledger
        .query_one(
            "SELECT (SELECT octet_length(record) FROM ledger.bet LIMIT 1), \
             (SELECT octet_length(receipt) FROM ledger.bet LIMIT 1), \
             (SELECT octet_length(entry) FROM log.leaf WHERE entry LIKE 'domicile/play/%' LIMIT 1), \
             (SELECT octet_length(response) FROM ledger.request WHERE scope LIKE 'sess:%' LIMIT 1)",
            &[],
        )
        .await
        .expect("the sizes of a round's rows");
    RowSizes { record: row.get(0), receipt: row.get(1), entry: row.get(2), response: row.get(3) }
}

/// The yardstick's work per round: the same rows, of the same size, in tables made like the ledger's.
fn script(sizes: &RowSizes, transaction: bool) -> String {
    let RowSizes { record, receipt, entry, response } = sizes;
    let (hash, mt) = ("sha256(uuid_send(gen_random_uuid()))", "'MT'");
    let statements = [
        format!(
            "INSERT INTO bench.round VALUES ({mt}, gen_random_uuid(), 'play', 'bench', 'hilo-dice', \
             'low_weight=3,high_weight=3,commission_ppm=0', 'EUR', {hash}, 'settled', 'high 15', now(), now(), now())"
        ),
        format!(
            "INSERT INTO bench.bet VALUES ({mt}, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), \
             'bench', 'player-1', 'EUR', 1000000, 'high', {hash}, repeat('r', {record}), {hash}, {hash}, 7, \
             2000000, repeat('s', {receipt}), now())"
        ),
        format!(
            "INSERT INTO bench.pending VALUES ({mt}, gen_random_uuid(), gen_random_uuid(), 'play', \
             repeat('e', {entry}))"
        ),
        format!(
            "INSERT INTO bench.request VALUES ('sess:' || gen_random_uuid(), gen_random_uuid()::text, {hash}, \
             201, convert_to(repeat('a', {response}), 'UTF8'), now())"
        ),
    ];
    if transaction {
        return format!(
            "BEGIN;\nSELECT max(epoch) FROM ledger.epoch;\n{};\nCOMMIT;\n",
            statements.join(";\n")
        );
    }
    let [round, bet, pending, request] = statements;
    format!("WITH a AS ({round}), b AS ({bet}), c AS ({pending}) {request};\n")
}

async fn yardstick(scene: &Scene, ledger: &Client, script: &str, callers: usize) -> Sample {
    let truncate = "TRUNCATE bench.round, bench.bet, bench.request, bench.pending";
    ledger.batch_execute(truncate).await.expect("empty the yardstick's tables");
    let connections = callers.min(PGBENCH_CONNECTIONS_MAX);
    let pgbench = Pgbench { node: "ledger-mt", script, connections, time: RUN_TIME, sampling: "1" };
    pgbench::run(scene, ledger, &pgbench).await
}

async fn subject(scene: &mut Scene, callers: usize) -> Sample {
    let players = players(scene, callers);
    let cpu = scene.processes(&["writer-mt/writer", "ledger-mt/postgres"]);
    let (sample, players) = load::run(&scene.writer(), players, RUN_TIME, &cpu).await;
    scene.rounds.extend(players.into_iter().flat_map(|player| player.rounds));
    sample
}

fn players(scene: &Scene, count: usize) -> Vec<PlayCaller> {
    let target = scene.writer();
    scene.seats.iter().take(count).map(|seat| PlayCaller::new(&target, seat)).collect()
}

async fn standby_is_synchronous(ledger: &Client) {
    let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    let standbys = database::count(ledger, sql).await;
    assert!(standbys == 1, "NOT RUN: {standbys} synchronous standbys");
}

/// How long after the last acknowledged round the replica proves all of them.
async fn catch_up(scene: &Scene, ledger: &Client, report: &mut Report) {
    let (started, reader) = (Instant::now(), scene.reader());
    eventually("all leaves have their place", CATCH_UP_WITHIN, || async {
        match database::count(ledger, "SELECT count(*) FROM log.pending").await {
            0 => Ok(()),
            waiting => Err(format!("{waiting} wait")),
        }
    })
    .await;
    let size = database::count(ledger, "SELECT size FROM log.head WHERE jurisdiction = 'MT'").await;
    let last = scene.rounds.last().expect("a settled round");
    let token = &scene.seats[0].token;
    let headers = format!("authorization: Bearer {token}\r\ndomicile-min-log-size: {size}\r\n");
    let request = reader.request("GET", &format!("/v1/rounds/{last}/proof"), &headers, "");
    eventually("the replica proves the last round", CATCH_UP_WITHIN, || async {
        let mut connection = reader.open().await;
        let answer = connection.exchange(&request).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("status {}", answer.status)) }
    })
    .await;
    report.note(format!(
        "{} rounds settled; {} ms after the last answer the replica proved all of them",
        scene.rounds.len(),
        started.elapsed().as_millis()
    ));
}

/// A player that plays without pause on one session.
pub(crate) struct PlayCaller {
    target: Target,
    token: String,
    session: Value,
    number: u64,
    ids: IdSource,
    rounds: Vec<String>,
}

impl PlayCaller {
    pub(crate) fn new(target: &Target, seat: &Seat) -> Self {
        let token = seat.token.clone();
        let ids = IdSource::new(Arc::new(SystemClock));
        let (target, session) = (target.clone(), Value::Null);
        Self { target, token, session, number: 0, ids, rounds: Vec::new() }
    }

    fn read_session(&self) -> Vec<u8> {
        let headers = format!("authorization: Bearer {}\r\n", self.token);
        self.target.request("GET", "/v1/session", &headers, "")
    }
}

impl Caller for PlayCaller {
    fn opening(&self) -> Option<Vec<u8>> {
        Some(self.read_session())
    }

    fn request(&mut self) -> Option<Vec<u8>> {
        if self.session["remaining"] == 0 {
            return Some(self.read_session());
        }
        self.number += 1;
        let body = Player::play_body(&self.session, "high", 1_000_000, self.number).to_string();
        let headers = format!(
            "authorization: Bearer {}\r\nidempotency-key: {}\r\ncontent-type: application/json\r\n",
            self.token,
            self.ids.uuid_v7()
        );
        Some(self.target.request("POST", "/v1/plays", &headers, &body))
    }

    fn answer(&mut self, answer: &Answer<'_>) -> bool {
        let mut said: Value = serde_json::from_slice(answer.body).expect("JSON");
        match answer.status {
            201 => {
                self.session["remaining"] = said["remaining"].take();
                self.rounds.push(said["round"].as_str().expect("a round").to_owned());
                true
            }
            200 => {
                self.session = said;
                false
            }
            status => panic!("NOT RUN: a play got {status}: {said}"),
        }
    }
}
