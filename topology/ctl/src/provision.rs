//! Gives every process of the topology its folder: configuration, certificate, and the secrets it needs – no others.
//!
//! Runs again at each `up`: existing keys and passwords stay, certificates are renewed in time, configuration is
//! written anew where it differs. Who gets what:
//!
//! | process | secrets and keys |
//! |---|---|
//! | agent of a ledger node | superuser password of the ledger, replication password, verifiers of writer and replication |
//! | agent of a reader node | superuser password of its own database, replication password, verifier of the reader |
//! | writer | writer password, master key, receipt key, log keys of the jurisdictions its region may write for and of the operations log, its region's token key |
//! | reader | reader password of its own database |
//! | router, etcd | none but their certificate |

use crate::files::{self, MODE_FOLDER_SECRET, MODE_SECRET};
use crate::keys::KeyFolder;
use crate::layout::Layout;
use crate::pki::{Authority, CERTIFICATE_DAYS, Subject};
use crate::process::RunAs;
use crate::secrets;
use crate::unit::{Part, Unit, UnitName};
use anyhow::{Context, Result};
use domicile_control::roles::MEMBER;
use domicile_core::ids::NodeId;
use domicile_core::operation;
use domicile_topology::Topology;
use domicile_topology::address::Address;
use domicile_topology::document::{LedgerNode, ReaderNode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Sessions of a writer to the ledger, and of a reader to its database.
const POOL_SIZE: usize = 32;
/// Where an agent reaches a Postgres that listens on all addresses of its machine.
const LOOPBACK: &str = "127.0.0.1";

/// Everything needed to make the folders.
pub(crate) struct Provision<'a> {
    /// The published topology.
    pub(crate) topology: &'a Topology,
    /// The state folder.
    pub(crate) layout: &'a Layout,
    /// Signs the certificates.
    pub(crate) authority: &'a Authority,
    /// The private keys.
    pub(crate) keys: &'a KeyFolder,
    /// Where the Postgres programs are.
    pub(crate) postgres_bin: &'a Path,
    /// Whether connections to Postgres are TLS, with the certificates of each process.
    pub(crate) postgres_tls: bool,
    /// Who the processes run as.
    pub(crate) run_as: Option<&'a RunAs>,
}

impl Provision<'_> {
    /// Makes or refreshes the folder of one process.
    pub(crate) fn unit(&self, unit: &Unit) -> Result<()> {
        let folder = self.layout.unit(&unit.name);
        files::folder(&folder, MODE_FOLDER_SECRET)?;
        let subject = Subject {
            role: unit.name.part.name().to_owned(),
            node: unit.name.node.to_string(),
            hosts: self.hosts(unit),
        };
        self.authority.ensure(&folder.join("tls"), &subject, CERTIFICATE_DAYS)?;
        let config = match unit.name.part {
            Part::Etcd | Part::Postgres => None,
            Part::Agent => Some(self.agent(unit, &folder)?),
            Part::Writer => Some(self.writer(unit, &folder)?),
            Part::Reader => Some(self.reader(unit, &folder)?),
            Part::Router => Some(self.common(unit)),
        };
        if let Some(config) = config {
            let text = toml::to_string_pretty(&Value::Object(config))
                .with_context(|| format!("the configuration of {} cannot be written", unit.name))?;
            files::write(&folder.join("config.toml"), text.as_bytes(), MODE_SECRET)?;
        }
        self.run_as.map_or(Ok(()), |user| user.own(&folder))
    }

    /// The names clients connect to: an etcd member is reached by its peers under another address, and an agent's
    /// certificate is also its Postgres' own, which the agent reaches from this machine.
    fn hosts(&self, unit: &Unit) -> Vec<String> {
        let node = &unit.name.node;
        let mut hosts = vec![unit.address.host().to_owned()];
        if let Some(member) = self.topology.etcd.iter().find(|member| member.node == *node) {
            hosts.push(member.peer.address().host().to_owned());
        }
        if unit.name.part == Part::Agent {
            hosts.extend(self.topology.ledger(node).map(|n| n.postgres.host().to_owned()));
            hosts.extend(self.topology.reader(node).map(|n| n.postgres.host().to_owned()));
            hosts.push(LOOPBACK.to_owned());
        }
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// What every one of our processes reads.
    fn common(&self, unit: &Unit) -> Map<String, Value> {
        // The region's own member first, so that a region that dies or freezes takes nobody's connection with it.
        let mut members: Vec<_> = self.topology.etcd.iter().collect();
        members.sort_by_key(|member| member.region != unit.region);
        let endpoints: Vec<String> =
            members.iter().map(|member| member.client.to_string()).collect();
        object(json!({
            "node": unit.name.node,
            "cluster": self.topology.cluster,
            "region": unit.region,
            "listen": bind(&unit.address),
            "admin_listen": unit.admin.as_ref().map(bind),
            "tls": tls_files(),
            "control": { "endpoints": endpoints, "topology_cache": "topology.json" },
            "telemetry": { "level": "info" },
        }))
    }

    fn agent(&self, unit: &Unit, folder: &Path) -> Result<Map<String, Value>> {
        let mut config = self.common(unit);
        let mut postgres = object(json!({
            "bin_dir": self.postgres_bin,
            "data_dir": "data",
            "config_dir": "postgres",
            "superuser_password_file": "secrets/superuser-password",
            "replication_password_file": "secrets/replication-password",
        }));
        let replication = self.password("replication")?;
        put(folder, "secrets/replication-password", replication.expose_secret())?;
        let (kind, address) = if let Some(ledger) = self.ledger(&unit.name.node) {
            put(
                folder,
                "secrets/superuser-password",
                self.password("superuser-ledger")?.expose_secret(),
            )?;
            put(folder, "secrets/replication.scram", &self.verifier("replication", &replication)?)?;
            let writer = self.password("writer")?;
            put(folder, "secrets/writer.scram", &self.verifier("writer", &writer)?)?;
            postgres.insert("replication_verifier_file".into(), "secrets/replication.scram".into());
            postgres.insert("writer_verifier_file".into(), "secrets/writer.scram".into());
            ("ledger", &ledger.postgres)
        } else {
            let reader = self.reader_node(&unit.name.node)?;
            let superuser = self.password(&format!("superuser-{}", reader.node))?;
            put(folder, "secrets/superuser-password", superuser.expose_secret())?;
            let name = format!("reader-{}", reader.node);
            put(folder, "secrets/reader.scram", &self.verifier(&name, &self.password(&name)?)?)?;
            postgres.insert("reader_verifier_file".into(), "secrets/reader.scram".into());
            ("reader", &reader.postgres)
        };
        postgres.insert("listen".into(), bind(address).into());
        if self.postgres_tls {
            postgres.insert("tls".into(), tls_files());
        }
        config.insert("kind".into(), kind.into());
        config.insert("postgres".into(), Value::Object(postgres));
        Ok(config)
    }

    fn writer(&self, unit: &Unit, folder: &Path) -> Result<Map<String, Value>> {
        let mut config = self.common(unit);
        let ledger =
            self.topology.ledgers.iter().find(|ledger| ledger.region == unit.region).with_context(
                || format!("{} has no ledger node in its region {}", unit.name, unit.region),
            )?;
        put(folder, "secrets/postgres-password", self.password("writer")?.expose_secret())?;
        config.insert("postgres".into(), self.database(&ledger.postgres, "domicile_writer"));
        copy(&self.keys.master(), folder, "keys/master.key")?;
        copy(&self.keys.receipt(), folder, "keys/receipt.key")?;
        copy(&self.keys.session(&unit.region), folder, "keys/session.pem")?;
        let policies = self.topology.jurisdictions.iter();
        let codes = policies.filter(|policy| policy.writer_regions.contains(&unit.region));
        for code in codes.map(|policy| policy.code.clone()).chain(operation::log()) {
            copy(&self.keys.log(&code), folder, &format!("keys/log-{code}.key"))?;
        }
        config.insert(
            "keys".into(),
            json!({
                "master_key_file": "keys/master.key",
                "receipt_key_file": "keys/receipt.key",
                "session_signing_key_file": "keys/session.pem",
                "session_kid": self.keys.session_key(&unit.region)?.kid,
                "log_keys_dir": "keys",
            }),
        );
        Ok(config)
    }

    fn reader(&self, unit: &Unit, folder: &Path) -> Result<Map<String, Value>> {
        let mut config = self.common(unit);
        let reader = self.reader_node(&unit.name.node)?;
        let password = self.password(&format!("reader-{}", reader.node))?;
        put(folder, "secrets/postgres-password", password.expose_secret())?;
        config.insert("postgres".into(), self.database(&reader.postgres, "domicile_reader"));
        Ok(config)
    }

    fn ledger(&self, node: &NodeId) -> Option<&LedgerNode> {
        self.topology.ledgers.iter().find(|ledger| ledger.node == *node)
    }

    fn reader_node(&self, node: &NodeId) -> Result<&ReaderNode> {
        let found = self.topology.readers.iter().find(|reader| reader.node == *node);
        found.with_context(|| format!("the topology has no reader {node}"))
    }

    /// A database section; password and certificate are the process' own.
    fn database(&self, address: &Address, user: &str) -> Value {
        json!({
            "host": address.host(),
            "port": address.port(),
            "dbname": "domicile",
            "user": user,
            "password_file": "secrets/postgres-password",
            "pool_size": POOL_SIZE,
            "tls": self.postgres_tls,
        })
    }

    fn secrets_folder(&self) -> Result<PathBuf> {
        let folder = self.layout.operator().join("secrets");
        files::folder(&folder, MODE_FOLDER_SECRET)?;
        Ok(folder)
    }

    fn password(&self, name: &str) -> Result<SecretString> {
        secrets::password(&self.secrets_folder()?.join(format!("{name}-password")))
    }

    fn verifier(&self, name: &str, password: &SecretString) -> Result<String> {
        secrets::verifier(&self.secrets_folder()?.join(format!("{name}.scram")), password)
    }
}

/// The command line of an etcd member. Everything it says and hears is mutual TLS.
pub(crate) fn etcd_arguments(topology: &Topology, name: &UnitName) -> Result<Vec<String>> {
    let member = topology.etcd.iter().find(|member| member.node == name.node);
    let member =
        member.with_context(|| format!("the topology has no etcd member {}", name.node))?;
    let cluster: Vec<String> =
        topology.etcd.iter().map(|m| format!("{}={}", m.node, m.peer)).collect();
    let pairs = [
        ("name", member.node.to_string()),
        ("data-dir", "data".into()),
        ("listen-client-urls", format!("https://{}", bind(member.client.address()))),
        ("advertise-client-urls", member.client.to_string()),
        ("listen-peer-urls", format!("https://{}", bind(member.peer.address()))),
        ("initial-advertise-peer-urls", member.peer.to_string()),
        ("initial-cluster", cluster.join(",")),
        ("initial-cluster-state", "new".into()),
        ("initial-cluster-token", topology.cluster.to_string()),
        ("client-cert-auth", "true".into()),
        ("trusted-ca-file", "tls/ca.pem".into()),
        ("cert-file", "tls/cert.pem".into()),
        ("key-file", "tls/key.pem".into()),
        ("peer-client-cert-auth", "true".into()),
        // Whoever speaks as a member changes what they like, so only members do.
        ("peer-cert-allowed-cn", MEMBER.into()),
        ("peer-trusted-ca-file", "tls/ca.pem".into()),
        ("peer-cert-file", "tls/cert.pem".into()),
        ("peer-key-file", "tls/key.pem".into()),
        // A failover waits for a new leader when the old one was in the lost region; leases last at least 1.5 elections.
        ("heartbeat-interval", "100".into()),
        ("election-timeout", "1500".into()),
        // A member that comes back from isolation asks before it calls an election: the leader stays.
        ("pre-vote", "true".into()),
        ("enable-grpc-gateway", "false".into()),
        ("auto-compaction-mode", "periodic".into()),
        ("auto-compaction-retention", "1h".into()),
        ("logger", "zap".into()),
        ("log-level", "warn".into()),
    ];
    Ok(pairs.into_iter().map(|(key, value)| format!("--{key}={value}")).collect())
}

/// The certificate of a process, in its folder.
fn tls_files() -> Value {
    json!({ "cert": "tls/cert.pem", "key": "tls/key.pem", "ca": "tls/ca.pem" })
}

/// Where to listen for an address: on it when it is an address of a machine, on all when it is a name.
fn bind(address: &Address) -> String {
    match address.host().parse::<IpAddr>() {
        Ok(_) => address.to_string(),
        Err(_) => format!("0.0.0.0:{}", address.port()),
    }
}

/// The members of a JSON object that have a value; TOML has no null.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    path.parent().map_or(Ok(()), |parent| files::folder(parent, MODE_FOLDER_SECRET))?;
    files::write(&path, text.as_bytes(), MODE_SECRET).map(drop)
}

fn copy(source: &Path, folder: &Path, name: &str) -> Result<()> {
    put(folder, name, &files::read(source)?)
}
