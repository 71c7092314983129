//! The agent's configuration file.
//!
//! Invariants: every path is absolute once loaded; secrets are read at use and kept out of `Debug`; tuning names only
//! settings that touch neither durability nor access. Deliberately absent: the other nodes, which the topology names.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use domicile_core::ids::{ClusterId, NodeId, RegionId};
use domicile_service::config::{ConfigError, ControlSection, TlsFiles, folder, load};
use domicile_service::telemetry::TelemetryConfig;
use domicile_topology::address::Address;
use domicile_topology::observed::NodeKind;
use serde::Deserialize;
use thiserror::Error;

use crate::settings::TUNABLE;

/// Why the configuration is refused.
#[derive(Debug, Error)]
pub enum Invalid {
    /// The file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A setting that is not the operator's to change.
    #[error("[postgres.tuning] `{0}` may not be set here")]
    Tuning(String),
    /// A secret the node's kind needs.
    #[error("[postgres] {0} is missing for this kind of node")]
    Missing(&'static str),
    /// A generated file would be copied along with the data.
    #[error("[postgres] {0} must lie outside data_dir")]
    InsideData(&'static str),
    /// A path has no absolute form.
    #[error("a path cannot be resolved")]
    Path(#[from] std::io::Error),
}

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// This node's name in the topology.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Where the node stands.
    pub region: RegionId,
    /// Ledger or reader.
    pub kind: NodeKind,
    /// The HTTP interface, mutual TLS.
    pub listen: String,
    /// Health and metrics, on a loopback address.
    pub admin_listen: String,
    /// Certificates of the HTTP interface and of the connection to the control plane.
    pub tls: TlsFiles,
    /// The control plane.
    pub control: ControlSection,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The database.
    pub postgres: PostgresConfig,
}

/// `[postgres]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Where `postgres`, `initdb`, `pg_basebackup` and `pg_controldata` are.
    pub bin_dir: PathBuf,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Generated configuration and the agent's own memory, outside the data directory.
    pub config_dir: PathBuf,
    /// Postgres' logs; `log` under `config_dir` unless named.
    pub log_dir: Option<PathBuf>,
    /// Where Postgres listens.
    pub listen: Address,
    /// Password of the superuser; the same on all ledger nodes, since a clone inherits it.
    pub superuser_password_file: PathBuf,
    /// Password of the replication role, for standbys and subscriptions.
    pub replication_password_file: PathBuf,
    /// SCRAM verifier of the replication role (ledger).
    pub replication_verifier_file: Option<PathBuf>,
    /// SCRAM verifier of the writer's role (ledger).
    pub writer_verifier_file: Option<PathBuf>,
    /// SCRAM verifier of the reader's role (reader).
    pub reader_verifier_file: Option<PathBuf>,
    /// Certificates when Postgres speaks TLS.
    pub tls: Option<TlsFiles>,
    /// Stop Postgres when the agent ends.
    #[serde(default = "yes")]
    pub stop_on_exit: bool,
    /// Memory and checkpoint settings.
    #[serde(default)]
    pub tuning: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

impl AgentConfig {
    /// Reads and checks the file.
    pub fn read(file: &Path) -> Result<Self, Invalid> {
        let config: Self = load(file)?;
        config.checked(&std::path::absolute(folder(file))?)
    }

    /// Checks the values and makes paths absolute, relative ones starting from `folder`.
    pub fn checked(mut self, folder: &Path) -> Result<Self, Invalid> {
        self.tls = self.tls.under(folder);
        self.control.topology_cache = folder.join(&self.control.topology_cache);
        self.postgres = self.postgres.under(folder);
        let postgres = &self.postgres;
        if let Some(name) = postgres.tuning.keys().find(|name| !TUNABLE.contains(&name.as_str())) {
            return Err(Invalid::Tuning(name.clone()));
        }
        for (name, path) in [("config_dir", &postgres.config_dir), ("log_dir", &postgres.log_dir())]
        {
            if path.starts_with(&postgres.data_dir) {
                return Err(Invalid::InsideData(name));
            }
        }
        let verifiers = match self.kind {
            NodeKind::Ledger => vec![
                ("replication_verifier_file", &postgres.replication_verifier_file),
                ("writer_verifier_file", &postgres.writer_verifier_file),
            ],
            NodeKind::Reader => vec![("reader_verifier_file", &postgres.reader_verifier_file)],
        };
        match verifiers.into_iter().find(|(_, file)| file.is_none()) {
            Some((name, _)) => Err(Invalid::Missing(name)),
            None => Ok(self),
        }
    }
}

impl PostgresConfig {
    /// Postgres' logs.
    pub fn log_dir(&self) -> PathBuf {
        self.log_dir.clone().unwrap_or_else(|| self.config_dir.join("log"))
    }

    /// Where the agent itself reaches Postgres: on loopback when it listens on all addresses.
    pub(crate) fn local_host(&self) -> &str {
        let host = self.listen.host();
        match host.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => "127.0.0.1",
            _ => host,
        }
    }

    fn under(mut self, folder: &Path) -> Self {
        let verifiers = [
            &mut self.replication_verifier_file,
            &mut self.writer_verifier_file,
            &mut self.reader_verifier_file,
            &mut self.log_dir,
        ];
        for path in verifiers.into_iter().flatten() {
            *path = folder.join(&*path);
        }
        for path in [
            &mut self.bin_dir,
            &mut self.data_dir,
            &mut self.config_dir,
            &mut self.superuser_password_file,
            &mut self.replication_password_file,
        ] {
            *path = folder.join(&*path);
        }
        self.tls = self.tls.map(|files| files.under(folder));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<AgentConfig, Invalid> {
        let text = format!(
            r#"
            node = "reader-mt"
            cluster = "demo"
            region = "mt-1"
            kind = "reader"
            listen = "127.0.0.1:1"
            admin_listen = "127.0.0.1:2"
            tls = {{ cert = "c", key = "k", ca = "a" }}
            control = {{ endpoints = ["https://127.0.0.1:3"], topology_cache = "t.json" }}
            [postgres]
            bin_dir = "/opt/pg/bin"
            data_dir = "data"
            config_dir = "postgres"
            listen = "0.0.0.0:4"
            superuser_password_file = "s"
            replication_password_file = "r"
            {extra}"#
        );
        toml::from_str::<AgentConfig>(&text).unwrap().checked(Path::new("/srv/node"))
    }

    #[test]
    fn paths_start_at_the_file_and_stopping_is_the_default() {
        let config = parse("reader_verifier_file = 'v'").unwrap().postgres;
        assert_eq!(config.data_dir, Path::new("/srv/node/data"));
        assert_eq!(config.bin_dir, Path::new("/opt/pg/bin"));
        assert_eq!(config.log_dir(), Path::new("/srv/node/postgres/log"));
        assert!(config.stop_on_exit);
        assert_eq!(config.local_host(), "127.0.0.1");
    }

    #[test]
    fn what_would_weaken_the_node_is_refused() {
        let verifier = "reader_verifier_file = 'v'";
        assert!(matches!(parse(""), Err(Invalid::Missing("reader_verifier_file"))));
        let tuning = format!("{verifier}\ntuning = {{ fsync = 'off' }}");
        assert!(matches!(parse(&tuning), Err(Invalid::Tuning(_))));
        let inside = format!("{verifier}\nlog_dir = 'data/log'");
        assert!(matches!(parse(&inside), Err(Invalid::InsideData("log_dir"))));
    }
}
