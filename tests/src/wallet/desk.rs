//! What a wallet that is a program of its own is told, and says of itself: for the demo and the chaos suite, which cannot
//! reach into it.

use super::Inner;
use super::fault::Storm;
use super::store::Account;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Most transactions of an answer: callers bound what they read.
const ENTRIES_PAGE: usize = 2_000;

/// What the wallet has.
#[derive(Debug, Serialize)]
struct Held {
    /// By currency.
    accounts: BTreeMap<String, Account>,
    /// By player: euros.
    balances_micro: BTreeMap<String, i128>,
    /// What no ledger may ever ask for.
    violations: Vec<String>,
    /// Calls that came.
    calls: usize,
    /// Bets that were rolled back before they came.
    tombstones: usize,
}

/// How many calls of a hundred go wrong from now on.
#[derive(Debug, Deserialize)]
struct Weather {
    percent: u64,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    too_long_ms: u64,
}

/// The routes.
pub(super) fn routes(inner: &Arc<Inner>) -> Router<Arc<Inner>> {
    Router::new()
        .route("/held", get(held))
        .route("/entries", get(entries))
        .route("/weather", post(weather))
        .with_state(Arc::clone(inner))
}

async fn held(State(inner): State<Arc<Inner>>) -> Json<Held> {
    let store = inner.store.lock().expect("the store");
    Json(Held {
        accounts: store.accounts(),
        balances_micro: store.balances(),
        violations: store.violations(),
        calls: inner.calls.lock().expect("the calls").len(),
        tombstones: store.tombstones(),
    })
}

/// Where a page of transactions begins.
#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: String,
}

/// A page of the transactions that were booked, with how often, in order of id.
async fn entries(
    State(inner): State<Arc<Inner>>,
    Query(After { after }): Query<After>,
) -> Json<Vec<serde_json::Value>> {
    Json(inner.store.lock().expect("the store").booked(&after, ENTRIES_PAGE))
}

async fn weather(State(inner): State<Arc<Inner>>, Json(weather): Json<Weather>) {
    let Weather { percent, seed, too_long_ms } = weather;
    let storm = Storm::new(seed, percent, Duration::from_millis(too_long_ms));
    *inner.storm.lock().expect("the storm") = (percent > 0).then_some(storm);
}
