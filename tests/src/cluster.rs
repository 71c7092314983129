//! A whole topology on this machine, started and stopped by the operator's own CLI.

use crate::eventually::eventually;
use crate::operator::{Operator, Registration};
use crate::topology::{Place, document};
use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::config::TlsFiles;
use domicile_service::tls::ClientTls;
use domicile_topology::Topology;
use domicile_topology::address::Address;
use serde_json::Value;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// How long a restarted part may take to be ready.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// A running topology. Dropping it stops everything; the folder is kept when the test has failed.
pub struct Cluster {
    state: PathBuf,
    topology: Topology,
}

impl Cluster {
    /// Brings up `places` and waits until everything is ready.
    pub fn start(name: &str, places: &[Place]) -> Self {
        Self::start_document(name, &document(name, places).text)
    }

    /// Brings up what the document says and waits until everything is ready.
    pub fn start_document(name: &str, document: &str) -> Self {
        Self::start_on(&postgres_bin(), name, document)
    }

    /// The same, on the Postgres whose programs are in this folder.
    pub fn start_on(postgres_bin: &Path, name: &str, document: &str) -> Self {
        let state = std::env::temp_dir().join(format!("domicile-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&state).expect("make the cluster's folder");
        let file = state.join("given.toml");
        std::fs::write(&file, document).expect("write the topology");
        let mut up = domicile(&state);
        up.args(["up", "--topology"]).arg(&file).env("DOMICILE_PG_BIN", postgres_bin);
        let output = up.output().expect("run `domicile up`");
        let text = std::fs::read_to_string(state.join("topology.toml")).unwrap_or_default();
        let topology = Topology::parse(&text);
        let cluster =
            Self { state, topology: topology.unwrap_or_else(|_| panic!("{}", said(&output))) };
        assert!(output.status.success(), "`domicile up` failed:\n{}", said(&output));
        cluster
    }

    /// The published topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The folder everything lives in.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The effective topology document, which holds the public keys.
    pub fn topology_file(&self) -> PathBuf {
        self.state.join("topology.toml")
    }

    /// Runs the CLI on this cluster and returns what it printed; panics when it fails.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let output = self.try_cli(arguments);
        assert!(
            output.status.success(),
            "`domicile {}` failed:\n{}",
            arguments.join(" "),
            said(&output)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs the CLI on this cluster.
    pub fn try_cli(&self, arguments: &[&str]) -> Output {
        domicile(&self.state).args(arguments).output().expect("run the CLI")
    }

    /// `kill -9` of one part, such as `writer-mt/writer` or `ledger-mt/postgres`.
    pub fn kill(&self, unit: &str) {
        self.cli(&["kill", unit]);
    }

    /// Starts a stopped or killed part.
    pub fn start_unit(&self, unit: &str) {
        self.cli(&["start", unit]);
    }

    /// Stops one part in order.
    pub fn stop_unit(&self, unit: &str) {
        self.cli(&["stop", unit]);
    }

    /// The base URL of a region's router.
    pub fn router(&self, code: &str) -> String {
        let region = format!("{}-1", code.to_lowercase());
        let router = self.topology.routers.iter().find(|router| router.region.as_str() == region);
        router.expect("a router in the region").endpoint.to_string()
    }

    /// The base URL of a jurisdiction's reader itself.
    pub fn reader(&self, code: &str) -> String {
        let jurisdiction = Jurisdiction::parse(code).expect("a jurisdiction");
        let readers = self.topology.permitted_readers(&jurisdiction);
        readers.first().expect("a reader").endpoint.to_string()
    }

    /// A client as players and operators have one: it trusts the authority and shows no certificate.
    pub fn outside(&self) -> HttpClient {
        let ca = self.state.join("operator/tls/ca.pem");
        let tls = ClientTls::anonymous(&ca).expect("the cluster's authority");
        HttpClient::new(&tls, ClientLimits::default())
    }

    /// A client with the CLI's own certificate.
    pub fn inside(&self) -> HttpClient {
        let own = certificate(&self.state.join("operator/tls"));
        let tls = ClientTls::load(&own).expect("the CLI's certificate");
        HttpClient::new(&tls, ClientLimits::default())
    }

    /// Registers an operator with the writer and returns its client, which speaks to `code`'s router.
    pub async fn operator(&self, id: &str, jurisdictions: &[&str], code: &str) -> Operator {
        let url = format!("{}/internal/v1/operators", self.writer_endpoint());
        let registration = Registration::new(id, jurisdictions);
        let created: Value =
            self.inside().post_json(&url, &registration).await.expect("register the operator");
        Operator::new(self.outside(), self.router(code), id, &created)
    }

    /// The endpoint of the writer in the preferred region.
    pub fn writer_endpoint(&self) -> String {
        let region = &self.topology.failover.preferred_region;
        let writers = self.topology.writers_in(region);
        writers.first().expect("a writer").endpoint.to_string()
    }

    /// `domicile status --json`, healthy or not.
    pub fn status(&self) -> Value {
        let output = self.try_cli(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    }

    /// Waits until a node's admin listener says ready.
    pub async fn ready(&self, admin: &str) {
        let client = self.outside();
        let url = format!("http://{admin}/readyz");
        eventually(&format!("{admin} ready"), READY_WITHIN, || async {
            client.get_json::<Value>(&url).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// The pid of a part.
    pub fn pid(&self, unit: &str) -> i32 {
        if let Some(node) = unit.strip_suffix("/postgres") {
            let file = self.state.join(format!("nodes/{node}/agent/data/postmaster.pid"));
            let text = std::fs::read_to_string(file).expect("the postmaster's pid file");
            return text.lines().next().and_then(|line| line.trim().parse().ok()).expect("a pid");
        }
        let text = std::fs::read_to_string(self.state.join("up.json")).expect("up.json");
        let running: Value = serde_json::from_str(&text).expect("JSON");
        let pid = running["processes"][unit]["pid"].as_i64().expect("a running part");
        i32::try_from(pid).expect("a pid")
    }

    /// Where a node's Postgres is.
    pub fn postgres(&self, node: &NodeId) -> Address {
        let ledger = self.topology.ledger(node).map(|ledger| &ledger.postgres);
        let reader = self.topology.reader(node).map(|reader| &reader.postgres);
        ledger.or(reader).expect("a database node").clone()
    }

    /// The certificate of a node's Postgres and of its agent, if its connections are TLS.
    pub fn postgres_tls(&self, node: &NodeId) -> Option<TlsFiles> {
        postgres_tls(&self.state, node).expect("the node's configuration")
    }

    /// A secret of a node that only a test looks at, such as the superuser's password.
    pub fn secret(&self, node: &NodeId, name: &str) -> String {
        let file = self.state.join(format!("nodes/{node}/agent/secrets/{name}"));
        std::fs::read_to_string(file).expect("the node's secret").trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let keep = std::thread::panicking();
        let mut down = domicile(&self.state);
        down.arg("down");
        if !keep {
            down.arg("--purge");
        }
        match down.output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("`domicile down` failed:\n{}", said(&output)),
            Err(error) => eprintln!("`domicile down` cannot be run: {error}"),
        }
        if keep {
            eprintln!("the cluster's folder is kept: {}", self.state.display());
        } else {
            let _removed = std::fs::remove_dir_all(&self.state);
        }
    }
}

/// The certificate of a node's Postgres and of its agent, if its connections are TLS.
pub fn postgres_tls(state: &Path, node: &NodeId) -> std::io::Result<Option<TlsFiles>> {
    let folder = state.join(format!("nodes/{node}/agent"));
    let text = std::fs::read_to_string(folder.join("config.toml"))?;
    let config: toml::Table = text.parse().expect("TOML");
    Ok(config["postgres"].get("tls").map(|_| certificate(&folder.join("tls"))))
}

/// The files of a certificate's folder.
pub fn certificate(folder: &Path) -> TlsFiles {
    TlsFiles {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        ca: folder.join("ca.pem"),
    }
}

/// The CLI beside the test's own binary, for the given state folder.
fn domicile(state: &Path) -> Command {
    let mut command = Command::new(binary("domicile"));
    command.env("DOMICILE_STATE", state);
    command
}

/// A program of this workspace, as `make build` leaves it.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test.ancestors().nth(2).expect("target/<profile>");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `make build` first", path.display());
    path
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The folder with Postgres' programs, as `.ci/tools` hands it to every test.
pub fn postgres_bin() -> PathBuf {
    let bin =
        std::env::var_os("DOMICILE_PG_BIN").expect("DOMICILE_PG_BIN names Postgres' programs");
    PathBuf::from(bin)
}

/// The unprivileged user that Postgres runs as; nothing when the tests are unprivileged themselves.
#[derive(Debug, Clone, Copy)]
pub struct Owner(Option<(u32, u32)>);

impl Owner {
    /// A command that runs as this user.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid).current_dir("/");
        }
        command
    }
}

/// Makes a folder that belongs to the owner of the cluster's nodes.
pub fn owned_folder(folder: &Path) -> Owner {
    std::fs::create_dir_all(folder).expect("make a folder");
    let state = folder.parent().expect("a state folder");
    let nodes = std::fs::read_dir(state.join("nodes")).expect("the nodes");
    let node = nodes.flatten().next().expect("a node");
    let part = std::fs::read_dir(node.path()).expect("a node's folder").flatten().next();
    let owner = part.and_then(|part| part.metadata().ok()).expect("a node's owner");
    let own = std::fs::metadata(folder).expect("the folder");
    if own.uid() == owner.uid() {
        return Owner(None);
    }
    std::os::unix::fs::chown(folder, Some(owner.uid()), Some(owner.gid()))
        .expect("give the folder away");
    Owner(Some((owner.uid(), owner.gid())))
}
