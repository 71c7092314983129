//! The writer's HTTP interface: one table of routes, one dispatch, five kinds of callers.
//!
//! Invariants: every route stands in [`ROUTES`] and in the published API document (a test compares them
//! both ways); operator and player routes are open to routers only, internal ones to persons whose certificate
//! says a role that suffices, and what conducted a plan may enter it; bodies are read strictly and within limits; an operation that writes runs on when its client leaves.

mod admin;
mod captchas;
mod cors;
mod floor;
mod internal;
mod losses;
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
use domicile_core::operation::Grade;
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
    /// A player asks what the wallet has.
    Balance,
    /// A player plays.
    Play,
    /// A player bets on a shared round.
    Bet,
    /// A player watches the timed rounds of the game.
    WatchRounds,
    /// A person registers an operator.
    CreateOperator,
    /// A person lists operators.
    ListOperators,
    /// A person looks at one.
    ShowOperator,
    /// A person changes one.
    ChangeOperator,
    /// A person adds a credential.
    AddCredential,
    /// A person adds a credential and lets the others end.
    RotateCredential,
    /// A person withdraws a credential.
    RevokeCredential,
    /// A person looks at an operator's terms for a game.
    ShowGame,
    /// A person changes them.
    SetGame,
    /// A person stops a game.
    SuspendGame,
    /// A person offers it again.
    ResumeGame,
    /// A person revokes sessions.
    RevokeSessions,
    /// A router asks which sessions were revoked since it asked last.
    Revocations,
    /// A person reads the newest checkpoint of the operations log.
    OperationsHead,
    /// A person reads entries of the operations log.
    ReadOperations,
    /// A person asks for proofs of the operations log.
    ProveOperations,
    /// A person enters a plan or drill into the operations log.
    SubmitRecord,
    /// The command line reads what the log gates left behind.
    ReadLogGate,
    /// The command line sets an operator's wallet.
    SetWallet,
    /// The command line asks which wallet this process serves.
    ServedWallet,
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
    /// An operator hands in the receipt of a lost bet.
    FileLoss,
    /// The command line hands one in, with what a node has kept.
    ClaimLoss,
    /// The command line lists what was handed in.
    ListLosses,
    /// The command line sets the schedule of an operator's timed rounds.
    SetSchedule,
    /// The command line lists schedules.
    ListSchedules,
    /// The command line reads what became of rounds that were found under way.
    ReadRecovery,
    /// The command line sets an operator's captcha.
    SetCaptcha,
    /// The command line ends it.
    EndCaptcha,
    /// The command line asks whether money is conserved.
    Conservation,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// An operator's backend, by signature, through a router.
    Operator,
    /// A player, by token, through a router.
    Player,
    /// A person of at least this grade, or the cluster's own command line.
    Person(Grade),
    /// A router, for itself.
    Router,
    /// Whoever conducts plans: a dr-lead, or a ledger node's agent.
    Conductor,
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

const VIEWER: Caller = Caller::Person(Grade::Viewer);
const OPERATOR: Caller = Caller::Person(Grade::Operator);

/// Every route but readiness.
pub const ROUTES: &[Route] = &[
    route("POST", "/operator/v1/sessions", Caller::Operator, Operation::OpenSession),
    route("POST", "/operator/v1/sessions/{id}/revoke", Caller::Operator, Operation::RevokeSession),
    route("POST", "/operator/v1/rounds", Caller::Operator, Operation::OpenRound),
    route("GET", "/operator/v1/rounds/{id}", Caller::Operator, Operation::ReadRound),
    route("POST", "/operator/v1/rounds/{id}/close", Caller::Operator, Operation::CloseRound),
    route("POST", "/operator/v1/rounds/{id}/settle", Caller::Operator, Operation::SettleRound),
    route("POST", "/operator/v1/rounds/{id}/void", Caller::Operator, Operation::VoidRound),
    route("POST", "/operator/v1/losses", Caller::Operator, Operation::FileLoss),
    route("GET", "/v1/session", Caller::Player, Operation::ViewSession),
    route("GET", "/v1/session/balance", Caller::Player, Operation::Balance),
    route("POST", "/v1/plays", Caller::Player, Operation::Play),
    route("POST", "/v1/rounds/{id}/bets", Caller::Player, Operation::Bet),
    route("GET", "/v1/rounds/stream", Caller::Player, Operation::WatchRounds),
    route("GET", "/internal/v1/operators", VIEWER, Operation::ListOperators),
    route("POST", "/internal/v1/operators", OPERATOR, Operation::CreateOperator),
    route("GET", "/internal/v1/operators/{id}", VIEWER, Operation::ShowOperator),
    route("POST", "/internal/v1/operators/{id}", OPERATOR, Operation::ChangeOperator),
    route("POST", "/internal/v1/operators/{id}/credentials", OPERATOR, Operation::AddCredential),
    route(
        "POST",
        "/internal/v1/operators/{id}/credentials/rotate",
        OPERATOR,
        Operation::RotateCredential,
    ),
    route("POST", "/internal/v1/credentials/{id}/revoke", OPERATOR, Operation::RevokeCredential),
    route("GET", "/internal/v1/operators/{id}/games/{game}", VIEWER, Operation::ShowGame),
    route("POST", "/internal/v1/operators/{id}/games/{game}", OPERATOR, Operation::SetGame),
    route(
        "POST",
        "/internal/v1/operators/{id}/games/{game}/suspend",
        OPERATOR,
        Operation::SuspendGame,
    ),
    route(
        "POST",
        "/internal/v1/operators/{id}/games/{game}/resume",
        OPERATOR,
        Operation::ResumeGame,
    ),
    route("POST", "/internal/v1/sessions/revoke", OPERATOR, Operation::RevokeSessions),
    route("GET", "/internal/v1/operations", VIEWER, Operation::OperationsHead),
    route("POST", "/internal/v1/operations", Caller::Conductor, Operation::SubmitRecord),
    route("POST", "/internal/v1/operations/entries", VIEWER, Operation::ReadOperations),
    route("POST", "/internal/v1/operations/proof", VIEWER, Operation::ProveOperations),
    route("GET", "/internal/v1/log-gate", VIEWER, Operation::ReadLogGate),
    route("POST", "/internal/v1/operators/{id}/wallet", OPERATOR, Operation::SetWallet),
    route("GET", "/internal/v1/operators/{id}/wallet", VIEWER, Operation::ServedWallet),
    route("POST", "/internal/v1/operators/{id}/wallet/jobs", VIEWER, Operation::ListJobs),
    route("POST", "/internal/v1/operators/{id}/wallet/day", VIEWER, Operation::WalletDay),
    route("POST", "/internal/v1/operators/{id}/captcha", OPERATOR, Operation::SetCaptcha),
    route("POST", "/internal/v1/operators/{id}/captcha/off", OPERATOR, Operation::EndCaptcha),
    route("POST", "/internal/v1/conservation", VIEWER, Operation::Conservation),
    route("GET", "/internal/v1/wallet-jobs/{id}", VIEWER, Operation::ShowJob),
    route("POST", "/internal/v1/wallet-jobs/{id}/retry", OPERATOR, Operation::RetryJob),
    route("POST", "/internal/v1/wallet-jobs/{id}/resolve", OPERATOR, Operation::ResolveJob),
    route("POST", "/internal/v1/losses", VIEWER, Operation::ListLosses),
    route("POST", "/internal/v1/losses/claim", Caller::Person(Grade::DrLead), Operation::ClaimLoss),
    route("GET", "/feed/v1/revocations", Caller::Router, Operation::Revocations),
    route("POST", "/internal/v1/operators/{id}/schedules", OPERATOR, Operation::SetSchedule),
    route("GET", "/internal/v1/schedules", VIEWER, Operation::ListSchedules),
    route("GET", "/internal/v1/recovery", VIEWER, Operation::ReadRecovery),
];

/// The whole application of the main listener.
pub fn app(service: &Arc<Service>, readiness: &Readiness, cluster: &ClusterId) -> Router {
    let guard = |roles| PeerGuard::new(cluster.clone(), roles);
    let of = |caller| routes(service, caller);
    let deadline = Deadline { timeout_ms: limits::REQUEST_MS, read_code: Code::Database };
    let public = of(Caller::Operator).merge(of(Caller::Player)).merge(cors::routes(service));
    let routes = guard(&[Role::Router]).protect(public.merge(of(Caller::Router)));
    let routes = Grade::ALL.into_iter().fold(routes, |routes, grade| {
        routes.merge(guard(&[]).and_persons(grade).protect(of(Caller::Person(grade))))
    });
    let conductor = guard(&[Role::Agent]).and_persons(Grade::DrLead);
    let routes = routes.merge(conductor.protect(of(Caller::Conductor)));
    let ready = guard(&[Role::Router, Role::Agent]).and_persons(Grade::Viewer);
    let ready = ready.protect(readiness.routes());
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
            Caller::Person(_) | Caller::Router | Caller::Conductor => {
                internal::serve(engine, operation, incoming).await
            }
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
    /// The path parameter `game`, where the route has one.
    pub(crate) game: Option<String>,
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
        let param = |wanted: &str| {
            params.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
        };
        Ok(Self { head, id: param("id"), game: param("game"), body })
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
