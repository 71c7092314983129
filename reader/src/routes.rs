//! The reader's paths, and what every answer says about this replica.

use crate::handlers::{bets, logs, page, rounds};
use crate::state::{Log, Reader};
use axum::Router;
use axum::extract::{FromRequestParts, Path, Query};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domicile_core::error::Code;
use domicile_core::ids::{BetId, InvalidId, RoundId};
use domicile_service::health::Readiness;
use domicile_service::problem::{Problem, method_not_allowed, not_found};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Asks for an answer that covers at least this many leaves.
pub const MIN_LOG_SIZE: HeaderName = HeaderName::from_static("domicile-min-log-size");
/// The verified size the answer rests on.
pub const LOG_SIZE: HeaderName = HeaderName::from_static("domicile-log-size");
/// How far behind the replica is, in milliseconds.
pub const LAG_MS: HeaderName = HeaderName::from_static("domicile-lag-ms");
/// Which reader answered.
pub const READER: HeaderName = HeaderName::from_static("domicile-reader");

/// How long read-your-writes may wait, in milliseconds.
pub(crate) const POSITION_WAIT_MAX_MS: u64 = 2_000;

/// All paths of this binary with their methods, as the API reference lists them.
pub const PATHS: &[(&str, &str)] = &[
    ("GET", "/v1/rounds/{round}"),
    ("GET", "/v1/rounds/{round}/proof"),
    ("GET", "/v1/bets"),
    ("GET", "/v1/bets/{bet}/opening"),
    ("GET", "/log/{jurisdiction}/checkpoint"),
    ("GET", "/log/{jurisdiction}/consistency"),
    ("GET", "/log/{jurisdiction}/proof"),
    ("GET", "/log/{jurisdiction}/tile/{path}"),
    ("GET", "/verify"),
    ("GET", "/readyz"),
];

/// The router over `reader`.
pub fn routes(reader: Arc<Reader>, readiness: &Readiness) -> Router {
    Router::new()
        .route("/v1/rounds/{round}", get(rounds::facts))
        .route("/v1/rounds/{round}/proof", get(rounds::proof))
        .route("/v1/bets", get(bets::own))
        .route("/v1/bets/{bet}/opening", get(bets::opening))
        .route("/log/{jurisdiction}/checkpoint", get(logs::checkpoint))
        .route("/log/{jurisdiction}/consistency", get(logs::consistency))
        .route("/log/{jurisdiction}/proof", get(logs::proof))
        .route("/log/{jurisdiction}/tile/{*path}", get(logs::tile))
        .route("/verify", get(page::verify))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(readable_from_pages))
        .with_state(reader)
        .merge(readiness.routes())
}

/// The least size the caller wants to see, from its header.
pub(crate) fn min_log_size(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers.get(MIN_LOG_SIZE) else { return Ok(0) };
    value.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        Problem::new(Code::MalformedRequest).detail("Domicile-Min-Log-Size is not a number")
    })
}

/// The bounded wait for a position, as a duration.
pub(crate) fn position_wait() -> Duration {
    Duration::from_millis(POSITION_WAIT_MAX_MS)
}

/// Parses a round id out of the path.
pub(crate) fn round_id(path: &Path<String>) -> Result<RoundId, Problem> {
    RoundId::parse(path).map_err(malformed)
}

/// Parses a bet id out of the path.
pub(crate) fn bet_id(path: &Path<String>) -> Result<BetId, Problem> {
    BetId::parse(path).map_err(malformed)
}

#[expect(clippy::needless_pass_by_value, reason = "taken as `map_err` gives it")]
fn malformed(cause: InvalidId) -> Problem {
    Problem::new(Code::MalformedRequest).detail(cause.to_string())
}

/// An answer made of rows, unless they are further behind than policy permits. Judged here, where the answer is made:
/// a router learns only later that this node is not ready.
pub(crate) fn fresh(
    reader: &Reader,
    log: &Log,
    size: u64,
    answer: impl IntoResponse,
) -> Result<Response, Problem> {
    let lag = log.freshness.lag();
    match log.stale(lag) {
        Some(problem) => Err(problem),
        None => Ok(stated(reader, lag, size, answer)),
    }
}

/// Adds what every answer says: who answered, at which verified size, how far behind.
pub(crate) fn stated(
    reader: &Reader,
    lag: Option<Duration>,
    size: u64,
    answer: impl IntoResponse,
) -> Response {
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(LOG_SIZE, HeaderValue::from(size));
    if let Ok(node) = HeaderValue::from_str(reader.node.as_str()) {
        headers.insert(READER, node);
    }
    if let Some(lag) = lag {
        let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        headers.insert(LAG_MS, HeaderValue::from(lag_ms));
    }
    response
}

/// A query string, refused with a problem document when it cannot be read.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|cause| Problem::new(Code::MalformedRequest).detail(cause.body_text()))
    }
}

/// Lets pages of any origin read the answers: who may read is decided by the token they carry, and no cookie
/// or other ambient credential exists that a foreign page could borrow.
async fn readable_from_pages(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("domicile-log-size, domicile-lag-ms, domicile-reader, etag"),
    );
    response
}
