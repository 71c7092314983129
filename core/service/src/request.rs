//! What surrounds every request: its trace, one structured log line, its metrics, its deadline.
//!
//! Invariants: nothing of a request is logged but method, route template, status, error code, time and
//! the peer's node: no path, query, header, body or address, since those can hold tokens and personal
//! data. Route labels come from the code, so a client cannot make new time series.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use domicile_core::error::Code;
use futures_util::FutureExt;
use http::{Method, StatusCode};
use metrics::SharedString;
use std::panic::AssertUnwindSafe;
use tracing::{Instrument, Span};

use crate::peer::Peer;
use crate::problem::{self, Problem};
use crate::telemetry;
use crate::trace::{self, Trace};

/// The route label of a request that matched none.
pub const UNMATCHED: &str = "unmatched";

/// Dresses an application: problem documents for unknown paths and methods, and `observe` around all.
pub fn app(routes: Router) -> Router {
    routes
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(from_fn(observe))
}

/// One request under observation. `app` uses it; a service without axum does so itself.
#[derive(Debug)]
pub struct Observed {
    trace: Trace,
    span: Span,
    method: &'static str,
    began: Instant,
    ended: bool,
}

impl Observed {
    /// Begins with the caller's trace context, or a new one.
    pub fn begin<B>(request: &http::Request<B>) -> Self {
        let method = method_label(request.method());
        let span = tracing::info_span!(
            "request",
            method,
            trace_id = tracing::field::Empty,
            span_id = tracing::field::Empty,
            peer = tracing::field::Empty,
        );
        if let Some(Peer(peer)) = request.extensions().get() {
            span.record("peer", peer.node.as_str());
        }
        let trace = telemetry::adopt(&span, Trace::from_headers(request.headers()));
        span.record("trace_id", trace.trace_id_hex());
        span.record("span_id", trace.span_id_hex());
        Self { trace, span, method, began: Instant::now(), ended: false }
    }

    /// The request's trace.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// Runs the handling inside the request's trace and span.
    pub async fn run<F: Future>(&self, handling: F) -> F::Output {
        trace::scope(self.trace, handling).instrument(self.span.clone()).await
    }

    /// Logs and counts the answer.
    pub fn end<B>(mut self, route: impl Into<SharedString>, response: &Response<B>) {
        self.ended = true;
        let (route, status) = (route.into(), response.status());
        let code = response.extensions().get::<Code>().map_or("", |code| code.as_str());
        let elapsed = self.began.elapsed();
        let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.span.in_scope(|| {
            let (route, status) = (&*route, status.as_u16());
            if status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(target: "access", route, status, code, duration_us, "request");
            } else {
                tracing::info!(target: "access", route, status, code, duration_us, "request");
            }
        });
        let labels = [
            ("route", route),
            ("method", SharedString::from(self.method)),
            ("status", status_label(status)),
        ];
        metrics::histogram!("domicile_http_request_seconds", &labels).record(elapsed);
        if !code.is_empty() {
            metrics::counter!("domicile_http_problems_total", "code" => code).increment(1);
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if !self.ended {
            metrics::counter!("domicile_http_abandoned_total", "method" => self.method)
                .increment(1);
            self.span.in_scope(|| {
                tracing::info!(target: "access", "the client left before the answer");
            });
        }
    }
}

async fn observe(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let observed = Observed::begin(&request);
    let handling = AssertUnwindSafe(next.run(request)).catch_unwind();
    let response = observed.run(async {
        handling.await.unwrap_or_else(|_panic| {
            tracing::error!("a request handler panicked");
            Problem::new(Code::Internal).into_response()
        })
    });
    let response = response.await;
    match route {
        Some(route) => observed.end(route.as_str().to_owned(), &response),
        None => observed.end(UNMATCHED, &response),
    }
    response
}

/// How long a request may take as a whole. The handler is dropped when the time is over, as it is when
/// the client leaves: what must not be torn apart belongs in a task of its own.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// From the headers to the answer's headers.
    pub timeout_ms: u64,
    /// The code when a read (GET, HEAD, OPTIONS) runs out of time. Anything else may have had an effect:
    /// its outcome is unknown.
    pub read_code: Code,
}

impl Deadline {
    /// The routes, with this deadline on each request.
    pub fn limit(self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self, Self::pass))
    }

    async fn pass(State(deadline): State<Self>, request: Request, next: Next) -> Response {
        let code = match *request.method() {
            Method::GET | Method::HEAD | Method::OPTIONS => deadline.read_code,
            _ => Code::OutcomeUnknown,
        };
        let time = Duration::from_millis(deadline.timeout_ms);
        match tokio::time::timeout(time, next.run(request)).await {
            Ok(response) => response,
            Err(_elapsed) => {
                let detail = format!("Not answered within {} ms.", deadline.timeout_ms);
                Problem::new(code).detail(detail).into_response()
            }
        }
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn status_label(status: StatusCode) -> SharedString {
    match status {
        StatusCode::OK => "200".into(),
        StatusCode::CREATED => "201".into(),
        status => status.as_u16().to_string().into(),
    }
}
