//! Readiness: named checks, each owned by the part that knows.
//!
//! Invariants: a check is red until its owner first says otherwise; a draining process is never ready.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use axum::Json;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use domicile_core::epoch::{EPOCH_HEADER, Epoch};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::drain::Drain;

/// One named check, as `/readyz` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckState {
    /// Whether it passes.
    pub ok: bool,
    /// In words, for a person.
    pub detail: String,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReadyReport {
    /// Whether every check passes and the process is not draining.
    pub ready: bool,
    /// The epoch that a writer serves; absent while it serves none, and for every other service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// All checks by name.
    pub checks: BTreeMap<&'static str, CheckState>,
}

/// The process's readiness.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: Arc<RwLock<State>>,
    drain: Drain,
}

#[derive(Debug, Default)]
struct State {
    checks: BTreeMap<&'static str, CheckState>,
    epoch: Option<Epoch>,
}

impl Readiness {
    /// No checks yet, and so not ready: a process that starts its admin listener first is not taken for one that is
    /// done starting.
    pub fn new(drain: Drain) -> Self {
        Self { state: Arc::default(), drain }
    }

    /// Adds a check, red until its first `pass`.
    pub fn check(&self, name: &'static str) -> Check {
        let check = Check { readiness: self.clone(), name };
        check.fail("starting");
        check
    }

    /// The present state.
    pub fn report(&self) -> ReadyReport {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let (mut checks, epoch) = (state.checks.clone(), state.epoch);
        drop(state);
        let serving = !self.drain.has_begun();
        let detail = if serving { "serving" } else { "draining" };
        checks.insert("drain", CheckState { ok: serving, detail: detail.to_owned() });
        let known = checks.len() > 1;
        ReadyReport { ready: known && checks.values().all(|check| check.ok), epoch, checks }
    }

    /// Whether every check passes and the process is not draining.
    pub fn is_ready(&self) -> bool {
        self.report().ready
    }

    /// The `/readyz` answer. A served epoch stands in its header, too.
    pub fn response(&self) -> Response {
        let report = self.report();
        let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let epoch = report.epoch;
        let mut response = (status, Json(report)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(epoch) = epoch {
            headers.insert(EPOCH_HEADER, HeaderValue::from(epoch.0));
        }
        response
    }

    /// `GET /readyz`, to merge into a listener's router.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> axum::Router<S> {
        let readiness = self.clone();
        axum::Router::new().route("/readyz", get(move || std::future::ready(readiness.response())))
    }
}

/// The handle through which a part reports one check.
#[derive(Debug, Clone)]
pub struct Check {
    readiness: Readiness,
    name: &'static str,
}

impl Check {
    /// The check passes.
    pub fn pass(&self, detail: impl Into<String>) {
        drop(self.set(true, detail.into()));
    }

    /// The check passes because this epoch is served; the report states the epoch until the check fails.
    pub fn pass_in(&self, epoch: Epoch) {
        self.set(true, format!("serving epoch {epoch}")).epoch = Some(epoch);
    }

    /// The check fails, and with it any claim to an epoch.
    pub fn fail(&self, detail: impl Into<String>) {
        self.set(false, detail.into()).epoch = None;
    }

    fn set(&self, ok: bool, detail: String) -> RwLockWriteGuard<'_, State> {
        let state = self.readiness.state.write();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        match state.checks.get(self.name).map(|before| before.ok) {
            Some(before) if before == ok => {}
            Some(_) if ok => tracing::info!(check = self.name, detail, "check passes"),
            Some(_) => tracing::warn!(check = self.name, detail, "check fails"),
            None => {}
        }
        state.checks.insert(self.name, CheckState { ok, detail });
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::DrainLimits;

    #[tokio::test]
    async fn ready_only_when_every_check_passes_and_not_draining() {
        let drain = Drain::new(DrainLimits::default());
        let readiness = Readiness::new(drain.clone());
        assert!(!readiness.is_ready(), "nobody has said anything yet");
        let (database, topology) = (readiness.check("database"), readiness.check("topology"));
        assert!(!readiness.is_ready(), "red until first told otherwise");
        database.pass("connected");
        topology.pass("generation 1");
        assert!(readiness.is_ready());
        database.fail("connection lost");
        assert_eq!(readiness.response().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(readiness.report().checks["database"].detail, "connection lost");
        database.pass("connected");
        drain.begin("test");
        drain.begun().await;
        assert!(!readiness.is_ready());
        assert!(!readiness.report().checks["drain"].ok);
    }

    #[tokio::test]
    async fn an_epoch_is_stated_only_while_its_check_passes() {
        let readiness = Readiness::new(Drain::new(DrainLimits::default()));
        let check = readiness.check("writer");
        assert_eq!(readiness.report().epoch, None);
        check.pass_in(Epoch(7));
        let report = readiness.report();
        assert_eq!((report.ready, report.epoch), (true, Some(Epoch(7))));
        assert_eq!(serde_json::to_value(&report).unwrap()["epoch"], 7);
        assert_eq!(readiness.response().headers()[EPOCH_HEADER], "7");
        check.fail("standing by");
        assert_eq!(readiness.report().epoch, None);
    }
}
