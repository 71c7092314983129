//! The region's way in: verifies the token once, reads its jurisdiction, and sends the request to the
//! current writer or to a reader that may serve it – never anywhere else.
//!
//! Invariants: fails closed; holds no database credential; goes on with the last known topology and
//! record while the control plane is away.
//! Deliberately absent: sessions (but for those revoked), money, caching of answers. Those have owners behind it.

pub mod body;
pub mod config;
pub mod connect;
pub mod follow;
pub mod forward;
pub mod headers;
pub mod hold;
pub mod outgoing;
pub mod proxy;
pub mod quota;
pub mod revocations;
pub mod route;
pub mod upstream;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use domicile_control::{ControlClient, ControlConfig, TlsPaths};
use domicile_service::{
    clock::SystemClock,
    drain::{Drain, DrainReport},
    health::Readiness,
    listener::{ListenError, Listener, ListenerLimits},
    tasks,
    tls::{ClientAuth, ClientTls, ServerTls, TlsError},
    token::{TokenKeys, TokenVerifier},
};
use thiserror::Error;

use crate::{
    config::Config, connect::Connector, follow::Follower, forward::Forwarder, proxy::Proxy,
};

/// How often a start without topology looks whether the process is to leave, milliseconds.
const START_POLL_MS: u64 = 1_000;
/// The listener's own header limit above ours: what lies between is answered with a problem document,
/// what lies beyond by the HTTP library.
const HEADER_LIMIT_FACTOR: usize = 4;

/// Why the router could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Certificates.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
    /// The control plane's configuration.
    #[error("the control plane cannot be used")]
    Control(#[from] domicile_control::Error),
    /// The address.
    #[error("the router cannot listen")]
    Listen(#[from] ListenError),
}

/// A router that is bound and ready to serve.
pub struct Router {
    listener: Listener,
    proxy: Proxy,
}

impl Router {
    /// Learns the topology, probes the upstreams once and binds; `None` when told to leave meanwhile.
    pub async fn start(
        config: &Config,
        folder: &Path,
        drain: &Drain,
        readiness: &Readiness,
    ) -> Result<Option<Self>, StartError> {
        let listening = readiness.check("listener");
        let files = config.tls.under(folder);
        let client_tls = ClientTls::load(&files)?;
        client_tls.watch();
        let public = config.public_tls.as_ref().map_or_else(|| files.clone(), |f| f.under(folder));
        let server_tls = ServerTls::load(&public, ClientAuth::None)?;
        server_tls.watch();

        let paths = TlsPaths { cert: files.cert, key: files.key, ca: files.ca };
        let cache = folder.join(&config.control.topology_cache);
        let control =
            ControlConfig::new(config.cluster.clone(), &config.control.endpoints, paths, cache)?;
        let control = ControlClient::new(&control);

        let connect_timeout = Duration::from_millis(config.limits.connect_timeout_ms);
        let connector = Connector::new(config.cluster.clone(), client_tls, connect_timeout);
        let upstreams = upstream::Upstreams::new(connector, &config.limits);
        let forwarder = Arc::new(Forwarder::new(upstreams, config.limits));
        let clock = Arc::new(SystemClock);
        let verifier = TokenVerifier::new(config.cluster.clone(), clock.clone(), TokenKeys::new());
        let verifier = Arc::new(verifier);

        let follower = Follower {
            region: config.region.clone(),
            forwarder: forwarder.clone(),
            verifier: verifier.clone(),
            check: readiness.check("topology"),
        };
        let record = control.watch_record();
        tasks::spawn_vital("record", drain, follow::record(record, forwarder.clone()));
        let topologies = control.watch_topology();
        let poll = Duration::from_millis(START_POLL_MS);
        let topology = loop {
            match topologies.wait_known(poll).await {
                Some(topology) => break topology,
                None if drain.has_begun() => return Ok(None),
                None => {}
            }
        };
        follower.apply(&topology);
        tasks::spawn_vital("topology", drain, follower.follow(topologies));
        keep_probing(&forwarder, drain, readiness).await;
        tasks::spawn_vital(
            "revocations",
            drain,
            revocations::follow(forwarder.clone(), clock.clone()),
        );

        let limits = ListenerLimits {
            max_header_bytes: config.listener.max_header_bytes.saturating_mul(HEADER_LIMIT_FACTOR),
            ..config.listener
        };
        let listener = Listener::bind(config.listen, Some(server_tls), limits).await?;
        listening.pass("bound");
        let header_max_bytes = config.listener.max_header_bytes;
        let proxy = Proxy::new(forwarder, verifier, clock, config.limits, header_max_bytes);
        Ok(Some(Self { listener, proxy }))
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until the process leaves.
    pub async fn serve(self, drain: &Drain) -> DrainReport {
        self.listener.serve(self.proxy, drain).await
    }
}

/// Probes once, then in the background for as long as the process lives.
async fn keep_probing(forwarder: &Arc<Forwarder>, drain: &Drain, readiness: &Readiness) {
    let probed = readiness.check("upstreams");
    forwarder.probe().await;
    probed.pass("probed");
    let forwarder = forwarder.clone();
    tasks::spawn_vital("probe", drain, async move {
        loop {
            forwarder.next_probe().await;
            forwarder.probe().await;
        }
    });
}
