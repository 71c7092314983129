//! Sending to upstreams over pooled connections, and knowing which of them are ready.
//!
//! Invariants: a failure says whether anything of the request can have been received; a node counts as
//! ready only from its last good probe on, and no longer once a connection to it was refused.

use std::{collections::HashSet, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use domicile_core::ids::NodeId;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Method, Request, Response, StatusCode, Uri, uri::Scheme};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use thiserror::Error;

use crate::{
    body::Outbound,
    config::Limits,
    connect::Connector,
    route::{Routes, Upstream},
};

/// Largest answer to a probe, bytes.
const PROBE_MAX_BYTES: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum SendError {
    /// No connection came about: the upstream has seen nothing.
    #[error("no connection to the upstream")]
    NotSent,
    /// The connection broke: the upstream may have acted.
    #[error("the connection to the upstream broke")]
    Broken,
    /// The answer took too long: the upstream may have acted.
    #[error("no answer from the upstream in time")]
    Late,
}

/// The pool and the readiness table.
pub struct Upstreams {
    client: Client<Connector, Outbound>,
    connector: Connector,
    ready: ArcSwap<HashSet<NodeId>>,
    probe_timeout: Duration,
}

impl Upstreams {
    /// A pool without connections; nothing is ready.
    pub fn new(connector: Connector, limits: &Limits) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(limits.idle_connection_ms))
            .pool_max_idle_per_host(limits.idle_connections)
            .build(connector.clone());
        let probe_timeout = Duration::from_millis(limits.probe_timeout_ms);
        Self { client, connector, ready: ArcSwap::default(), probe_timeout }
    }

    /// From now on connections go to the upstreams of these routes only.
    pub fn follow(&self, routes: &Routes) {
        self.connector.expect(routes.upstreams());
    }

    /// Sends a request and waits for the head of the answer. `request` has a path and query only.
    pub async fn send(
        &self,
        upstream: &Upstream,
        mut request: Request<Outbound>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(upstream.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).ok().ok_or(SendError::NotSent)?;
        match tokio::time::timeout(timeout, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => {
                self.mark(&upstream.node, false);
                Err(SendError::NotSent)
            }
            Ok(Err(_)) => Err(SendError::Broken),
            Err(_) => Err(SendError::Late),
        }
    }

    /// Whether the node's last probe was good and it has not refused a connection since.
    pub fn is_ready(&self, node: &NodeId) -> bool {
        self.ready.load().contains(node)
    }

    fn mark(&self, node: &NodeId, ready: bool) {
        if self.is_ready(node) == ready {
            return;
        }
        tracing::info!(node = %node, ready, "upstream");
        let gauge = metrics::gauge!("domicile_router_upstream_ready", "node" => node.to_string());
        gauge.set(if ready { 1.0 } else { 0.0 });
        self.ready.rcu(|table| {
            let mut table = HashSet::clone(table);
            if ready {
                table.insert(node.clone())
            } else {
                table.remove(node)
            };
            table
        });
    }

    /// Asks every upstream once, all at the same time, each within the probe's time.
    pub async fn probe(&self, upstreams: &[Arc<Upstream>]) {
        let ask = |upstream: Arc<Upstream>| async move {
            let ready = self.answers_ready(&upstream).await;
            self.mark(&upstream.node, ready);
        };
        let mut probes: FuturesUnordered<_> = upstreams.iter().cloned().map(ask).collect();
        while probes.next().await.is_some() {}
        // What left the topology is forgotten.
        let known: HashSet<_> = upstreams.iter().map(|upstream| &upstream.node).collect();
        for node in self.ready.load().iter().filter(|node| !known.contains(node)) {
            self.mark(node, false);
        }
    }

    async fn answers_ready(&self, upstream: &Upstream) -> bool {
        let body = Outbound::Held(Full::new(Bytes::new()));
        let request = Request::builder().method(Method::GET).uri("/readyz").body(body);
        let Ok(request) = request else { return false };
        let Ok(answer) = self.send(upstream, request, self.probe_timeout).await else {
            return false;
        };
        let ready = answer.status() == StatusCode::OK;
        // Read to its end, so that the connection can be used again.
        let rest = Limited::new(answer.into_body(), PROBE_MAX_BYTES).collect();
        ready && tokio::time::timeout(self.probe_timeout, rest).await.is_ok_and(|r| r.is_ok())
    }
}
