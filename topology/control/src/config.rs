//! Where the control plane is, how to prove who one is to it, and how long to wait for it.

use crate::error::Error;
use domicile_core::ids::ClusterId;
use domicile_topology::address::ServiceUrl;
use std::path::PathBuf;

/// The bounds of the control plane's client, each with its unit.
pub mod limits {
    /// Most etcd endpoints.
    pub const MAX_ENDPOINTS: usize = 7;
    /// Longest wait for a TCP connection and its handshake, milliseconds.
    pub const CONNECT_TIMEOUT_MS: u64 = 1_000;
    /// Longest wait for one endpoint's answer, milliseconds; then the next endpoint is asked.
    pub const ATTEMPT_TIMEOUT_MS: u64 = 2_000;
    /// The same for a keep-alive, milliseconds: a silent endpoint must not cost the lease.
    pub const KEEP_ALIVE_ATTEMPT_TIMEOUT_MS: u64 = 700;
    /// Pause before what met a change of etcd's users is asked again, milliseconds.
    pub const USERS_CHANGED_PAUSE_MS: u64 = 20;
    /// How long an answer shows that an endpoint is alive, milliseconds.
    pub const LIVE_FOR_MS: u64 = 500;
    /// Time between two proofs that the control plane is there, milliseconds.
    pub const BEAT_MS: u64 = 1_000;
    /// Wait after a lost watch before the next attempt, milliseconds.
    pub const RETRY_DELAY_MS: u64 = 500;
    /// Largest value stored, bytes: under etcd's request limit of 1.5 MiB.
    pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
    /// Most entries one read of a key range returns.
    pub const MAX_RANGE_ITEMS: i64 = 10_000;
    /// Requests waiting to be sent on one watch stream.
    pub const WATCH_REQUESTS: usize = 4;
}

/// PEM files of one node, read again whenever a connection is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPaths {
    /// This node's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority etcd's certificate must come from.
    pub ca: PathBuf,
}

/// What a [`crate::ControlClient`] needs.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// The cluster; it names the keys in etcd.
    pub cluster: ClusterId,
    /// The members' client addresses, asked in this order.
    pub endpoints: Vec<ServiceUrl>,
    /// This node's identity.
    pub tls: TlsPaths,
    /// Where the last known topology is kept; the record's file stands beside it.
    pub topology_cache: PathBuf,
}

impl ControlConfig {
    /// A configuration from endpoint texts such as `https://127.0.0.1:7101`.
    pub fn new<S: AsRef<str>>(
        cluster: ClusterId,
        endpoints: &[S],
        tls: TlsPaths,
        topology_cache: PathBuf,
    ) -> Result<Self, Error> {
        let endpoints: Vec<ServiceUrl> = endpoints
            .iter()
            .map(|text| ServiceUrl::parse(text.as_ref()))
            .collect::<Result<_, _>>()
            .map_err(Error::Endpoint)?;
        if (1..=limits::MAX_ENDPOINTS).contains(&endpoints.len()) {
            Ok(Self { cluster, endpoints, tls, topology_cache })
        } else {
            Err(Error::EndpointCount(endpoints.len()))
        }
    }
}
