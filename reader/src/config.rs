//! The reader's configuration: one file, read once, strict.

use domicile_core::ids::{ClusterId, NodeId, RegionId};
use domicile_service::config::{ControlSection, PostgresSection, TlsFiles};
use domicile_service::telemetry::TelemetryConfig;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The file given with `--config`. Paths are relative to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderConfig {
    /// This reader's name in the topology.
    pub node: NodeId,
    /// The cluster; also the tokens' issuer and the first part of each log origin.
    pub cluster: ClusterId,
    /// Where this node stands.
    pub region: RegionId,
    /// The mutual-TLS listener for routers, inspectors' tools and agents.
    pub listen: SocketAddr,
    /// The loopback listener for health and metrics.
    pub admin_listen: SocketAddr,
    /// This node's certificate, key and the cluster's CA.
    pub tls: TlsFiles,
    /// The control plane and the topology's cache file.
    pub control: ControlSection,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// The local replica, as `domicile_reader`.
    pub postgres: PostgresSection,
    /// Where the last verified tree heads are kept, outside Postgres.
    #[serde(default = "default_audit_dir")]
    pub audit_dir: PathBuf,
}

fn default_audit_dir() -> PathBuf {
    PathBuf::from("audit")
}
