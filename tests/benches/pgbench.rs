//! The yardstick for everything that ends in Postgres: `pgbench` with prepared statements.

use crate::cpu::Processes;
use crate::load::Run;
use crate::report::Sample;
use crate::scene::Scene;
use domicile_core::ids::NodeId;
use domicile_tests::cluster::{certificate, postgres_bin};
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio_postgres::Client;

/// pgbench's clock runs while it connects, and each connection is a password to prove: seconds per connection.
const CONNECT_S: f64 = 1.0 / 32.0;
/// How long all of them may take.
const CONNECTED_WITHIN: Duration = Duration::from_secs(30);
const CONNECTED: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'";

/// One run of pgbench.
pub(crate) struct Pgbench<'a> {
    /// On which database node.
    pub(crate) node: &'a str,
    /// What each transaction does.
    pub(crate) script: &'a str,
    /// Connections, all at once.
    pub(crate) connections: usize,
    /// For how long, whole seconds.
    pub(crate) time: Duration,
    /// The part of transactions whose latency is written down, between 0 and 1.
    pub(crate) sampling: &'a str,
}

/// Runs it and reads rate and latencies; `database` sees when all connections are there and the work begins.
pub(crate) async fn run(scene: &Scene, database: &Client, wanted: &Pgbench<'_>) -> Sample {
    let folder = tempfile::tempdir().expect("a folder for pgbench");
    let script = folder.path().join("script.sql");
    std::fs::write(&script, wanted.script).expect("write the script");
    let running = command(scene, wanted, &script).spawn().expect("start pgbench");
    let processes = scene.processes(&[&format!("{}/postgres", wanted.node)]);
    let before = connected(database, wanted.connections, &processes).await;
    let output = running.wait_with_output().await.expect("pgbench's end");
    let cpu_us = processes.used_us() - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "NOT RUN: pgbench:\n{text}\n{complaint}");
    let count = number(&text, "number of transactions actually processed: ");
    let elapsed = Duration::from_secs_f64(count / number(&text, "tps = "));
    let run = Run::of(latencies(folder.path()), count as usize, elapsed);
    Sample { run, cpu_us }
}

fn command(scene: &Scene, wanted: &Pgbench<'_>, script: &Path) -> Command {
    let node = NodeId::parse(wanted.node).expect("a node");
    let time_s = wanted.time.as_secs_f64() + wanted.connections as f64 * CONNECT_S;
    let mut command = Command::new(postgres_bin().join("pgbench"));
    if scene.cluster.postgres_tls(&node).is_some() {
        let own = certificate(&scene.cluster.state().join("operator/tls"));
        command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", own.ca);
        command.env("PGSSLCERT", own.cert).env("PGSSLKEY", own.key);
    }
    command
        .current_dir(script.parent().expect("a folder"))
        .env("PGPASSWORD", scene.cluster.secret(&node, "superuser-password"))
        .args(["--no-vacuum", "--protocol=prepared", "--log", "--log-prefix=latency"])
        .arg(format!("--sampling-rate={}", wanted.sampling))
        .arg(format!("--client={}", wanted.connections))
        .arg(format!("--jobs={}", wanted.connections.min(2)))
        .arg(format!("--time={time_s:.0}"))
        .arg(format!("--file={}", script.display()))
        .args(["--host=127.0.0.1", "--username=postgres"])
        .arg(format!("--port={}", scene.database_port(wanted.node)))
        .arg("domicile")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The time spent on the CPU when the last connection was there.
async fn connected(database: &Client, connections: usize, processes: &Processes) -> u64 {
    let wanted = i64::try_from(connections).expect("few connections");
    eventually("pgbench has connected", CONNECTED_WITHIN, || async {
        match database::count(database, CONNECTED).await {
            all if all >= wanted => Ok(processes.used_us()),
            some => Err(format!("{some} of {wanted}")),
        }
    })
    .await
}

/// The number after `label`.
fn number(text: &str, label: &str) -> f64 {
    let rest = text.split_once(label).expect("a line of pgbench's").1;
    let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    digits.parse().expect("a number")
}

/// The third column of every line of the logs, one log per thread: microseconds.
fn latencies(folder: &Path) -> Vec<u32> {
    std::fs::read_dir(folder)
        .expect("pgbench's folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("latency"))
        .flat_map(|entry| {
            let log = std::fs::read_to_string(entry.path()).expect("a log of pgbench's");
            let third = |line: &str| line.split(' ').nth(2)?.parse().ok();
            log.lines().filter_map(third).collect::<Vec<u32>>()
        })
        .collect()
}
