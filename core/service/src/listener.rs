//! The accept loop of every listener: TLS, limits on everything a client can hold open, and an end in
//! order.
//!
//! Invariants: a connection holds a place from accept to close and there are `max_connections` of them;
//! beyond that a bounded number is told to come back and the rest is closed at once; a client that is
//! silent in the handshake, in its headers or between requests is closed after the named time; at the end
//! requests in flight finish, for a bounded time, and nothing new is accepted.
//! Deliberately absent: upgrades, HTTP/2 without TLS, proxy protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use bytes::Buf;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

mod connection;

use crate::drain::{Drain, DrainReport};
use crate::tls::ServerTls;
use connection::{Connection, Verdict};

/// How many connections over the limit are answered at once; further ones are closed without a word.
pub const SHED_MAX_CONNECTIONS: usize = 64;
/// The pause after accept itself failed, for example for want of file descriptors.
const ACCEPT_BACKOFF_MS: u64 = 50;

/// What one client, and all together, may hold open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Most connections at once.
    pub max_connections: usize,
    /// The longest TLS handshake.
    pub handshake_timeout_ms: u64,
    /// The longest time from the start of a request to the end of its headers (HTTP/1), which also bounds
    /// the silence between two requests.
    pub header_read_timeout_ms: u64,
    /// A connection without request and without traffic for this long is closed.
    pub idle_timeout_ms: u64,
    /// The largest request head.
    pub max_header_bytes: usize,
    /// Most requests at once on one HTTP/2 connection.
    pub max_streams: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            handshake_timeout_ms: 5_000,
            header_read_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            max_header_bytes: 16 * 1024,
            max_streams: 128,
        }
    }
}

/// Why a listener could not start.
#[derive(Debug, Error)]
#[error("cannot listen on {addr}")]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// What the system said.
    pub source: std::io::Error,
}

/// The address a request came from, as a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteAddr(pub SocketAddr);

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local_addr: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    limits: ListenerLimits,
}

impl Listener {
    /// Binds the address; without `tls` the listener speaks plain HTTP/1.
    pub async fn bind(
        addr: SocketAddr,
        tls: Option<Arc<ServerTls>>,
        limits: ListenerLimits,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError { addr, source };
        let socket = TcpListener::bind(addr).await.map_err(failed)?;
        let local_addr = socket.local_addr().map_err(failed)?;
        tracing::info!(addr = %local_addr, tls = tls.is_some(), "listening");
        Ok(Self { socket, local_addr, tls, limits })
    }

    /// The bound address, with the port the system chose if it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves an application until the process leaves.
    pub async fn serve_app(self, app: Router, drain: &Drain) -> DrainReport {
        self.serve_until(drain.closing(), drain.wait(), app).await
    }

    /// Serves an application until `closing`, then waits at most `wait` for requests in flight.
    pub async fn serve_until(
        self,
        closing: impl Future<Output = ()>,
        wait: Duration,
        app: Router,
    ) -> DrainReport {
        self.accept_until(closing, wait, TowerToHyperService::new(app)).await
    }

    /// Serves any hyper service until the process leaves.
    pub async fn serve<S, B>(self, service: S, drain: &Drain) -> DrainReport
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body<Data: Buf + Send> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.accept_until(drain.closing(), drain.wait(), service).await
    }

    async fn accept_until<S, B>(
        self,
        closing: impl Future<Output = ()>,
        wait: Duration,
        service: S,
    ) -> DrainReport
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        B: http_body::Body<Data: Buf + Send> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let places = Places::new(&self.limits);
        let (close, closed) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut closing = std::pin::pin!(closing);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut closing => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if ended.is_err() {
                        tracing::error!("a connection panicked");
                    }
                    continue;
                }
                accepted = self.socket.accept() => accepted,
            };
            let Some((stream, remote)) = settle(accepted).await else { continue };
            let Some((place, verdict)) = places.take() else { continue };
            let connection = Connection {
                remote: RemoteAddr(remote),
                tls: self.tls.as_ref().map(|tls| tls.config()),
                limits: self.limits,
                closed: closed.clone(),
                verdict,
            };
            let service = service.clone();
            connections.spawn(async move {
                connection.run(stream, service).await;
                drop(place);
            });
        }
        drop(self.socket);
        close.send_replace(true);
        finish(connections, wait).await
    }
}

async fn settle(
    accepted: std::io::Result<(TcpStream, SocketAddr)>,
) -> Option<(TcpStream, SocketAddr)> {
    match accepted {
        Ok((stream, remote)) => {
            // Without it small answers wait for the client's acknowledgement; with a broken socket the
            // next read says so.
            drop(stream.set_nodelay(true));
            Some((stream, remote))
        }
        Err(error) => {
            tracing::warn!(%error, "accept failed");
            tokio::time::sleep(Duration::from_millis(ACCEPT_BACKOFF_MS)).await;
            None
        }
    }
}

async fn finish(mut connections: JoinSet<()>, wait: Duration) -> DrainReport {
    let began = Instant::now();
    let open = connections.len();
    let all = async { while connections.join_next().await.is_some() {} };
    // Whether time ran out shows in what is left.
    drop(tokio::time::timeout(wait, all).await);
    let aborted = connections.len();
    connections.shutdown().await;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = DrainReport { finished: open.saturating_sub(aborted), aborted, took_ms };
    tracing::info!(finished = report.finished, aborted, took_ms, "listener closed");
    report
}

/// The places for connections.
struct Places {
    served: Arc<Semaphore>,
    shed: Arc<Semaphore>,
}

impl Places {
    fn new(limits: &ListenerLimits) -> Self {
        let served = limits.max_connections.min(Semaphore::MAX_PERMITS);
        Self {
            served: Arc::new(Semaphore::new(served)),
            shed: Arc::new(Semaphore::new(SHED_MAX_CONNECTIONS)),
        }
    }

    fn take(&self) -> Option<(OwnedSemaphorePermit, Verdict)> {
        if let Ok(place) = Arc::clone(&self.served).try_acquire_owned() {
            return Some((place, Verdict::Serve));
        }
        metrics::counter!("domicile_connections_shed_total").increment(1);
        let place = Arc::clone(&self.shed).try_acquire_owned().ok()?;
        Some((place, Verdict::Shed))
    }
}
