//! A throw-away etcd cluster of one or three members.
//!
//! An etcd binary that is missing fails the test: nothing here can be shown without it.

use domicile_control::{ControlClient, ControlConfig, Record, TlsPaths, Topology, Watch};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{ClusterId, NodeId, RegionId};
use domicile_service::config::TlsFiles;
use domicile_service::peer::Role;
use domicile_service::testing::TestCa;
use domicile_topology::record::Beginning;
use std::future::Future;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ports 21500–21999 in blocks of ten; a block is taken by binding its first UDP port.
const FIRST_PORT: u16 = 21_500;
const BLOCK: u16 = 10;
const BLOCKS: u16 = 50;
/// Longest wait for anything a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Ten TCP ports for as long as the value lives.
pub(crate) struct Ports {
    first: u16,
    _guard: UdpSocket,
}

impl Ports {
    pub(crate) fn take() -> Self {
        (0..BLOCKS)
            .map(|block| FIRST_PORT + block * BLOCK)
            .find_map(|first| {
                let guard = UdpSocket::bind(("127.0.0.1", first)).ok()?;
                Some(Self { first, _guard: guard })
            })
            .expect("no free block of ports")
    }

    pub(crate) fn number(&self, index: usize) -> u16 {
        self.first + u16::try_from(index).unwrap()
    }
}

/// The members and the authority that signs for them and for their clients.
pub(crate) struct Cluster {
    pub(crate) ca: TestCa,
    pub(crate) ports: Ports,
    pub(crate) folder: TempDir,
    members: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts `size` members.
    pub(crate) fn start(size: usize) -> Self {
        let mut cluster = Self::stopped(size);
        (0..size).for_each(|index| cluster.start_member(index));
        cluster
    }

    /// A cluster whose members are not started yet.
    pub(crate) fn stopped(size: usize) -> Self {
        let members = (0..size).map(|_| None).collect();
        let folder = tempfile::tempdir().unwrap();
        Self { ca: TestCa::new(), ports: Ports::take(), folder, members }
    }

    fn client_url(&self, index: usize) -> String {
        format!("https://127.0.0.1:{}", self.ports.number(index))
    }

    fn peer_url(&self, index: usize) -> String {
        format!("https://127.0.0.1:{}", self.ports.number(index + 3))
    }

    pub(crate) fn start_member(&mut self, index: usize) {
        let name = format!("etcd-{index}");
        let TlsFiles { cert, key, ca } = self.ca.issue(Role::Etcd, &name);
        let initial: Vec<_> = (0..self.members.len())
            .map(|index| format!("etcd-{index}={}", self.peer_url(index)))
            .collect();
        let mut command = Command::new("etcd");
        command.arg("--name").arg(&name).arg("--data-dir").arg(self.folder.path().join(&name));
        command.arg("--listen-client-urls").arg(self.client_url(index));
        command.arg("--advertise-client-urls").arg(self.client_url(index));
        command.arg("--listen-peer-urls").arg(self.peer_url(index));
        command.arg("--initial-advertise-peer-urls").arg(self.peer_url(index));
        command.arg("--initial-cluster").arg(initial.join(","));
        command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&ca);
        command.arg("--cert-file").arg(&cert).arg("--key-file").arg(&key);
        command.arg("--peer-client-cert-auth").arg("--peer-trusted-ca-file").arg(&ca);
        command.arg("--peer-cert-file").arg(&cert).arg("--peer-key-file").arg(&key);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        command.args(["--logger", "zap", "--log-level", "error", "--log-outputs", "stderr"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.members[index] = Some(child.expect("etcd must be installed"));
    }

    /// Kills a member as a power cut would.
    pub(crate) fn kill_member(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn tls(&self, node: &str) -> TlsPaths {
        let TlsFiles { cert, key, ca } = self.ca.issue(Role::Ctl, node);
        TlsPaths { cert, key, ca }
    }

    pub(crate) fn cache(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration for the given member numbers.
    pub(crate) fn config(&self, members: &[usize]) -> ControlConfig {
        let ports: Vec<_> = members.iter().map(|index| self.ports.number(*index)).collect();
        self.config_of_ports(&ports)
    }

    pub(crate) fn config_of_ports(&self, ports: &[u16]) -> ControlConfig {
        let cluster = ClusterId::parse("demo").unwrap();
        let urls: Vec<_> = ports.iter().map(|port| format!("https://127.0.0.1:{port}")).collect();
        ControlConfig::new(cluster, &urls, self.tls("ctl-a"), self.cache("topology.json")).unwrap()
    }

    /// A client of all members, once they answer.
    pub(crate) async fn client(&self) -> ControlClient {
        let all: Vec<_> = (0..self.members.len()).collect();
        let client = ControlClient::new(&self.config(&all));
        eventually("etcd answers", async || client.record().await.is_ok()).await;
        client
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill_member(index));
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The outcome of `future`, which must not take longer than a test's patience.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("not in time")
}

/// Waits until the watch knows a value for which `condition` holds.
pub(crate) async fn until<T>(watch: &Watch<T>, condition: impl Fn(&T) -> bool) {
    let mut values = watch.receiver();
    let known = values.wait_for(|known| known.as_ref().is_some_and(|k| condition(&k.value)));
    soon(known).await.unwrap();
}

pub(crate) fn topology(generation: u64) -> Topology {
    let text = include_str!("../../../examples/local.toml");
    Topology { generation, ..Topology::parse(text).unwrap() }.checked().unwrap()
}

pub(crate) fn record(epoch: u64) -> Record {
    let beginning = if epoch == 1 { Beginning::First } else { Beginning::Forced };
    let (region, node) = (RegionId::parse("mt-1").unwrap(), NodeId::parse("ledger-mt").unwrap());
    Record { epoch: Epoch(epoch), beginning, ..Record::first(region, node, 1) }
}
