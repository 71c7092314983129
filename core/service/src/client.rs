//! Calls to other services: HTTP/1 and HTTP/2 over mutual TLS, pooled, with deadlines.
//!
//! Invariants: every call ends within its deadline and holds at most `response_max_bytes`; an error names
//! method and URL (never its query) and carries the peer's problem; the trace goes along.
//! Deliberately absent: retries, redirects, cookies. A caller knows whether repeating is safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::problem::RemoteProblem;
use crate::tls::ClientTls;
use crate::trace;

/// The bounds of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// The longest TCP connect.
    pub connect_timeout_ms: u64,
    /// The longest call as a whole: connect, handshake, request and the complete answer.
    pub request_timeout_ms: u64,
    /// The largest answer.
    pub response_max_bytes: usize,
    /// How long an unused connection is kept.
    pub pool_idle_timeout_ms: u64,
    /// Most unused connections kept per host.
    pub pool_max_idle_per_host: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 2_000,
            request_timeout_ms: 10_000,
            response_max_bytes: 4 * 1024 * 1024,
            pool_idle_timeout_ms: 30_000,
            pool_max_idle_per_host: 32,
        }
    }
}

/// Silence on a busy HTTP/2 connection after which the peer is asked for a sign of life.
const H2_PING_AFTER_MS: u64 = 10_000;
/// How long that sign may take.
const H2_PING_TIMEOUT_MS: u64 = 5_000;

/// A failed call.
#[derive(Debug, Error)]
#[error("{method} {url}: {failure}")]
pub struct ClientError {
    /// The request's method.
    pub method: Method,
    /// The URL without its query.
    pub url: String,
    /// How it failed.
    #[source]
    pub failure: Failure,
}

/// How a call failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The URL or body could not be made into a request.
    #[error("the request cannot be built: {reason}")]
    Request {
        /// Why.
        reason: String,
    },
    /// No connection came about: the peer has seen nothing.
    #[error("no connection")]
    Connect(#[source] hyper_util::client::legacy::Error),
    /// The connection broke before the answer was complete: the peer may have acted.
    #[error("the connection broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The deadline passed: the peer may have acted.
    #[error("no complete answer within {timeout_ms} ms")]
    Timeout {
        /// The deadline.
        timeout_ms: u64,
    },
    /// The answer exceeds `response_max_bytes`.
    #[error("the answer exceeds {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// The peer refused.
    #[error("{status}{}", .problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default())]
    Status {
        /// Its status.
        status: StatusCode,
        /// Its problem document, if it sent one.
        problem: Option<Box<RemoteProblem>>,
    },
    /// The answer is not the expected JSON.
    #[error("the answer is not as expected")]
    Decode(#[source] serde_json::Error),
}

impl ClientError {
    /// Whether the peer certainly did nothing because it never received the request.
    pub fn is_not_sent(&self) -> bool {
        matches!(self.failure, Failure::Request { .. } | Failure::Connect(_))
    }

    /// The peer's status, if it answered.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.failure {
            Failure::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The peer's problem, if it sent one.
    pub fn problem(&self) -> Option<&RemoteProblem> {
        match &self.failure {
            Failure::Status { problem, .. } => problem.as_deref(),
            _ => None,
        }
    }
}

/// An HTTP client; clones share connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    pool: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: ClientLimits,
    // Keeps the files being followed for as long as the client lives.
    _tls: Arc<ClientTls>,
}

impl HttpClient {
    /// A client that shows our certificate and trusts our authority. Plain `http` URLs work too, for
    /// admin listeners.
    pub fn new(tls: &Arc<ClientTls>, limits: ClientLimits) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_millis(limits.connect_timeout_ms)));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config((*tls.config()).clone())
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let pool = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(limits.pool_idle_timeout_ms))
            .pool_max_idle_per_host(limits.pool_max_idle_per_host)
            .http2_keep_alive_interval(Duration::from_millis(H2_PING_AFTER_MS))
            .http2_keep_alive_timeout(Duration::from_millis(H2_PING_TIMEOUT_MS))
            .build(connector);
        Self { pool, limits, _tls: tls.clone() }
    }

    /// The same connections with another deadline.
    #[must_use]
    pub fn within_ms(&self, request_timeout_ms: u64) -> Self {
        let limits = ClientLimits { request_timeout_ms, ..self.limits };
        Self { limits, ..self.clone() }
    }

    /// GET, expecting success and JSON.
    pub async fn get_json<T: DeserializeOwned>(&self, url: &str) -> Result<T, ClientError> {
        let request = build(&Method::GET, url, Bytes::new())?;
        self.expect_json(request).await
    }

    /// POST of a JSON document, expecting success and JSON.
    pub async fn post_json<T: DeserializeOwned>(
        &self,
        url: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError {
            method: Method::POST,
            url: without_query(url),
            failure: Failure::Request { reason: error.to_string() },
        })?;
        self.expect_json(build(&Method::POST, url, body.into())?).await
    }

    /// Any request; the complete answer, whatever its status.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ClientError> {
        let (method, url) = (request.method().clone(), without_query(&request.uri().to_string()));
        let timeout_ms = self.limits.request_timeout_ms;
        let exchange = self.exchange(request.map(Full::new));
        match tokio::time::timeout(Duration::from_millis(timeout_ms), exchange).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(failure)) => Err(ClientError { method, url, failure }),
            Err(_elapsed) => {
                Err(ClientError { method, url, failure: Failure::Timeout { timeout_ms } })
            }
        }
    }

    async fn exchange(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Failure> {
        trace::inject(request.headers_mut());
        let answer = self.pool.request(request).await.map_err(|error| {
            if error.is_connect() { Failure::Connect(error) } else { Failure::Broken(error.into()) }
        })?;
        let (parts, body) = answer.into_parts();
        let max_bytes = self.limits.response_max_bytes;
        let body = Limited::new(body, max_bytes).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                Failure::TooLarge { max_bytes }
            } else {
                Failure::Broken(error)
            }
        })?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    async fn expect_json<T: DeserializeOwned>(
        &self,
        request: Request<Bytes>,
    ) -> Result<T, ClientError> {
        let (method, url) = (request.method().clone(), without_query(&request.uri().to_string()));
        let response = self.send(request).await?;
        let failed = |failure| ClientError { method, url, failure };
        let status = response.status();
        if !status.is_success() {
            let problem = serde_json::from_slice(response.body()).ok().map(Box::new);
            return Err(failed(Failure::Status { status, problem }));
        }
        serde_json::from_slice(response.body()).map_err(|error| failed(Failure::Decode(error)))
    }
}

fn build(method: &Method, url: &str, body: Bytes) -> Result<Request<Bytes>, ClientError> {
    let json = HeaderValue::from_static("application/json");
    let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, &json);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, json);
    }
    request.body(body).map_err(|error| ClientError {
        method: method.clone(),
        url: without_query(url),
        failure: Failure::Request { reason: error.to_string() },
    })
}

fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
