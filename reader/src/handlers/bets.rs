//! A player's own bets, and the opening of one: private, for that player or an inspector of the jurisdiction.

use crate::problem;
use crate::proofs::Prover;
use crate::routes::{Parameters, bet_id, fresh, min_log_size, position_wait};
use crate::state::Reader;
use crate::store::StoredBet;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use domicile_core::claims::Bearer;
use domicile_core::error::Code;
use domicile_core::ids::{BetId, RoundId};
use domicile_service::problem::Problem;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bets per page, at most.
const PAGE_MAX: u16 = 100;
/// Bets per page when the caller does not say.
const PAGE_DEFAULT: u16 = 20;

/// The query of a page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    limit: Option<u16>,
    before: Option<String>,
}

/// One of a player's bets.
#[derive(Debug, Serialize)]
struct OwnBet {
    bet: BetId,
    round: RoundId,
    currency: String,
    stake_micro: i64,
    selection: String,
    payout_micro: Option<i64>,
    receipt: String,
}

/// A page of bets, newest first.
#[derive(Debug, Serialize)]
struct OwnBets {
    bets: Vec<OwnBet>,
    next_before: Option<BetId>,
}

/// `GET /v1/bets`
pub(crate) async fn own(
    State(reader): State<Arc<Reader>>,
    Parameters(page): Parameters<Page>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let claims = reader.access.check(&headers).await?;
    let log = reader.log(&claims.jurisdiction)?;
    let player = claims.player()?;
    let head = log.head_at(min_log_size(&headers)?, position_wait()).await?;
    let before = page
        .before
        .as_deref()
        .map(BetId::parse)
        .transpose()
        .map_err(|cause| Problem::new(Code::MalformedRequest).detail(cause.to_string()))?;
    let limit = page.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let stored = reader
        .store
        .bets_of(
            &claims.jurisdiction,
            &player.operator,
            player.player.as_str(),
            before,
            i64::from(limit),
        )
        .await
        .map_err(problem::database)?;
    let full = stored.len() >= usize::from(limit);
    let next_before = stored.last().map(|bet| bet.id).filter(|_| full);
    let bets = stored.into_iter().map(own_bet).collect();
    let answer = ([(CACHE_CONTROL, "private, no-store")], Json(OwnBets { bets, next_before }));
    fresh(&reader, log, head.size, answer)
}

fn own_bet(stored: StoredBet) -> OwnBet {
    OwnBet {
        bet: stored.id,
        round: stored.round,
        currency: stored.currency,
        stake_micro: stored.stake_micro,
        selection: stored.selection,
        payout_micro: stored.payout_micro,
        receipt: stored.receipt,
    }
}

/// `GET /v1/bets/{bet}/opening`
pub(crate) async fn opening(
    State(reader): State<Arc<Reader>>,
    path: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let claims = reader.access.check(&headers).await?;
    let log = reader.log(&claims.jurisdiction)?;
    let bet = bet_id(&path)?;
    let head = log.head_at(min_log_size(&headers)?, position_wait()).await?;
    let stored = reader
        .store
        .bet(&claims.jurisdiction, bet)
        .await
        .map_err(problem::database)?
        .filter(|stored| may_open(&claims.bearer, stored))
        .ok_or(Code::BetNotFound)?;
    let opening =
        Prover::new(&log.evidence, &head).opening(&stored).await.map_err(problem::proof)?;
    let body = opening.to_json().map_err(|_too_large| Code::Internal)?;
    let fields = [(CACHE_CONTROL, "private, no-store"), (CONTENT_TYPE, "application/json")];
    fresh(&reader, log, head.size, (fields, body))
}

/// Another player's bet is answered exactly like one that does not exist.
fn may_open(bearer: &Bearer, bet: &StoredBet) -> bool {
    match bearer {
        Bearer::Inspector(_) => true,
        Bearer::Player(player) => {
            player.operator.as_str() == bet.operator && player.player.as_str() == bet.player
        }
    }
}
