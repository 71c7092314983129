//! With the standby of the other region stopped nothing counts as done: no acknowledgement, nothing revealing,
//! no "already done", and no reader sees what the standby has not. A clone beside it changes nothing.

use domicile_tests::cluster::Cluster;
use domicile_tests::database;
use domicile_tests::eventually::eventually;
use domicile_tests::player::Player;
use domicile_tests::topology::THREE_REGIONS;
use http::StatusCode;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// How long a stopped standby is watched.
const WATCH: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn without_its_standby_the_writer_promises_nothing() {
    let cluster = Cluster::start("standby", THREE_REGIONS.get(..2).expect("two regions"));
    let operator = cluster.operator("acme", &["MT", "DE"], "MT").await;
    let opened = operator.session("held", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.session().await;
    player.play(&session, "before", 1).await;
    until_read(&cluster).await;
    assert_sync(&cluster).await;
    signal_tree(cluster.pid("ledger-de/postgres"), "STOP");
    let held = nothing_is_promised(&cluster, &player, &session).await;
    a_clone_acknowledges_nothing(&cluster, &player, &held).await;
    signal_tree(cluster.pid("ledger-de/postgres"), "CONT");
    everything_is_decided(&cluster, &player, &held).await;
}

/// What the standby had before it stops may reach the reader after: that it has it is waited for.
async fn until_read(cluster: &Cluster) {
    let reader = database::connect(cluster, "reader-mt").await;
    eventually("the reader has the play", Duration::from_secs(30), || async {
        let bets = database::count(&reader, "SELECT count(*) FROM ledger.bet").await;
        if bets == 1 { Ok(()) } else { Err(format!("{bets} bets")) }
    })
    .await;
}

async fn assert_sync(cluster: &Cluster) {
    let ledger = database::connect(cluster, "ledger-mt").await;
    let sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    assert_eq!(database::count(&ledger, sync).await, 1, "NOT RUN: the standby is not sync");
}

/// Signals a postmaster and all its children: a hang, not a death.
fn signal_tree(postmaster: i32, signal: &str) {
    let children =
        Command::new("pgrep").args(["-P", &postmaster.to_string()]).output().expect("run pgrep");
    let children = String::from_utf8(children.stdout).expect("pids");
    for pid in std::iter::once(postmaster.to_string()).chain(children.lines().map(str::to_owned)) {
        let _gone =
            Command::new("kill").args([format!("-{signal}"), pid]).status().expect("run kill");
    }
}

/// Sends a play and its retries while the standby hangs; returns the body that was sent.
async fn nothing_is_promised(cluster: &Cluster, player: &Player, session: &Value) -> Value {
    let reader = database::connect(cluster, "reader-mt").await;
    let ledger = database::connect(cluster, "ledger-mt").await;
    let bets = "SELECT count(*) FROM ledger.bet";
    let before = database::count(&reader, bets).await;
    let body = Player::play_body(session, "high", 1_000_000, 2);
    let watched = tokio::time::Instant::now();
    let mut answers = 0;
    while watched.elapsed() < WATCH {
        let attempt = player.post("/v1/plays", "held", &body);
        if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(2), attempt).await {
            answers += 1;
            assert!(!answer.status.is_success(), "acknowledged: {}", answer.json());
            assert!(!answer.replayed, "an earlier attempt counts as done: {}", answer.json());
            for revealing in ["seed", "outcome", "receipt", "payout_micro", "round", "bet"] {
                assert!(
                    answer.json().get(revealing).is_none(),
                    "{revealing} left: {}",
                    answer.json()
                );
            }
        }
        let session =
            tokio::time::timeout(Duration::from_millis(500), player.get("/v1/session")).await;
        if let Ok(Ok(answer)) = session {
            assert_ne!(
                answer.status,
                StatusCode::OK,
                "the writer reads to the outside: {}",
                answer.json()
            );
        }
        assert_eq!(
            database::count(&reader, bets).await,
            before,
            "a reader is ahead of the standby"
        );
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waiters = database::count(&ledger, waiting).await;
    assert!(waiters > 0, "NOT RUN: no commit was waiting for the standby ({answers} answers)");
    body
}

/// A clone of the standby's place: it streams under another name, so its confirmation is worth nothing.
async fn a_clone_acknowledges_nothing(cluster: &Cluster, player: &Player, body: &Value) {
    let clone = Clone::start(cluster);
    let ledger = database::connect(cluster, "ledger-mt").await;
    let within = Duration::from_secs(30);
    eventually("the clone streams", within, || async {
        let streaming = "SELECT count(*) FROM pg_stat_replication \
             WHERE application_name = 'a_clone' AND state = 'streaming' AND sync_state = 'async'";
        let seen = database::count(&ledger, streaming).await;
        if seen == 1 { Ok(()) } else { Err(format!("{seen} clones")) }
    })
    .await;
    let attempt = player.post("/v1/plays", "held", body);
    if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(3), attempt).await {
        assert!(!answer.status.is_success(), "the clone acknowledged: {}", answer.json());
    }
    drop(clone);
}

async fn everything_is_decided(cluster: &Cluster, player: &Player, body: &Value) {
    let first = eventually("the held play", Duration::from_secs(40), || async {
        match player.post("/v1/plays", "held", body).await {
            Ok(answer) if answer.status == StatusCode::CREATED => Ok(answer.json()),
            Ok(answer) => Err(answer.json().to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
    let again = player.post("/v1/plays", "held", body).await.expect("an answer");
    assert_eq!(again.json(), first, "one key, one effect, one answer");
    let ledger = database::connect(cluster, "ledger-mt").await;
    let bets = "SELECT count(*) FROM ledger.bet WHERE player_ref = 'held'";
    assert_eq!(database::count(&ledger, bets).await, 2, "the play before and the held one");
}

/// A physical copy of the primary, started with the standby's credentials and another name.
struct Clone {
    folder: std::path::PathBuf,
    server: std::process::Child,
}

impl Clone {
    fn start(cluster: &Cluster) -> Self {
        let bin = domicile_tests::cluster::postgres_bin();
        let primary = cluster.topology().ledgers.first().expect("the primary");
        let password = cluster.secret(&primary.node, "replication-password");
        let (host, port) = (primary.postgres.host(), primary.postgres.port());
        let standby = cluster.topology().ledgers.last().expect("the standby");
        let tls = match cluster.postgres_tls(&standby.node) {
            None => "sslmode=disable".to_owned(),
            Some(own) => format!(
                "sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
                own.ca.display(),
                own.cert.display(),
                own.key.display()
            ),
        };
        let conninfo = format!(
            "host={host} port={port} user=domicile_replication password={password} \
             application_name=a_clone {tls}"
        );
        let folder = cluster.state().join("clone");
        let owner = domicile_tests::cluster::owned_folder(&folder);
        let data = folder.join("data");
        let copied = owner
            .command(&bin.join("pg_basebackup"))
            .args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "-D"])
            .arg(&data)
            .args(["-d", &conninfo])
            .output()
            .expect("run pg_basebackup");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        // The nodes keep their configuration outside the data folder, so the copy has none.
        for (name, text) in [
            ("postgresql.conf", ""),
            ("pg_hba.conf", "local all all reject\n"),
            ("pg_ident.conf", ""),
        ] {
            std::fs::write(data.join(name), text).expect("a configuration of its own");
        }
        let log = std::fs::File::create(folder.join("log")).expect("a log");
        let server = owner
            .command(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "hot_standby=off", "-k"])
            .arg(&folder)
            .args(["-c", &format!("primary_conninfo={conninfo}"), "-c", "primary_slot_name="])
            .stdout(log.try_clone().expect("the log twice"))
            .stderr(log)
            .spawn()
            .expect("start the clone");
        Self { folder, server }
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        let pid = self.server.id().to_string();
        let _asked = Command::new("kill").args(["-INT", &pid]).status();
        let _ended = self.server.wait();
        if !std::thread::panicking() {
            let _removed = std::fs::remove_dir_all(&self.folder);
        }
    }
}
