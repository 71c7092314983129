//! Operators' requests: signed, within the time window, each with one effect.

use super::{Found, Incoming, Operation, losses, parse};
use crate::answer::{Failure, Handled};
use crate::change::{self, Once};
use crate::engine::Engine;
use crate::gates::Turn;
use crate::ledger::operators::Operator;
use crate::ledger::requests::RequestId;
use crate::loss::{Claim, Claimant};
use crate::round::{CloseRound, EndRound, Ending, OpenRound, OpenRoundBody, ReadRound};
use crate::session::{OpenSession, OpenSessionBody, RevokeSession, check_captcha};
use axum::response::{IntoResponse, Response};
use domicile_core::error::Code;
use domicile_core::hex;
use domicile_core::ids::{RequestKey, RoundId, SessionId};
use domicile_core::leaf::VoidReason;
use domicile_core::operator_auth::{
    Credentials, KEY_ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The body of a request that needs nothing but its key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyOnly {
    request_id: Option<RequestKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VoidBody {
    request_id: Option<RequestKey>,
    reason: Option<String>,
}

pub(super) async fn serve(engine: Found, operation: Operation, incoming: Incoming) -> Response {
    match handle(engine, operation, &incoming).await {
        Ok(acknowledged) => acknowledged.into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn handle(engine: Found, operation: Operation, incoming: &Incoming) -> Handled {
    let engine = engine?;
    let signed = Signed::verify(&engine, incoming).await?;
    match operation {
        Operation::OpenSession => open_session(&engine, &signed).await,
        Operation::RevokeSession => revoke_session(&engine, &signed).await,
        Operation::OpenRound => open_round(&engine, &signed).await,
        Operation::CloseRound => close_round(&engine, &signed).await,
        Operation::SettleRound => {
            let body: KeyOnly = parse(&incoming.body)?;
            end_round(&engine, &signed, body.request_id, Ending::Settle).await
        }
        Operation::VoidRound => {
            let body: VoidBody = parse(&incoming.body)?;
            let reason = match body.reason.as_deref() {
                None => VoidReason::Operator,
                Some(text) => VoidReason::parse(text).map_err(|_unknown| {
                    Failure::with(Code::MalformedBody, "reason: operator, expired or suspended")
                })?,
            };
            end_round(&engine, &signed, body.request_id, Ending::Void(reason)).await
        }
        Operation::FileLoss => file_loss(&engine, &signed).await,
        Operation::ReadRound => {
            let operator = Arc::clone(&signed.operator);
            let change = ReadRound { operator, round: signed.round()? };
            change::execute(&engine, &signed.once(None), &change).await
        }
        _ => Err(Failure::new(Code::NotFound)),
    }
}

/// Honoured at once where that needs no kept row, which the cluster's operator has to bring; else filed.
async fn file_loss(engine: &Engine, signed: &Signed<'_>) -> Handled {
    let body: losses::FileBody = parse(&signed.incoming.body)?;
    let by = Claimant::Operator(signed.operator.id.clone());
    let claim = Claim::new(engine, body.receipt, by)?;
    losses::carry_out(engine, &signed.once(body.request_id.as_ref()), &claim).await
}

async fn open_session(engine: &Engine, signed: &Signed<'_>) -> Handled {
    let body: OpenSessionBody = parse(&signed.incoming.body)?;
    let once = signed.once(body.request_id.as_ref());
    let change = OpenSession { operator: Arc::clone(&signed.operator), body };
    change.check(engine)?;
    check_captcha(engine, &signed.operator.id, &once, change.body.captcha.as_ref()).await?;
    change::execute(engine, &once, &change).await
}

async fn revoke_session(engine: &Engine, signed: &Signed<'_>) -> Handled {
    let body: KeyOnly = parse(&signed.incoming.body)?;
    let session = signed.incoming.id(SessionId::parse, Code::NotFound)?;
    let _turn = turn(engine.sessions.exclusive(&session).await)?;
    let change = RevokeSession { operator: Arc::clone(&signed.operator), session };
    change::execute(engine, &signed.once(body.request_id.as_ref()), &change).await
}

async fn open_round(engine: &Engine, signed: &Signed<'_>) -> Handled {
    let body: OpenRoundBody = parse(&signed.incoming.body)?;
    let once = signed.once(body.request_id.as_ref());
    let change = OpenRound { operator: Arc::clone(&signed.operator), body, slot: None };
    change.check(engine)?;
    change::execute(engine, &once, &change).await
}

async fn close_round(engine: &Engine, signed: &Signed<'_>) -> Handled {
    let body: KeyOnly = parse(&signed.incoming.body)?;
    let round = signed.round()?;
    let _turn = turn(engine.rounds.exclusive(&round).await)?;
    let change = CloseRound { operator: signed.operator.id.clone(), round };
    change::execute(engine, &signed.once(body.request_id.as_ref()), &change).await
}

async fn end_round(
    engine: &Engine,
    signed: &Signed<'_>,
    key: Option<RequestKey>,
    ending: Ending,
) -> Handled {
    let round = signed.round()?;
    let _turn = turn(engine.rounds.exclusive(&round).await)?;
    let change = EndRound { operator: signed.operator.id.clone(), round, ending };
    change::execute(engine, &signed.once(key.as_ref()), &change).await
}

fn turn<K>(turn: Result<Turn<K>, crate::gates::Crowded>) -> Result<Turn<K>, Failure>
where
    K: Eq + std::hash::Hash + Clone,
{
    turn.map_err(|_crowded| Failure::new(Code::WriterOverloaded))
}

/// A request whose signature is right.
struct Signed<'a> {
    operator: Arc<Operator>,
    incoming: &'a Incoming,
}

impl<'a> Signed<'a> {
    async fn verify(engine: &Engine, incoming: &'a Incoming) -> Result<Self, Failure> {
        let header = |name| incoming.header(name);
        let credentials = Credentials::parse(
            header(KEY_ID_HEADER),
            header(TIMESTAMP_HEADER),
            header(SIGNATURE_HEADER),
        )?;
        let credential = engine.directory.credential(&credentials.key_id).await?;
        credentials.verify(
            &credential.secret,
            incoming.head.method.as_str(),
            incoming.target(),
            &incoming.body,
            engine.clock.now_unix_s(),
        )?;
        let operator = engine.directory.operator(&credential.operator).await?;
        Ok(Self { operator, incoming })
    }

    fn round(&self) -> Result<RoundId, Failure> {
        self.incoming.id(RoundId::parse, Code::RoundNotFound)
    }

    /// The key of this request: its request id, or else its signature, which is good for once.
    fn once(&self, key: Option<&RequestKey>) -> Once {
        let (scope, id) = if let Some(key) = key {
            (format!("op:{}", self.operator.id), key.to_string())
        } else {
            let signature = self.incoming.header(SIGNATURE_HEADER).unwrap_or_default();
            (format!("sig:{}", self.operator.id), hex::encode(&Sha256::digest(signature)))
        };
        let head = &self.incoming.head;
        let (method, path) = (head.method.as_str(), head.uri.path());
        let id = RequestId::new(scope, id, method, path, &self.incoming.body);
        Once { id, repeatable: key.is_some() }
    }
}
