//! The cluster's own command line registers operators and their credentials, and reads the log gates' evidence.
//!
//! A credential's secret is drawn here, stored sealed and told once.

use super::{Found, Incoming, Operation, parse, wallets};
use crate::answer::{Acknowledged, Failure, Handled, Reply, Verdict};
use crate::directory::seal_context;
use crate::engine::Engine;
use crate::ledger::WriteError;
use crate::ledger::operators::{self, Operator};
use crate::limits;
use crate::log::LogState;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domicile_core::error::Code;
use domicile_core::games;
use domicile_core::ids::{GameCode, Jurisdiction, OperatorId};
use domicile_core::limits::OPERATOR_KEY_ID_MAX_BYTES;
use domicile_postgres::Tx;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorBody {
    id: OperatorId,
    name: String,
    jurisdictions: Vec<Jurisdiction>,
    games: Vec<GameCode>,
    allowed_origins: Vec<String>,
    launch_base_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) async fn serve(engine: Found, operation: Operation, incoming: Incoming) -> Response {
    match handle(engine, operation, &incoming).await {
        Ok(acknowledged) => acknowledged.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn handle(engine: Found, operation: Operation, incoming: &Incoming) -> Handled {
    let engine = engine?;
    match operation {
        Operation::CreateOperator => {
            create_operator(&engine, parse::<OperatorBody>(&incoming.body)?.checked()?).await
        }
        Operation::AddCredential => {
            let _: Nothing = parse(&incoming.body)?;
            let operator = incoming.id(OperatorId::parse, Code::NotFound)?;
            add_credential(&engine, &engine.directory.operator(&operator).await?.id).await
        }
        Operation::RevokeCredential => {
            let _: Nothing = parse(&incoming.body)?;
            let fits = |id: &str| {
                let fits = (1..=OPERATOR_KEY_ID_MAX_BYTES).contains(&id.len());
                if fits { Ok(id.to_owned()) } else { Err(()) }
            };
            revoke_credential(&engine, &incoming.id(fits, Code::NotFound)?).await
        }
        Operation::ReadLogGate => engine.acknowledge(log_gate(&engine)).await,
        _ => wallets::handle(&engine, operation, incoming).await,
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
    let logs: Vec<_> = engine.log.jurisdictions().into_iter().map(log).collect();
    Reply::json(200, &json!({ "epoch": engine.epoch, "logs": logs }))
}

impl OperatorBody {
    fn checked(self) -> Result<Self, Failure> {
        let refuse = |detail: &'static str| Err(Failure::with(Code::MalformedBody, detail));
        let few = |count: usize| count <= limits::OPERATOR_LIST_ENTRIES;
        if self.jurisdictions.is_empty() || self.games.is_empty() {
            return refuse("an operator has at least one jurisdiction and one game");
        }
        let short = |text: &str| {
            (1..=limits::OPERATOR_TEXT_BYTES).contains(&text.len())
                && !text.chars().any(char::is_control)
        };
        if !few(self.jurisdictions.len())
            || !few(self.games.len())
            || !few(self.allowed_origins.len())
        {
            return refuse("jurisdictions, games and allowed_origins hold at most 64 entries each");
        }
        if !short(&self.name) || !short(&self.launch_base_url) || self.launch_base_url.contains('#')
        {
            return refuse("name and launch_base_url are 1-256 bytes; the latter has no fragment");
        }
        if !self.allowed_origins.iter().all(|origin| short(origin) && is_origin(origin)) {
            return refuse("an allowed origin is scheme://host[:port] without a path");
        }
        if let Some(game) = self.games.iter().find(|code| games::game(code).is_none()) {
            return Err(Failure::with(
                Code::GameUnknown,
                format!("{game} is not a game of this build"),
            ));
        }
        Ok(self)
    }
}

/// `https://host[:port]`, or `http` for a developer's machine.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']))
}

async fn create_operator(engine: &Engine, body: OperatorBody) -> Handled {
    let operator = Operator {
        id: body.id,
        jurisdictions: body.jurisdictions,
        games: body.games,
        allowed_origins: body.allowed_origins,
        launch_base_url: body.launch_base_url,
        enabled: true,
    };
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let added = operators::insert(&tx, engine.epoch, &operator, &body.name).await;
    if !added.map_err(not_written)? {
        tx.rollback().await?;
        drop(session);
        return engine.acknowledge(Err(Failure::new(Code::OperatorExists))).await;
    }
    let verdict = issue(engine, &tx, &operator.id).await?;
    let durable = tx.commit(limits::COMMIT_WAIT).await?;
    Ok(Acknowledged::new(&durable, verdict))
}

async fn add_credential(engine: &Engine, operator: &OperatorId) -> Handled {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let verdict = issue(engine, &tx, operator).await?;
    let durable = tx.commit(limits::COMMIT_WAIT).await?;
    Ok(Acknowledged::new(&durable, verdict))
}

/// Draws and stores a credential; the answer tells its secret.
async fn issue(engine: &Engine, tx: &Tx<'_>, operator: &OperatorId) -> Result<Verdict, Failure> {
    let key_id = format!("key-{}", engine.ids.uuid_v4().simple());
    let secret = Zeroizing::new(engine.ids.bytes::<32>());
    let sealed = engine.keys.seal(&seal_context(&key_id), &*secret)?;
    let now = engine.clock.now_unix_s();
    operators::insert_credential(tx, engine.epoch, (&key_id, operator), &sealed, now)
        .await
        .map_err(not_written)?;
    let secret_b64 = Zeroizing::new(STANDARD.encode(*secret));
    let answer = json!({ "operator": operator, "key_id": key_id, "secret_b64": *secret_b64 });
    Ok(Ok(Reply::json(201, &answer)?))
}

async fn revoke_credential(engine: &Engine, key_id: &str) -> Handled {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let verdict = match operators::revoke_credential(&tx, engine.epoch, key_id).await {
        Ok(()) => Reply::json(200, &json!({ "key_id": key_id, "revoked": true })),
        Err(WriteError::Shortfall) => Err(Failure::new(Code::NotFound)),
        Err(WriteError::Database(error)) => return Err(error.into()),
    };
    let durable = tx.commit(limits::COMMIT_WAIT).await?;
    Ok(Acknowledged::new(&durable, verdict))
}

pub(super) fn not_written(error: WriteError) -> Failure {
    match error {
        WriteError::Shortfall => Failure::new(Code::EpochFenced),
        WriteError::Database(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for good in ["https://play.example", "http://127.0.0.1:8080"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["*", "https://*.example", "https://a.example/", "ftp://a", "https://", "null"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
