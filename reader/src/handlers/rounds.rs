//! Round facts and the public bundle of a round.

use crate::problem;
use crate::proofs::{MadeBundle, ProofFailure, Prover};
use crate::routes::{
    POSITION_WAIT_MAX_MS, Parameters, fresh, min_log_size, position_wait, round_id,
};
use crate::state::{CachedBundle, Log, Reader};
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use domicile_core::error::Code;
use domicile_core::hex;
use domicile_core::ids::{Jurisdiction, RoundId};
use domicile_service::problem::Problem;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often an uncovered round is looked at again while a caller waits, in milliseconds.
const COVER_POLL_MS: u64 = 25;

/// A round's facts as JSON.
#[derive(Debug, Serialize)]
struct Facts {
    round: RoundId,
    jurisdiction: Jurisdiction,
    kind: String,
    operator: String,
    game: String,
    params: String,
    currency: String,
    commitment: String,
    state: String,
    outcome: Option<String>,
    commit_index: Option<u64>,
    terminal_index: Option<u64>,
    checkpoint_size: u64,
}

/// `GET /v1/rounds/{round}`
pub(crate) async fn facts(
    State(reader): State<Arc<Reader>>,
    path: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let claims = reader.access.check(&headers).await?;
    let log = reader.log(&claims.jurisdiction)?;
    let round = round_id(&path)?;
    let head = log.head_at(min_log_size(&headers)?, position_wait()).await?;
    let stored = reader
        .store
        .round(&claims.jurisdiction, round)
        .await
        .map_err(problem::database)?
        .ok_or(Code::RoundNotFound)?;
    let leaves = log.evidence.rounds.get(round).await;
    let leaves = leaves.map_err(|cause| problem::proof(cause.into()))?;
    let place = |commit: bool| {
        leaves.iter().find(|leaf| (leaf.kind == "round-commit") == commit).map(|leaf| leaf.index)
    };
    let facts = Facts {
        round,
        jurisdiction: claims.jurisdiction.clone(),
        kind: stored.kind,
        operator: stored.operator,
        game: stored.game,
        params: stored.params,
        currency: stored.currency,
        commitment: hex::encode(&stored.commitment),
        state: stored.state,
        outcome: stored.outcome,
        commit_index: place(true),
        terminal_index: place(false),
        checkpoint_size: head.size,
    };
    let answer = ([(CACHE_CONTROL, "private, no-store")], Json(facts));
    fresh(&reader, log, head.size, answer)
}

/// The query of the bundle.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProofQuery {
    wait_ms: Option<u64>,
}

/// `GET /v1/rounds/{round}/proof`
pub(crate) async fn proof(
    State(reader): State<Arc<Reader>>,
    path: Path<String>,
    Parameters(query): Parameters<ProofQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let claims = reader.access.check(&headers).await?;
    let log = reader.log(&claims.jurisdiction)?;
    let round = round_id(&path)?;
    let head = log.head_at(min_log_size(&headers)?, position_wait()).await?;
    let key = (claims.jurisdiction.clone(), round);
    if let Some(cached) = reader.bundles.get(&key) {
        metrics::counter!("domicile_bundle_cache_hits_total").increment(1);
        return finished(&reader, log, head.size, &cached, &headers);
    }
    let wait = Duration::from_millis(query.wait_ms.unwrap_or(0).min(POSITION_WAIT_MAX_MS));
    let made = bundle_within(log, round, wait).await.map_err(problem::proof)?;
    let body = made.bundle.to_json().map_err(|_too_large| Code::Internal)?;
    if !made.ended {
        let fields = [(CACHE_CONTROL, "private, no-store"), (CONTENT_TYPE, "application/json")];
        // The bundle is pinned to the smallest checkpoint that covers it; the answer is of the newest.
        return fresh(&reader, log, head.size.max(made.size), (fields, body));
    }
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(body.as_bytes())));
    let cached = CachedBundle { body: body.into(), etag: etag.into(), size: made.size };
    reader.bundles.insert(key, cached.clone());
    finished(&reader, log, head.size, &cached, &headers)
}

/// Makes the bundle, waiting at most `wait` for its last leaf to be covered or to arrive at all.
async fn bundle_within(
    log: &Log,
    round: RoundId,
    wait: Duration,
) -> Result<MadeBundle, ProofFailure> {
    let started = Instant::now();
    loop {
        let made = match log.head() {
            Ok(head) => Prover::new(&log.evidence, &head).bundle(round).await,
            Err(_nothing_verified) => Err(ProofFailure::NotCovered(0)),
        };
        let worth_waiting = match &made {
            Err(ProofFailure::NotCovered(_) | ProofFailure::Absent) => true,
            Ok(made) => !made.ended,
            Err(_) => false,
        };
        if !worth_waiting || started.elapsed() >= wait {
            return made;
        }
        tokio::time::sleep(Duration::from_millis(COVER_POLL_MS)).await;
    }
}

/// A finished bundle never changes: strong tag, cacheable for ever by who asked.
fn finished(
    reader: &Reader,
    log: &Log,
    size: u64,
    cached: &CachedBundle,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let unchanged = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|tag| tag.trim() == &*cached.etag || tag.trim() == "*");
    // Which jurisdiction's bundle this is depends on the token, not on the path: no shared cache may keep it.
    let mut fields: Vec<(HeaderName, HeaderValue)> = vec![
        (CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
        (VARY, HeaderValue::from_static("authorization")),
    ];
    if let Ok(etag) = HeaderValue::from_str(&cached.etag) {
        fields.push((ETAG, etag));
    }
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        fields.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        cached.body.clone().into_response()
    };
    // Each in place of what the body brought along.
    for (name, value) in fields {
        response.headers_mut().insert(name, value);
    }
    fresh(reader, log, size.max(cached.size), response)
}
