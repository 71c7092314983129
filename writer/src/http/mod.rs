//! The writer's HTTP interface: one table of routes, one dispatch, three kinds of callers.
//!
//! Invariants: every route stands in [`ROUTES`] and in the published API document (a test compares them
//! both ways); operator and player routes are open to routers only, internal ones to the operators' command
//! line; bodies are read strictly and within limits; an operation that writes runs on when its client leaves.

mod cors;
mod internal;
mod operator;
mod player;
mod wallets;

use crate::answer::Failure;
use crate::engine::Engine;
use crate::limits;
use crate::service::Service;
use axum::Router;
use axum::extract::{RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use domicile_core::epoch::EPOCH_HEADER;
use domicile_core::error::Code;
use domicile_core::ids::ClusterId;
use domicile_postgres::AnswerGuard;
use domicile_service::body::{self, BodyLimits};
use domicile_service::health::Readiness;
use domicile_service::peer::{PeerGuard, Role};
use domicile_service::problem::Problem;
use domicile_service::request::{self, Deadline};
use domicile_service::trace;
use http::{HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tracing::Instrument;

/// `one` while answers are on one region's disk only.
const DURABILITY_HEADER: &str = "domicile-durability";

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An operator opens a session.
    OpenSession,
    /// An operator revokes a session.
    RevokeSession,
    /// An operator opens a round.
    OpenRound,
    /// An operator closes a round.
    CloseRound,
    /// An operator settles a round.
    SettleRound,
    /// An operator voids a round.
    VoidRound,
    /// An operator reads a round.
    ReadRound,
    /// A player reads the session.
    ViewSession,
    /// A player plays.
    Play,
    /// A player bets on a shared round.
    Bet,
    /// The command line registers an operator.
    CreateOperator,
    /// The command line adds a credential.
    AddCredential,
    /// The command line withdraws a credential.
    RevokeCredential,
    /// The command line reads what the log gates left behind.
    ReadLogGate,
    /// The command line sets an operator's wallet.
    SetWallet,
    /// The command line lists wallet transactions that are not done.
    ListJobs,
    /// The command line looks at one.
    ShowJob,
    /// A person re-arms one.
    RetryJob,
    /// A person says that one is settled.
    ResolveJob,
    /// The command line asks for a day's totals.
    WalletDay,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An operator's backend, by signature, through a router.
    Operator,
    /// A player, by token, through a router.
    Player,
    /// The cluster's own command line.
    Internal,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path with its parameters in braces.
    pub path: &'static str,
    /// Who may call it.
    pub caller: Caller,
    /// What it does.
    pub operation: Operation,
}

const fn route(
    method: &'static str,
    path: &'static str,
    caller: Caller,
    operation: Operation,
) -> Route {
    Route { method, path, caller, operation }
}

/// Every route but readiness.
pub const ROUTES: &[Route] = &[
    route("POST", "/operator/v1/sessions", Caller::Operator, Operation::OpenSession),
    route("POST", "/operator/v1/sessions/{id}/revoke", Caller::Operator, Operation::RevokeSession),
    route("POST", "/operator/v1/rounds", Caller::Operator, Operation::OpenRound),
    route("GET", "/operator/v1/rounds/{id}", Caller::Operator, Operation::ReadRound),
    route("POST", "/operator/v1/rounds/{id}/close", Caller::Operator, Operation::CloseRound),
    route("POST", "/operator/v1/rounds/{id}/settle", Caller::Operator, Operation::SettleRound),
    route("POST", "/operator/v1/rounds/{id}/void", Caller::Operator, Operation::VoidRound),
    route("GET", "/v1/session", Caller::Player, Operation::ViewSession),
    route("POST", "/v1/plays", Caller::Player, Operation::Play),
    route("POST", "/v1/rounds/{id}/bets", Caller::Player, Operation::Bet),
    route("POST", "/internal/v1/operators", Caller::Internal, Operation::CreateOperator),
    route(
        "POST",
        "/internal/v1/operators/{id}/credentials",
        Caller::Internal,
        Operation::AddCredential,
    ),
    route(
        "POST",
        "/internal/v1/credentials/{id}/revoke",
        Caller::Internal,
        Operation::RevokeCredential,
    ),
    route("GET", "/internal/v1/log-gate", Caller::Internal, Operation::ReadLogGate),
    route("POST", "/internal/v1/operators/{id}/wallet", Caller::Internal, Operation::SetWallet),
    route("POST", "/internal/v1/operators/{id}/wallet/jobs", Caller::Internal, Operation::ListJobs),
    route("POST", "/internal/v1/operators/{id}/wallet/day", Caller::Internal, Operation::WalletDay),
    route("GET", "/internal/v1/wallet-jobs/{id}", Caller::Internal, Operation::ShowJob),
    route("POST", "/internal/v1/wallet-jobs/{id}/retry", Caller::Internal, Operation::RetryJob),
    route("POST", "/internal/v1/wallet-jobs/{id}/resolve", Caller::Internal, Operation::ResolveJob),
];

/// The whole application of the main listener.
pub fn app(service: &Arc<Service>, readiness: &Readiness, cluster: &ClusterId) -> Router {
    let guard = |roles| PeerGuard::new(cluster.clone(), roles);
    let of = |caller| routes(service, caller);
    let deadline = Deadline { timeout_ms: limits::REQUEST_MS, read_code: Code::Database };
    let public = of(Caller::Operator).merge(of(Caller::Player)).merge(cors::routes(service));
    let routes = guard(&[Role::Router])
        .protect(public)
        .merge(guard(&[Role::Ctl]).protect(of(Caller::Internal)));
    let ready = guard(&[Role::Router, Role::Ctl, Role::Agent]).protect(readiness.routes());
    request::app(
        deadline
            .limit(routes)
            .merge(ready)
            .layer(from_fn_with_state(Arc::clone(service), state_durability)),
    )
}

/// In degraded mode every answer says that it is on one region's disk only.
async fn state_durability(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if service.one_copy() {
        response.headers_mut().insert(DURABILITY_HEADER, HeaderValue::from_static("one"));
    }
    response
}

fn routes(service: &Arc<Service>, caller: Caller) -> Router {
    let chosen = ROUTES.iter().filter(|route| route.caller == caller);
    chosen.fold(Router::new(), |router, route| {
        let (service, operation) = (Arc::clone(service), route.operation);
        let filter = if route.method == "GET" { MethodFilter::GET } else { MethodFilter::POST };
        let handler = move |params: RawPathParams, request: Request| {
            dispatch(Arc::clone(&service), caller, operation, params, request)
        };
        router.route(route.path, on(filter, handler))
    })
}

/// Reads the request, then carries it out in a task of its own: a client that leaves cancels nothing.
async fn dispatch(
    service: Arc<Service>,
    caller: Caller,
    operation: Operation,
    params: RawPathParams,
    request: Request,
) -> Response {
    let incoming = match Incoming::read(request, &params).await {
        Ok(incoming) => incoming,
        Err(problem) => return problem.into_response(),
    };
    // One look: whatever this request becomes belongs to the epoch stated with its answer.
    let engine = service.engine();
    let tenure = engine.as_ref().ok().map(|engine| engine.tenure.clone());
    let work = async move {
        match caller {
            Caller::Operator => operator::serve(engine, operation, incoming).await,
            Caller::Player => player::serve(&service, engine, operation, incoming).await,
            Caller::Internal => internal::serve(engine, operation, incoming).await,
        }
    };
    let task = match trace::current() {
        Some(current) => tokio::spawn(trace::scope(current, work).in_current_span()),
        None => tokio::spawn(work.in_current_span()),
    };
    let mut response =
        task.await.unwrap_or_else(|_panicked| Failure::new(Code::OutcomeUnknown).into_response());
    if let Some(tenure) = tenure {
        // 503 is for what was not executed. All else tells something, and may have waited since its commit.
        if response.status() != StatusCode::SERVICE_UNAVAILABLE && !tenure.holds() {
            response = Failure::new(Code::OutcomeUnknown).into_response();
        }
        response.headers_mut().insert(EPOCH_HEADER, HeaderValue::from(tenure.epoch.0));
    }
    response
}

/// The engine that a request found, or why there is none.
type Found = Result<Arc<Engine>, Failure>;

/// A request, read within the limits.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Everything but the body.
    pub(crate) head: http::request::Parts,
    /// The path parameter `id`, where the route has one.
    pub(crate) id: Option<String>,
    /// The body.
    pub(crate) body: Bytes,
}

impl Incoming {
    async fn read(request: Request, params: &RawPathParams) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let read = BodyLimits { max_bytes: limits::BODY_BYTES, timeout_ms: limits::BODY_WAIT_MS };
        let body = body::read(body, read).await?;
        if !body.is_empty() {
            body::require_json(&head.headers)?;
        }
        let id = params.iter().find(|(name, _)| *name == "id").map(|(_, id)| id.to_owned());
        Ok(Self { head, id, body })
    }

    /// The path parameter, parsed; a malformed id names nothing.
    pub(crate) fn id<T, E>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
        missing: Code,
    ) -> Result<T, Failure> {
        self.id.as_deref().and_then(|id| parse(id).ok()).ok_or(Failure::new(missing))
    }

    /// A header's value, if it is there once and in visible characters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { value.to_str().ok() }
    }

    /// The request target as the caller sent it.
    pub(crate) fn target(&self) -> &str {
        self.head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }
}

/// Parses a body strictly; an absent one is the empty object.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let detail: String = error.to_string().chars().take(limits::DETAIL_CHARS).collect();
        Failure::with(Code::MalformedBody, detail)
    })
}
