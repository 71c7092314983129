//! The router's configuration file.

use std::net::SocketAddr;

use domicile_core::{
    ids::{ClusterId, NodeId, RegionId},
    limits::REQUEST_BODY_MAX_BYTES,
};
use domicile_service::{
    config::{ControlSection, TlsFiles},
    drain::DrainLimits,
    listener::ListenerLimits,
    telemetry::TelemetryConfig,
};
use serde::Deserialize;

use crate::quota::Rate;

/// One router's configuration. Relative paths start at the file's folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This node, as the topology names it.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The region this router stands in: what it may serve follows from it.
    pub region: RegionId,
    /// Where callers connect.
    pub listen: SocketAddr,
    /// Health and metrics.
    pub admin_listen: SocketAddr,
    /// The certificate shown to our own services, and to callers unless `public_tls` is there.
    pub tls: TlsFiles,
    /// The certificate shown to callers, such as one of a public authority.
    #[serde(default)]
    pub public_tls: Option<TlsFiles>,
    /// The control plane.
    pub control: ControlSection,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Leaving in order.
    #[serde(default)]
    pub drain: DrainLimits,
    /// What callers may hold open.
    #[serde(default)]
    pub listener: ListenerLimits,
    /// What requests may cost.
    #[serde(default)]
    pub limits: Limits,
}

/// What requests may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest request target (path and query), bytes.
    pub target_max_bytes: usize,
    /// Largest request body, bytes.
    pub body_max_bytes: u64,
    /// Largest body that is held, so that a write which was not executed can be sent again, bytes.
    pub held_body_max_bytes: u64,
    /// Most writes that wait for a writer at once.
    pub held_writes: usize,
    /// How long a write that was not executed is offered again, milliseconds.
    pub write_wait_ms: u64,
    /// Longest pause within a body, in either direction, milliseconds.
    pub body_pause_ms: u64,
    /// Longest body from its first byte to its last, in either direction, milliseconds.
    pub body_timeout_ms: u64,
    /// Longest wait for a connection to an upstream, handshake included, milliseconds.
    pub connect_timeout_ms: u64,
    /// Longest wait for the head of a read's answer, milliseconds.
    pub read_timeout_ms: u64,
    /// Longest wait for the head of a write's answer, milliseconds. Above the writer's own deadline, so
    /// that the writer says what happened.
    pub write_timeout_ms: u64,
    /// Most requests in flight.
    pub requests_in_flight: usize,
    /// Most streams of rounds open.
    pub streams: usize,
    /// Longest silence of a stream, milliseconds: the writer gives a sign of life every 5 s.
    pub stream_pause_ms: u64,
    /// Longest stream, milliseconds: no token lives longer.
    pub stream_timeout_ms: u64,
    /// How fast one address may ask.
    pub address_rate: Rate,
    /// How fast one token may ask.
    pub token_rate: Rate,
    /// Most addresses, and most tokens, whose rate is remembered.
    pub rate_entries: usize,
    /// Pause between two probes of an upstream, milliseconds.
    pub probe_interval_ms: u64,
    /// Longest probe, milliseconds.
    pub probe_timeout_ms: u64,
    /// Most unused connections kept per upstream.
    pub idle_connections: usize,
    /// How long an unused connection is kept, milliseconds.
    pub idle_connection_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            target_max_bytes: 4096,
            body_max_bytes: REQUEST_BODY_MAX_BYTES as u64,
            held_body_max_bytes: REQUEST_BODY_MAX_BYTES as u64,
            held_writes: 4096,
            write_wait_ms: 5_000,
            body_pause_ms: 10_000,
            body_timeout_ms: 30_000,
            connect_timeout_ms: 1_000,
            read_timeout_ms: 5_000,
            write_timeout_ms: 30_000,
            requests_in_flight: 8_192,
            streams: 2_048,
            stream_pause_ms: 15_000,
            stream_timeout_ms: 3_660_000,
            address_rate: Rate { per_s: 5_000, burst: 10_000 },
            token_rate: Rate { per_s: 200, burst: 400 },
            rate_entries: 65_536,
            probe_interval_ms: 500,
            probe_timeout_ms: 1_000,
            idle_connections: 256,
            idle_connection_ms: 30_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        node = "router-mt"
        cluster = "demo"
        region = "mt-1"
        listen = "127.0.0.1:20000"
        admin_listen = "127.0.0.1:20001"
        tls = { cert = "cert.pem", key = "key.pem", ca = "ca.pem" }
        control = { endpoints = ["https://127.0.0.1:2379"], topology_cache = "topology.json" }
    "#;

    #[test]
    fn a_file_states_what_has_no_default() {
        let config: Config = toml::from_str(FILE).unwrap();
        assert_eq!(config.limits, Limits::default());
        let strict = format!("{FILE}\nlimits = {{ probe_interval_s = 1 }}");
        assert!(toml::from_str::<Config>(&strict).is_err());
    }
}
