//! The HTTP interface: `GET /v1/status` and the operations, for the CLI and for other agents.
//!
//! Invariants: only agents and persons of this cluster get in: every person may look, only a dr-lead may change anything; a body has a limit; an operation goes on to its
//! end when its caller leaves, so that it is never cut off half-way; every failure is a problem with a code.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domicile_core::error::Code;
use domicile_core::operation::Grade;
use domicile_service::body::{self, BodyLimits};
use domicile_service::peer::{PeerGuard, Role};
use domicile_service::problem::Problem;
use domicile_topology::agent_api::{
    AliveAnswer, CheckpointRequest, CloneRequest, DemoteRequest, DropSlotsRequest,
    EpochOpenRequest, InitRequest, MigrateRequest, ObserveRequest, OrphanBetRequest,
    OrphanWinsRequest, PromoteRequest, RejoinRequest, SlotRequest, StartRequest, StopRequest,
    SubscriptionsRequest, SyncRequest, UndoDemoteRequest, limits, paths,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use crate::agent::Agent;
use crate::error::Error;

const BODY: BodyLimits = BodyLimits { max_bytes: limits::MAX_BODY_BYTES, timeout_ms: 5_000 };

/// The routes of one agent, closed to other peers.
pub fn routes(agent: &Arc<Agent>) -> Router {
    let guard = || PeerGuard::new(agent.config.cluster.clone(), &[Role::Agent]);
    let looks = Router::new()
        .route(paths::STATUS, get(status))
        .route(paths::ORPHANS, get(orphans))
        .route(paths::ALIVE, get(alive))
        .route(paths::OBSERVE, post(observe))
        .with_state(Arc::clone(agent));
    let operations = Router::new()
        .route(paths::INIT, post(init))
        .route(paths::CLONE, post(clone))
        .route(paths::START, post(start))
        .route(paths::STOP, post(stop))
        .route(paths::SYNC, post(sync))
        .route(paths::MIGRATE, post(migrate))
        .route(paths::EPOCH_OPEN, post(epoch_open))
        .route(paths::SUBSCRIPTIONS, post(subscriptions))
        .route(paths::CHECKPOINT, post(checkpoint))
        .route(paths::SLOT, post(slot))
        .route(paths::SLOTS_DROP, post(slots_drop))
        .route(paths::DEMOTE, post(demote))
        .route(paths::DEMOTE_UNDO, post(demote_undo))
        .route(paths::PROMOTE, post(promote))
        .route(paths::REJOIN, post(rejoin))
        .route(paths::ORPHAN_BET, post(orphan_bet))
        .route(paths::ORPHAN_WINS, post(orphan_wins))
        .with_state(Arc::clone(agent));
    let looks = guard().and_persons(Grade::Viewer).protect(looks);
    looks.merge(guard().and_persons(Grade::DrLead).protect(operations))
}

type App = State<Arc<Agent>>;

async fn status(State(agent): App) -> Response {
    Json(agent.status().await).into_response()
}

async fn alive(State(agent): App) -> Response {
    let (node, quiet_ms) = (agent.config.node.clone(), agent.quiet_ms());
    Json(AliveAnswer { node, quiet_ms }).into_response()
}

async fn orphans(State(agent): App) -> Response {
    match agent.orphans() {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => Problem::new(error.code()).detail(error.to_string()).into_response(),
    }
}

async fn orphan_bet(State(agent): App, request: Request) -> Response {
    let find = |body: OrphanBetRequest| async move { agent.orphan_bet(&body) };
    run("orphan-bet", limits::OPERATION_TIMEOUT_MS, request, find).await
}

async fn orphan_wins(State(agent): App, request: Request) -> Response {
    let find = |body: OrphanWinsRequest| async move { agent.orphan_wins(&body) };
    run("orphan-wins", limits::OPERATION_TIMEOUT_MS, request, find).await
}

async fn init(State(agent): App, request: Request) -> Response {
    let init = |_: InitRequest| async move { agent.init().await };
    run("init", limits::OPERATION_TIMEOUT_MS, request, init).await
}

async fn clone(State(agent): App, request: Request) -> Response {
    let clone = |body: CloneRequest| async move { agent.copy_from(&body).await };
    run("clone", limits::CLONE_TIMEOUT_MS, request, clone).await
}

async fn start(State(agent): App, request: Request) -> Response {
    let start = |_: StartRequest| async move { agent.start().await };
    run("start", limits::OPERATION_TIMEOUT_MS, request, start).await
}

async fn stop(State(agent): App, request: Request) -> Response {
    let stop = |body: StopRequest| async move { agent.stop(&body).await };
    run("stop", limits::OPERATION_TIMEOUT_MS, request, stop).await
}

async fn sync(State(agent): App, request: Request) -> Response {
    let sync = |body: SyncRequest| async move { agent.sync(&body).await };
    run("sync", limits::OPERATION_TIMEOUT_MS, request, sync).await
}

async fn migrate(State(agent): App, request: Request) -> Response {
    let migrate = |_: MigrateRequest| async move { agent.migrate().await };
    run("migrate", limits::OPERATION_TIMEOUT_MS, request, migrate).await
}

async fn epoch_open(State(agent): App, request: Request) -> Response {
    let open = |body: EpochOpenRequest| async move { agent.open_epoch(&body).await };
    run("epoch-open", limits::OPERATION_TIMEOUT_MS, request, open).await
}

async fn subscriptions(State(agent): App, request: Request) -> Response {
    let settle = |body: SubscriptionsRequest| async move { agent.subscriptions(&body).await };
    run("subscriptions", limits::OPERATION_TIMEOUT_MS, request, settle).await
}

async fn checkpoint(State(agent): App, request: Request) -> Response {
    let checkpoint = |_: CheckpointRequest| async move { agent.checkpoint().await };
    run("checkpoint", limits::OPERATION_TIMEOUT_MS, request, checkpoint).await
}

async fn slot(State(agent): App, request: Request) -> Response {
    let make = |body: SlotRequest| async move { agent.make_slot(&body).await };
    run("slot", limits::OPERATION_TIMEOUT_MS, request, make).await
}

async fn slots_drop(State(agent): App, request: Request) -> Response {
    let drop = |body: DropSlotsRequest| async move { agent.drop_slots(&body).await };
    run("slots-drop", limits::OPERATION_TIMEOUT_MS, request, drop).await
}

async fn demote(State(agent): App, request: Request) -> Response {
    let demote = |body: DemoteRequest| async move { agent.demote(&body).await };
    run("demote", limits::OPERATION_TIMEOUT_MS, request, demote).await
}

async fn demote_undo(State(agent): App, request: Request) -> Response {
    let undo = |body: UndoDemoteRequest| async move { agent.undo_demote(&body).await };
    run("demote-undo", limits::OPERATION_TIMEOUT_MS, request, undo).await
}

async fn promote(State(agent): App, request: Request) -> Response {
    let promote = |body: PromoteRequest| async move { agent.promote(&body).await };
    run("promote", limits::OPERATION_TIMEOUT_MS, request, promote).await
}

async fn rejoin(State(agent): App, request: Request) -> Response {
    let rejoin = |_: RejoinRequest| async move { agent.rejoin().await };
    run("rejoin", limits::CLONE_TIMEOUT_MS, request, rejoin).await
}

async fn observe(State(agent): App, request: Request) -> Response {
    let observe = |body: ObserveRequest| async move { agent.observe_node(&body).await };
    run("observe", limits::OPERATION_TIMEOUT_MS, request, observe).await
}

async fn run<B, A, W>(
    name: &'static str,
    timeout_ms: u64,
    request: Request,
    operation: impl FnOnce(B) -> W,
) -> Response
where
    B: DeserializeOwned,
    A: Serialize + Send + 'static,
    W: Future<Output = Result<A, Error>> + Send + 'static,
{
    let body = match body::read_json(request, BODY).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    let begun = Instant::now();
    let work = operation(body).instrument(tracing::info_span!("operation", name));
    // A task of its own: it goes on when the caller leaves or the answer is late.
    let finished = timeout(Duration::from_millis(timeout_ms), tokio::spawn(work)).await;
    let result = match finished {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => {
            tracing::error!(name, %panic, "an operation ended unexpectedly");
            return Problem::new(Code::Internal).into_response();
        }
        Err(_elapsed) => Err(Error::Timeout { step: name, timeout_ms }),
    };
    let code = result.as_ref().map_or_else(|error| error.code().as_str(), |_| "ok");
    metrics::counter!("domicile_agent_operations_total", "operation" => name, "code" => code)
        .increment(1);
    metrics::histogram!("domicile_agent_operation_seconds", "operation" => name)
        .record(begun.elapsed());
    match result {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            tracing::warn!(name, %error, code, "operation failed");
            Problem::new(error.code()).detail(error.to_string()).into_response()
        }
    }
}
