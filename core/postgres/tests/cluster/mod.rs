//! Real Postgres servers for the tests of the database crates: started in a temporary folder, ended on drop.
//!
//! A missing Postgres fails the test: `DOMICILE_PG_BIN` names the folder of its programs.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "included by several test programs, each of which uses its own part"
)]

use domicile_postgres::{ConnectConfig, Connection, PoolConfig, connect};
use rustix::process::{Pid, Signal, getuid, kill_process};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Ports tried for test servers, below the range that outgoing connections use.
const PORTS: std::ops::Range<u16> = 20_500..21_000;
/// Longest wait for a server to do what a test asked for.
pub const PATIENCE: Duration = Duration::from_secs(20);

const SETTINGS: &str = "
unix_socket_directories = ''
listen_addresses = '127.0.0.1'
fsync = off
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 60
hot_standby = on
lc_messages = 'C'
wal_retrieve_retry_interval = 200ms
wal_receiver_status_interval = 1s
";

/// One server.
pub struct Server {
    folder: tempfile::TempDir,
    /// The superuser's. Every primary has its own, so that no test talks to another's server.
    pub password: String,
    pub port: u16,
    postmaster: Option<Child>,
}

impl Server {
    /// Makes and starts a primary.
    pub async fn primary() -> Self {
        let mut server = Self::empty();
        let password_file = server.folder.path().join("password");
        fs::write(&password_file, &server.password).unwrap();
        chown(&password_file, owner(), owner()).unwrap();
        let data = server.data();
        let mut initdb = program("initdb");
        initdb.args([
            "--username=postgres",
            "--auth=scram-sha-256",
            "--locale=C",
            "--encoding=UTF8",
        ]);
        initdb.arg("--no-sync").arg("--pwfile").arg(&password_file).arg("-D").arg(&data);
        run(&mut initdb);
        let access = "local all all reject\nhost all,replication all 127.0.0.1/32 scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), access).unwrap();
        server.configure(SETTINGS);
        server.start().await;
        server
    }

    /// Clones `source` and starts it as its standby of this name.
    pub async fn standby_of(source: &Self, name: &str) -> Self {
        let mut server = Self::empty();
        server.password.clone_from(&source.password);
        let conninfo = format!(
            "host=127.0.0.1 port={} user=postgres password={} application_name={name}",
            source.port, source.password
        );
        let mut clone = program("pg_basebackup");
        clone.args([
            "--checkpoint=fast",
            "--no-sync",
            "--write-recovery-conf",
            "-d",
            &conninfo,
            "-D",
        ]);
        clone.arg(server.data());
        run(&mut clone);
        server.configure("");
        server.start().await;
        server
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), owner(), owner()).unwrap();
        let password = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        Self { folder, password, port: free_port(), postmaster: None }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Adds settings; they are read at the next start or reload.
    pub fn configure(&self, settings: &str) {
        let file = self.data().join("postgresql.conf");
        let before = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{before}\n{settings}\nport = {}\n", self.port)).unwrap();
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&mut self) {
        let log = fs::File::options();
        let log = log.clone().append(true).create(true).open(self.log()).unwrap();
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(self.data()).stdout(Stdio::null()).stderr(log);
        self.postmaster = Some(postgres.spawn().unwrap());
        let begun = Instant::now();
        while let Err(error) = connect(&self.config("postgres", &self.password)).await {
            assert!(begun.elapsed() < PATIENCE, "{error}\n{}", self.read_log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Tells the server to read its settings again.
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Stops the server in order and waits for its end.
    pub fn stop(&mut self) {
        self.signal(Signal::INT);
        self.reap();
    }

    /// Kills the server without any order.
    pub fn kill(&mut self) {
        self.signal(Signal::QUIT);
        self.reap();
    }

    fn signal(&self, signal: Signal) {
        let postmaster = self.postmaster.as_ref().unwrap();
        kill_process(Pid::from_child(postmaster), signal).unwrap();
    }

    fn reap(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            postmaster.wait().unwrap();
        }
    }

    /// How `user` connects.
    pub fn config(&self, user: &str, password: &str) -> ConnectConfig {
        ConnectConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            dbname: "postgres".to_owned(),
            user: user.to_owned(),
            password: password.to_owned().into(),
            tls: None,
            application_name: "domicile-test".to_owned(),
            connect_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
        }
    }

    /// A pool of the superuser.
    pub fn pool_config(&self, size: usize) -> PoolConfig {
        PoolConfig { connect: self.config("postgres", &self.password), size }
    }

    /// A connection of the superuser.
    pub async fn superuser(&self) -> Connection {
        connect(&self.config("postgres", &self.password)).await.unwrap()
    }

    /// The connection string that a subscription uses.
    pub fn conninfo(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres password={} dbname=postgres",
            self.port, self.password
        )
    }

    /// Demands that commits wait for the standby `name`, and waits until it confirms.
    pub async fn require_standby(&self, name: &str) {
        self.configure(&format!("synchronous_standby_names = 'FIRST 1 ({name})'"));
        self.reload();
        let admin = self.superuser().await;
        let sql = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
        eventually("a synchronous standby", async || {
            !admin.query(sql, &[]).await.unwrap().is_empty()
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.postmaster.is_some() {
            self.kill();
        }
    }
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Postgres refuses to run as root: root's tests run it as `postgres`, or else `nobody`.
fn owner() -> Option<u32> {
    if !getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let uid = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split(':').nth(2)?.parse().ok()
    };
    Some(uid("postgres").or_else(|| uid("nobody")).expect("a user postgres or nobody"))
}

fn program(name: &str) -> Command {
    let folder = std::env::var_os("DOMICILE_PG_BIN")
        .expect("DOMICILE_PG_BIN names the folder of PostgreSQL's programs; `make unit` finds one");
    let mut command = Command::new(Path::new(&folder).join(name));
    command.current_dir("/").env("LC_ALL", "C");
    if let Some(owner) = owner() {
        command.uid(owner).gid(owner);
    }
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let width = u32::from(PORTS.end - PORTS.start);
    let next = || (std::process::id() * 7 + TRIED.fetch_add(1, Ordering::Relaxed)) % width;
    (0..width)
        .map(|_| PORTS.start + u16::try_from(next()).unwrap())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
