//! Administration by persons: each request read strictly, with who asks and why.

use super::{Incoming, Operation, parse};
use crate::admin::games::{self, Act, GameBody};
use crate::admin::operators::{ChangeBody, NewBody};
use crate::admin::records::{RecordBody, Submit};
use crate::admin::sessions::{self, RevokeBody};
use crate::admin::{credentials, feed, operators};
use crate::answer::{Failure, Handled, Reply};
use crate::change;
use crate::engine::Engine;
use crate::limits;
use crate::operations::{MadeBy, read};
use domicile_core::error::Code;
use domicile_core::ids::{GameCode, OperatorId};
use domicile_core::limits::OPERATOR_KEY_ID_MAX_BYTES;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// What takes nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    pub(super) reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    overlap_s: u64,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    from: u64,
    limit: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prove {
    id: Option<Uuid>,
    from_size: Option<u64>,
}

pub(super) async fn handle(engine: &Engine, operation: Operation, incoming: &Incoming) -> Handled {
    let operator = || incoming.id(OperatorId::parse, Code::NotFound);
    let body = &incoming.body;
    match operation {
        Operation::CreateOperator => {
            let body: NewBody = parse(body)?;
            let by = by(incoming, &body.reason)?;
            operators::create(engine, body, &by).await
        }
        Operation::ListOperators => {
            operators::list(engine, query(incoming, "after").unwrap_or_default()).await
        }
        Operation::ShowOperator => operators::show(engine, &operator()?).await,
        Operation::ChangeOperator => {
            let body: ChangeBody = parse(body)?;
            let by = by(incoming, &body.reason)?;
            operators::change(engine, &operator()?, body, &by).await
        }
        Operation::AddCredential => {
            let by = by(incoming, &parse::<Reason>(body)?.reason)?;
            credentials::add(engine, &operator()?, None, &by).await
        }
        Operation::RotateCredential => {
            let Rotate { overlap_s, reason } = parse(body)?;
            credentials::add(engine, &operator()?, Some(overlap_s), &by(incoming, &reason)?).await
        }
        Operation::RevokeCredential => {
            let by = by(incoming, &parse::<Reason>(body)?.reason)?;
            let fits = |id: &str| {
                let fits = (1..=OPERATOR_KEY_ID_MAX_BYTES).contains(&id.len());
                if fits { Ok(id.to_owned()) } else { Err(()) }
            };
            credentials::revoke(engine, &incoming.id(fits, Code::NotFound)?, &by).await
        }
        Operation::RevokeSessions => {
            let body: RevokeBody = parse(body)?;
            sessions::revoke(engine, &body, &by(incoming, &body.reason)?).await
        }
        Operation::Revocations => feed::tell(engine, query(incoming, "after")).await,
        Operation::ShowGame
        | Operation::SetGame
        | Operation::SuspendGame
        | Operation::ResumeGame => game(engine, operation, (&operator()?, incoming)).await,
        _ => operations(engine, operation, incoming).await,
    }
}

async fn game(
    engine: &Engine,
    operation: Operation,
    (operator, incoming): (&OperatorId, &Incoming),
) -> Handled {
    let code = incoming.game.as_deref().and_then(|code| GameCode::parse(code).ok());
    let code = code.ok_or(Failure::new(Code::GameUnknown))?;
    let of = (operator, &code);
    let act = match operation {
        Operation::SetGame => {
            let body: GameBody = parse(&incoming.body)?;
            let by = by(incoming, &body.reason)?;
            return games::act(engine, of, &Act::Set(body), &by).await;
        }
        Operation::SuspendGame => Act::Suspend,
        Operation::ResumeGame => Act::Resume,
        _ => return games::show(engine, of).await,
    };
    let Reason { reason } = parse(&incoming.body)?;
    games::act(engine, of, &act, &by(incoming, &reason)?).await
}

async fn operations(engine: &Engine, operation: Operation, incoming: &Incoming) -> Handled {
    match operation {
        Operation::OperationsHead => {
            let session = engine.hands.session().await?;
            let head = read::head(&session).await?;
            drop(session);
            let head = head.ok_or(Failure::new(Code::ProofNotReady))?;
            let answer = json!({ "size": head.size, "checkpoint": head.note });
            engine.acknowledge(Reply::json(200, &answer)).await
        }
        Operation::ReadOperations => entries(engine, &parse(&incoming.body)?).await,
        Operation::ProveOperations => prove(engine, &parse(&incoming.body)?).await,
        Operation::SubmitRecord => {
            let body: RecordBody = parse(&incoming.body)?;
            if !body.is_sound() {
                let detail = "id, verb, outcome and actor are 1-128 bytes; sha256 is 64 hex digits";
                return Err(Failure::with(Code::MalformedBody, detail));
            }
            let by = by(incoming, &body.reason)?;
            change::execute(engine, &body.once(), &Submit { body: &body, by: &by }).await
        }
        _ => Err(Failure::new(Code::NotFound)),
    }
}

async fn entries(engine: &Engine, page: &Page) -> Handled {
    let session = engine.hands.session().await?;
    let head = read::head(&session).await?.ok_or(Failure::new(Code::ProofNotReady))?;
    let limit = i64::from(page.limit).min(limits::OPERATIONS_PAGE);
    let entries = read::entries(&session, &head, page.from, limit).await?;
    drop(session);
    let answer = json!({ "checkpoint": head.note, "size": head.size, "entries": entries });
    engine.acknowledge(Reply::json(200, &answer)).await
}

async fn prove(engine: &Engine, asked: &Prove) -> Handled {
    let session = engine.hands.session().await?;
    let head = read::head(&session).await?.ok_or(Failure::new(Code::ProofNotReady))?;
    let (mut entry, mut inclusion, mut consistency) = (None, None, None);
    if let Some(id) = asked.id {
        let index = read::index(&session, &head, id).await?;
        let index = index.ok_or(Failure::new(Code::NotFound))?;
        entry = read::entries(&session, &head, index, 1).await?.pop();
        inclusion = Some(read::inclusion(&session, &head, index).await?);
    }
    if let Some(from) = asked.from_size {
        consistency = Some(read::consistency(&session, &head, from).await?);
    }
    drop(session);
    let answer = json!({
        "checkpoint": head.note, "size": head.size, "entry": entry, "inclusion": inclusion,
        "consistency": consistency,
    });
    engine.acknowledge(Reply::json(200, &answer)).await
}

/// The person who asks, with a reason.
pub(super) fn by(incoming: &Incoming, reason: &str) -> Result<MadeBy, Failure> {
    MadeBy::new(&incoming.head.extensions, reason)
}

/// A query parameter; none of them needs decoding.
fn query<'a>(incoming: &'a Incoming, name: &str) -> Option<&'a str> {
    let pairs = incoming.head.uri.query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
}
