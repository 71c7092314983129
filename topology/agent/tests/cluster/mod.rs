//! Nodes for tests: agents on real Postgres servers, with a control plane held in memory.
//!
//! Postgres refuses to run as root, so a test started as root starts itself again as an unprivileged user.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's scaffold fails loudly")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use domicile_agent::agent::Agent;
use domicile_agent::config::AgentConfig;
use domicile_agent::control::{Answer, ControlPlane};
use domicile_agent::decide::Authority;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use domicile_service::clock::SystemClock;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::health::Readiness;
use domicile_service::ids::IdSource;
use domicile_topology::document::Durability;
use domicile_topology::member::Member;
use domicile_topology::observed::NodeStatus;
use domicile_topology::{Record, Topology};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Every wait of a test ends here; generous, because machines are shared.
const PATIENCE: Duration = Duration::from_mins(1);
const PASSWORD: &str = "correct horse: battery\\staple";

/// Runs the test's body as an unprivileged user.
pub fn run(test: &str, body: impl Future<Output = ()>) {
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
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "waited too long until {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A control plane held in memory.
pub struct MemoryControl {
    record: watch::Sender<Authority>,
    topology: Arc<Topology>,
}

impl MemoryControl {
    pub fn set(&self, authority: Authority) {
        self.record.send_replace(authority);
    }

    pub fn name(&self, writer: &str, epoch: u64, sync: Option<&Member>) -> Record {
        let record = Record {
            epoch: Epoch(epoch),
            writer_region: RegionId::parse("mt-1").unwrap(),
            writer_node: NodeId::parse(writer).unwrap(),
            durability: if sync.is_some() { Durability::Two } else { Durability::One },
            sync_member: sync.cloned(),
            promotable: false,
            topology_generation: 1,
        };
        self.set(Authority::Answered(Some(record.clone())));
        record
    }
}

impl ControlPlane for MemoryControl {
    fn ask(&self) -> Answer<'_, Authority> {
        Box::pin(async { self.record.borrow().clone() })
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
pub struct Cluster {
    pub control: Arc<MemoryControl>,
    folder: TempDir,
    first_port: u16,
}

/// One node: its agent, and what keeps it attended.
pub struct Node {
    pub agent: Arc<Agent>,
    pub data_dir: PathBuf,
    drain: Drain,
}

impl Cluster {
    /// Ledger nodes `ledger-a` (first port) and `ledger-b` (the next), readers `reader-mt` and `reader-de` after them.
    pub fn new(first_port: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let topology = Topology::parse(&document(first_port)).expect("the document is valid");
        let record = watch::Sender::new(Authority::Answered(None));
        let control = Arc::new(MemoryControl { record, topology: Arc::new(topology) });
        for (name, text) in [
            ("password", PASSWORD.to_owned()),
            ("scram", postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes())),
        ] {
            private(&folder.path().join(name), &text);
        }
        Self { control, folder, first_port }
    }

    /// An agent for this node in its own folder; a second folder of one node makes a namesake.
    pub fn node(&self, name: &str, folder: &str, port_offset: u16) -> Node {
        let config = self.config(name, folder, self.first_port + port_offset);
        let data_dir = config.postgres.data_dir.clone();
        let ids = IdSource::new(Arc::new(SystemClock));
        let control = Arc::clone(&self.control) as Arc<dyn ControlPlane>;
        let agent = Agent::new(config, control, ids).unwrap();
        let drain = Drain::new(DrainLimits::default());
        domicile_agent::attend(&agent, &drain, &Readiness::new(drain.clone()));
        Node { agent, data_dir, drain }
    }

    fn config(&self, name: &str, folder: &str, port: u16) -> AgentConfig {
        let bin =
            std::env::var("DOMICILE_PG_BIN").expect("DOMICILE_PG_BIN names Postgres' bin folder");
        let kind = if name.starts_with("ledger") { "ledger" } else { "reader" };
        let file = self.folder.path().join(format!("{folder}.toml"));
        let text = format!(
            r#"
            node = "{name}"
            cluster = "demo"
            region = "mt-1"
            kind = "{kind}"
            listen = "127.0.0.1:1"
            admin_listen = "127.0.0.1:1"
            tls = {{ cert = "c", key = "k", ca = "a" }}
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
    pub async fn status_until(
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

    /// The postmaster's process.
    pub fn postmaster(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data_dir.join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.parse().ok()?)
    }

    /// Ends the agent and leaves Postgres alone.
    pub fn abandon(&self) {
        self.drain.begin("test");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.drain.begin("the test is over");
        if let Some(pid) = self.postmaster() {
            drop(kill_process(pid, Signal::QUIT));
        }
    }
}

fn private(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn document(first_port: u16) -> String {
    let at = |offset: u16| format!("127.0.0.1:{}", first_port + offset);
    let mut text = String::from(
        "cluster = \"demo\"\ngeneration = 1\n\
         [durability]\nmode = \"two\"\n[failover]\npolicy = \"manual\"\npreferred_region = \"mt-1\"\n\
         [[region]]\nid = \"mt-1\"\ncountry = \"MT\"\n[[region]]\nid = \"de-1\"\ncountry = \"DE\"\n\
         [[region]]\nid = \"ie-1\"\ncountry = \"IE\"\n",
    );
    for (offset, region) in [(20, "mt-1"), (22, "de-1"), (24, "ie-1")] {
        text += &format!(
            "[[etcd]]\nnode = \"etcd-{region}\"\nregion = \"{region}\"\nclient = \"https://{}\"\npeer = \"https://{}\"\n",
            at(offset),
            at(offset + 1)
        );
    }
    for (offset, node, region) in [(0, "ledger-a", "mt-1"), (1, "ledger-b", "de-1")] {
        text += &format!(
            "[[ledger]]\nnode = \"{node}\"\nregion = \"{region}\"\npostgres = \"{}\"\nagent = \"https://{}\"\nadmin = \"{}\"\n",
            at(offset),
            at(30 + offset),
            at(32 + offset)
        );
    }
    for (offset, region) in [(54, "mt-1"), (58, "de-1")] {
        for (offset, kind) in [(offset, "writer"), (offset + 2, "router")] {
            text += &format!(
                "[[{kind}]]\nnode = \"{kind}-{region}\"\nregion = \"{region}\"\nendpoint = \"https://{}\"\nadmin = \"{}\"\n",
                at(offset),
                at(offset + 1)
            );
        }
    }
    for (offset, code, region) in [(2, "MT", "mt-1"), (3, "DE", "de-1")] {
        let slug = code.to_lowercase();
        text += &format!(
            "[[reader]]\nnode = \"reader-{slug}\"\nregion = \"{region}\"\njurisdictions = [\"{code}\"]\npostgres = \"{}\"\n\
             agent = \"https://{}\"\nagent_admin = \"{}\"\nendpoint = \"https://{}\"\nadmin = \"{}\"\n\
             [[jurisdiction]]\ncode = \"{code}\"\nwriter_regions = [\"mt-1\", \"de-1\"]\nrequired_copy_regions = [\"{region}\"]\n\
             allowed_regions = [\"mt-1\", \"de-1\"]\nlag_limit_ms = 5000\npublish_log = true\n",
            at(offset),
            at(38 + offset),
            at(42 + offset),
            at(46 + offset),
            at(50 + offset)
        );
    }
    text
}
