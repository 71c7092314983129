//! Rounds settled per second by the writer, beside one transaction per round on the same Postgres.
//!
//! Both sides commit with fsync on and wait for a standby on the same machine. The writer's side is whole
//! requests – token, idempotency, receipt, seed chain, leaf, sealed answer – through its application, without
//! sockets and TLS; the yardstick is `pgbench` writing a round, a bet and an audit row per transaction.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement that cannot set itself up fails"
)]

#[expect(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/ledger/bench.rs"]
mod bench;
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/ledger/callers.rs"]
mod callers;
#[path = "../../core/postgres/tests/cluster/mod.rs"]
mod cluster;

use bench::Bench;
use callers::Player;
use cluster::Server;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CALLERS: [usize; 4] = [1, 8, 32, 256];
const MEASURE: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
/// How many times the yardstick DESIGN asks for.
const GOALS: [&str; 4] = ["-", "-", "4.0", "8.0"];

const YARDSTICK_TABLES: &str = "
CREATE TABLE public.y_round (id uuid PRIMARY KEY, game text, state text, commitment bytea);
CREATE TABLE public.y_bet (id uuid PRIMARY KEY, round uuid, player text, stake bigint, record text);
CREATE TABLE public.y_audit (id uuid PRIMARY KEY, entry text);";
const YARDSTICK: &str = "BEGIN;
INSERT INTO public.y_round VALUES (gen_random_uuid(), 'hilo-dice', 'settled', decode(repeat('ab', 32), 'hex'));
INSERT INTO public.y_bet VALUES (gen_random_uuid(), gen_random_uuid(), 'p1', 1000000, repeat('r', 600));
INSERT INTO public.y_audit VALUES (gen_random_uuid(), repeat('e', 400));
COMMIT;
";

#[tokio::main]
async fn main() {
    let bench = Arc::new(Bench::new().await);
    bench.server.configure("fsync = on");
    let _standby = Server::standby_of(&bench.server, "b").await;
    bench.server.require_standby("b").await;
    bench.admin.batch_execute(YARDSTICK_TABLES).await.unwrap();
    let operator = bench.operator("acme").await;
    let mut players = Vec::new();
    for n in 0..CALLERS[CALLERS.len() - 1] {
        players.push(operator.session(&bench, &format!("p{n}"), "MT", "hilo-dice").await);
    }
    println!("rounds settled per second (fsync on, synchronous standby)");
    println!("callers | writer rounds/s | median ms | p99 ms | pgbench tx/s | ratio | goal");
    for (callers, goal) in CALLERS.into_iter().zip(GOALS) {
        let (mut latencies, rounds) = play(&bench, &players[..callers]).await;
        latencies.sort_unstable();
        let at = |permille: usize| latencies[(latencies.len() - 1) * permille / 1_000];
        let yardstick = pgbench(&bench, callers);
        let ratio_tenths = rounds * 10 / yardstick.max(1);
        println!(
            "{callers:7} | {rounds:15} | {:>9} | {:>6} | {yardstick:12} | {:>3}.{} | {goal}",
            millis(at(500)),
            millis(at(990)),
            ratio_tenths / 10,
            ratio_tenths % 10,
        );
    }
}

fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10)
}

/// Each caller plays in its own session until the time is over.
async fn play(bench: &Arc<Bench>, players: &[Player]) -> (Vec<Duration>, u64) {
    let measured = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for player in players {
        let (player, bench, measured) = (player.clone(), Arc::clone(bench), Arc::clone(&measured));
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut view = player.get(&bench).await.expect(200);
            while begun.elapsed() < WARM_UP + MEASURE {
                let order = Player::order(&view, 1_000_000);
                let key = bench.engine.ids.uuid_v4().to_string();
                let sent = Instant::now();
                let answer = player.post(&bench, "/v1/plays", &key, &order).await;
                if answer.code() == "commitment-mismatch" {
                    view = player.get(&bench).await.expect(200);
                    continue;
                }
                answer.expect(201);
                if begun.elapsed() > WARM_UP {
                    latencies.push(sent.elapsed());
                    measured.fetch_add(1, Ordering::Relaxed);
                }
            }
            latencies
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    (latencies, measured.load(Ordering::Relaxed) / MEASURE.as_secs())
}

/// The yardstick's transactions per second, from pgbench's own report.
fn pgbench(bench: &Bench, callers: usize) -> u64 {
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), YARDSTICK).unwrap();
    let folder = std::env::var_os("DOMICILE_PG_BIN").expect("DOMICILE_PG_BIN");
    // More clients than this gain pgbench nothing: one commit per round is the limit.
    let clients = callers.min(32).to_string();
    let output = Command::new(std::path::Path::new(&folder).join("pgbench"))
        .args([
            "-n",
            "-M",
            "prepared",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-c",
            &clients,
            "-j",
            "2",
        ])
        .args(["-T", &MEASURE.as_secs().to_string(), "-p", &bench.server.port.to_string(), "-f"])
        .arg(script.path())
        .arg("postgres")
        .env("PGPASSWORD", &bench.server.password)
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let figure = report.lines().find_map(|line| line.strip_prefix("tps = "));
    let Some(figure) = figure else {
        panic!("pgbench: {report}{}", String::from_utf8_lossy(&output.stderr))
    };
    figure.split('.').next().unwrap().parse().unwrap()
}
