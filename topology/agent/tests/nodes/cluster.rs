//! Nodes for tests: agents on real Postgres servers, with a control plane held in memory.
//!
//! Postgres refuses to run as root, so a test started as root starts itself again as an unprivileged user.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domicile_agent::agent::Agent;
use domicile_agent::config::AgentConfig;
use domicile_agent::control::{Answer, ControlPlane};
use domicile_agent::decide::Authority;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use domicile_postgres::{ConnectConfig, Connection};
use domicile_service::clock::SystemClock;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::health::Readiness;
use domicile_service::ids::IdSource;
use domicile_service::peer::Role;
use domicile_service::testing::TestCa;
use domicile_topology::document::Durability;
use domicile_topology::lease::WriterLease;
use domicile_topology::member::Member;
use domicile_topology::observed::NodeStatus;
use domicile_topology::record::Beginning;
use domicile_topology::{Record, Topology};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Every wait of a test ends here; generous, because machines are shared.
const PATIENCE: Duration = Duration::from_mins(2);
const PASSWORD: &str = "correct horse: battery\\staple";

/// Runs the test's body as an unprivileged user; `test` is the test's path in this binary.
pub(crate) fn run(test: &str, body: impl Future<Output = ()>) {
    if geteuid().is_root() {
        let mut again = Command::new("setpriv");
        again.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]);
        again.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
        let status = again.current_dir("/tmp").status().expect("setpriv starts the test again");
        assert!(status.success(), "{test} failed as an unprivileged user");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(body);
}

/// Waits until the condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A control plane held in memory.
pub(crate) struct MemoryControl {
    record: watch::Sender<Authority>,
    topology: Arc<Topology>,
    /// The writers' leases.
    pub(crate) leases: Mutex<Vec<WriterLease>>,
}

impl MemoryControl {
    pub(crate) fn set(&self, authority: Authority) {
        self.record.send_replace(authority);
    }

    pub(crate) fn put(&self, record: Record) {
        record.check().unwrap();
        self.set(Authority::Answered(Some(record)));
    }

    pub(crate) fn record(&self) -> Record {
        self.record.borrow().record().cloned().unwrap()
    }

    pub(crate) fn name(&self, writer: &str, epoch: u64, sync: Option<&Member>) -> Record {
        let beginning = if epoch == 1 { Beginning::First } else { Beginning::Forced };
        let (region, node) = (RegionId::parse("mt-1").unwrap(), NodeId::parse(writer).unwrap());
        let record = Record {
            epoch: Epoch(epoch),
            beginning,
            durability: if sync.is_some() { Durability::Two } else { Durability::One },
            sync_member: sync.cloned(),
            ..Record::first(region, node, 1)
        };
        self.set(Authority::Answered(Some(record.clone())));
        record
    }
}

impl ControlPlane for MemoryControl {
    fn ask(&self) -> Answer<'_, Authority> {
        Box::pin(async { self.record.borrow().clone() })
    }
    fn leases(&self) -> Answer<'_, Option<Vec<WriterLease>>> {
        Box::pin(async { Some(self.leases.lock().unwrap().clone()) })
    }
    fn last_record(&self) -> Option<Record> {
        self.record.borrow().record().cloned()
    }
    fn topology(&self) -> Option<Arc<Topology>> {
        Some(Arc::clone(&self.topology))
    }
    fn changed(&self) -> Answer<'_, ()> {
        let mut record = self.record.subscribe();
        Box::pin(async move { drop(record.changed().await) })
    }
}

/// A cluster's folder, control plane and nodes.
pub(crate) struct Cluster {
    pub(crate) control: Arc<MemoryControl>,
    pub(crate) ca: TestCa,
    folder: TempDir,
    pub(crate) first_port: u16,
}

/// One node: its agent, and what keeps it attended.
pub(crate) struct Node {
    pub(crate) agent: Arc<Agent>,
    pub(crate) name: NodeId,
    pub(crate) data_dir: PathBuf,
    port: u16,
    drain: Drain,
}

impl Cluster {
    /// Ledger nodes `ledger-a` (first port) and `ledger-b` (the next), readers `reader-mt` and `reader-de` after them.
    pub(crate) fn new(first_port: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let topology = Topology::parse(&document(first_port)).expect("the document is valid");
        let record = watch::Sender::new(Authority::Answered(None));
        let control = Arc::new(MemoryControl {
            record,
            topology: Arc::new(topology),
            leases: Mutex::default(),
        });
        for (name, text) in [
            ("password", PASSWORD.to_owned()),
            ("scram", postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes())),
        ] {
            private(&folder.path().join(name), &text);
        }
        Self { control, ca: TestCa::new(), folder, first_port }
    }

    /// An agent for this node in its own folder; a second folder of one node makes a namesake.
    pub(crate) fn node(&self, name: &str, folder: &str, port_offset: u16) -> Node {
        let config = self.config(name, folder, self.first_port + port_offset);
        let data_dir = config.postgres.data_dir.clone();
        let ids = IdSource::new(Arc::new(SystemClock));
        let control = Arc::clone(&self.control) as Arc<dyn ControlPlane>;
        let agent = Agent::new(config, control, ids).unwrap();
        let drain = Drain::new(DrainLimits::default());
        domicile_agent::attend(&agent, &drain, &Readiness::new(drain.clone()));
        let name = NodeId::parse(name).unwrap();
        Node { agent, name, data_dir, port: self.first_port + port_offset, drain }
    }

    fn config(&self, name: &str, folder: &str, port: u16) -> AgentConfig {
        let bin =
            std::env::var("DOMICILE_PG_BIN").expect("DOMICILE_PG_BIN names Postgres' bin folder");
        let kind = if name.starts_with("ledger") { "ledger" } else { "reader" };
        let file = self.folder.path().join(format!("{folder}.toml"));
        let tls = self.ca.issue(Role::Agent, name);
        let [cert, key, ca] = [tls.cert, tls.key, tls.ca].map(|path| path.display().to_string());
        let text = format!(
            r#"
            node = "{name}"
            cluster = "demo"
            region = "mt-1"
            kind = "{kind}"
            listen = "127.0.0.1:1"
            admin_listen = "127.0.0.1:1"
            tls = {{ cert = "{cert}", key = "{key}", ca = "{ca}" }}
            control = {{ endpoints = [], topology_cache = "t" }}
            [postgres]
            bin_dir = "{bin}"
            data_dir = "{folder}/data"
            config_dir = "{folder}/postgres"
            listen = "127.0.0.1:{port}"
            superuser_password_file = "password"
            replication_password_file = "password"
            replication_verifier_file = "scram"
            writer_verifier_file = "scram"
            reader_verifier_file = "scram"
            tuning = {{ shared_buffers = "16MB", max_wal_size = "128MB" }}
            "#
        );
        std::fs::create_dir_all(self.folder.path().join(folder)).unwrap();
        std::fs::write(&file, text).unwrap();
        AgentConfig::read(&file).unwrap()
    }
}

impl Node {
    /// The status, once it satisfies the condition.
    pub(crate) async fn status_until(
        &self,
        what: &str,
        condition: impl Fn(&NodeStatus) -> bool,
    ) -> NodeStatus {
        let begun = Instant::now();
        loop {
            let status = self.agent.status().await;
            if condition(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "waited too long until {what}: {status:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A superuser's connection to the node's ledger database.
    pub(crate) async fn connect(&self) -> Connection {
        domicile_postgres::connect(&self.superuser()).await.unwrap()
    }

    /// How a superuser connects.
    pub(crate) fn superuser(&self) -> ConnectConfig {
        ConnectConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            dbname: "domicile".to_owned(),
            user: "postgres".to_owned(),
            password: PASSWORD.into(),
            tls: None,
            application_name: "test".to_owned(),
            connect_timeout_ms: 5_000,
            statement_timeout_ms: 20_000,
        }
    }

    /// The postmaster's process.
    pub(crate) fn postmaster(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data_dir.join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.parse().ok()?)
    }

    /// Ends the agent and leaves Postgres alone.
    pub(crate) fn abandon(&self) {
        self.drain.begin("test");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain.begin("the test is over");
        if let Some(pid) = self.postmaster() {
            // It may be gone already.
            kill_process(pid, Signal::QUIT).ok();
        }
    }
}

fn private(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

// `@n` stands for the address at the first port plus n.
const DOCUMENT: &str = r#"
cluster = "demo"
generation = 1
durability = { mode = "two" }
failover = { policy = "manual", preferred_region = "mt-1" }
region = [{ id = "mt-1", country = "MT" }, { id = "de-1", country = "DE" }, { id = "ie-1", country = "IE" }]
etcd = [
  { node = "etcd-mt", region = "mt-1", client = "https://@20", peer = "https://@21" },
  { node = "etcd-de", region = "de-1", client = "https://@22", peer = "https://@23" },
  { node = "etcd-ie", region = "ie-1", client = "https://@24", peer = "https://@25" },
]
ledger = [
  { node = "ledger-a", region = "mt-1", postgres = "@00", agent = "https://@26", admin = "@27" },
  { node = "ledger-b", region = "de-1", postgres = "@01", agent = "https://@28", admin = "@29" },
]
writer = [
  { node = "writer-mt", region = "mt-1", endpoint = "https://@30", admin = "@31" },
  { node = "writer-de", region = "de-1", endpoint = "https://@32", admin = "@33" },
]
router = [
  { node = "router-mt", region = "mt-1", endpoint = "https://@34", admin = "@35" },
  { node = "router-de", region = "de-1", endpoint = "https://@36", admin = "@37" },
]

[[reader]]
node = "reader-mt"
region = "mt-1"
jurisdictions = ["MT"]
postgres = "@02"
agent = "https://@38"
agent_admin = "@39"
endpoint = "https://@40"
admin = "@41"

[[reader]]
node = "reader-de"
region = "de-1"
jurisdictions = ["DE"]
postgres = "@03"
agent = "https://@42"
agent_admin = "@43"
endpoint = "https://@44"
admin = "@45"

[[jurisdiction]]
code = "MT"
writer_regions = ["mt-1", "de-1"]
required_copy_regions = ["mt-1"]
allowed_regions = ["mt-1", "de-1"]
lag_limit_ms = 5000
publish_log = true

[[jurisdiction]]
code = "DE"
writer_regions = ["mt-1", "de-1"]
required_copy_regions = ["de-1"]
allowed_regions = ["mt-1", "de-1"]
lag_limit_ms = 5000
publish_log = true
"#;

fn document(first_port: u16) -> String {
    let mut text = DOCUMENT.to_owned();
    for offset in 0..60 {
        let address = format!("127.0.0.1:{}", first_port + offset);
        text = text.replace(&format!("@{offset:02}"), &address);
    }
    text
}
