//! What persons and routers ask of the writer: administration, wallets, the log gates' evidence.

use super::{Found, Incoming, Operation, admin, captchas, floor, losses, parse, wallets};
use crate::answer::{Handled, Reply, Verdict};
use crate::audit;
use crate::engine::Engine;
use crate::log::LogState;
use axum::response::{IntoResponse, Response};
use domicile_core::ids::Jurisdiction;
use domicile_core::operation;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConservationBody {
    /// The check to go on waiting for.
    audit: Option<Uuid>,
}

pub(super) async fn serve(engine: Found, operation: Operation, incoming: Incoming) -> Response {
    match handle(engine, operation, &incoming).await {
        Ok(acknowledged) => acknowledged.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn handle(engine: Found, operation: Operation, incoming: &Incoming) -> Handled {
    let engine = engine?;
    match operation {
        Operation::ReadLogGate => engine.acknowledge(log_gate(&engine)).await,
        Operation::SetSchedule | Operation::ListSchedules | Operation::ReadRecovery => {
            floor::handle(&engine, operation, incoming).await
        }
        Operation::SetWallet
        | Operation::ServedWallet
        | Operation::ListJobs
        | Operation::ShowJob
        | Operation::RetryJob
        | Operation::ResolveJob
        | Operation::WalletDay => wallets::handle(&engine, operation, incoming).await,
        Operation::ClaimLoss | Operation::ListLosses => {
            losses::handle(&engine, operation, incoming).await
        }
        Operation::SetCaptcha | Operation::EndCaptcha => {
            captchas::handle(&engine, operation, incoming).await
        }
        Operation::Conservation => {
            let body: ConservationBody = parse(&incoming.body)?;
            audit::look(&engine, body.audit).await
        }
        _ => admin::handle(&engine, operation, incoming).await,
    }
}

/// How each log stands, and what its gate left behind in this epoch.
fn log_gate(engine: &Engine) -> Verdict {
    let log = |code: Jurisdiction| {
        let (state, reason) = match engine.log.state(&code) {
            LogState::Starting => ("starting", None),
            LogState::Live => ("live", None),
            LogState::Suspended { reason } => ("suspended", Some(reason.to_string())),
        };
        json!({
            "jurisdiction": code,
            "state": state,
            "reason": reason,
            "unconfirmed": engine.log.is_unconfirmed(&code),
            "evidence": engine.log.evidence(&code).as_deref(),
        })
    };
    let codes = engine.log.jurisdictions().into_iter().filter(|code| !operation::is_log(code));
    let logs: Vec<_> = codes.map(log).collect();
    Reply::json(200, &json!({ "epoch": engine.epoch, "logs": logs }))
}
