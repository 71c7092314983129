//! The operations log's writing side: an entry is a pending leaf, written by the transaction of the change it tells of.
//!
//! It is sequenced and signed like the jurisdictions' logs; see [`domicile_core::operation`] for its form.
//! Invariant: a change that a person makes and its entry are one commit.

pub mod read;

use crate::answer::Failure;
use crate::engine::Engine;
use crate::ledger::WriteError;
use crate::limits;
use crate::pending::{self, PendingLeaf};
use domicile_core::error::Code;
use domicile_core::lines::{LineError, Text};
use domicile_core::operation::{self, Operation};
use domicile_postgres::{Durable, Tx};
use domicile_service::peer::Peer;
use serde_json::Value;
use uuid::Uuid;

/// Who makes a change, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBy {
    /// The name in the person's certificate.
    pub actor: String,
    /// The role in it.
    pub role: String,
    /// Why.
    pub reason: String,
}

impl MadeBy {
    /// The person at the other end of the connection, with a reason given.
    pub fn new(extensions: &http::Extensions, reason: &str) -> Result<Self, Failure> {
        let peer = extensions.get::<Peer>().ok_or(Failure::new(Code::PeerForbidden))?;
        let reason = reason.trim();
        let fits = (1..=operation::REASON_MAX_CHARS).contains(&reason.chars().count());
        if !fits || operation::line(reason).is_err() {
            let detail = "reason is 1-512 characters, fewer where they are not ASCII";
            return Err(Failure::with(Code::MalformedBody, detail));
        }
        let role = peer.0.role.as_str().to_owned();
        Ok(Self { actor: peer.0.uri(), role, reason: reason.to_owned() })
    }
}

/// What is entered.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Who, and why.
    pub by: &'a MadeBy,
    /// What was done, such as `game.suspend`.
    pub action: &'a str,
    /// To what.
    pub subject: &'a str,
    /// How it was; no secret, no player.
    pub before: Option<Value>,
    /// How it is now.
    pub after: Option<Value>,
}

/// Why an entry cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The rows were not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It cannot be written as lines.
    #[error(transparent)]
    Line(#[from] LineError),
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::Write(WriteError::Shortfall) => Self::new(Code::EpochFenced),
            EntryError::Write(WriteError::Database(error)) => error.into(),
            EntryError::Line(error) => Self::because(Code::Internal, &error),
        }
    }
}

/// Enters a change into the log, in the change's own transaction; [`commit`] ends it.
pub async fn append(engine: &Engine, tx: &Tx<'_>, entry: Entry<'_>) -> Result<Uuid, EntryError> {
    let id = engine.ids.uuid_v7();
    let leaf = leaf(id, engine.clock.now_unix_ms(), &entry)?;
    pending::enqueue(tx, engine.epoch, &[leaf]).await?;
    metrics::counter!("domicile_writer_operations_total", "action" => entry.action.to_owned())
        .increment(1);
    Ok(id)
}

/// Commits a transaction that may have left entries, and tells the log's sequencer of them.
pub async fn commit(engine: &Engine, tx: Tx<'_>) -> Result<Durable, Failure> {
    let durable = tx.commit(limits::COMMIT_WAIT).await?;
    told(engine);
    Ok(durable)
}

/// Tells the log's sequencer that a commit has left entries.
pub fn told(engine: &Engine) {
    engine.wake(operation::log().as_ref());
}

fn leaf(id: Uuid, at_unix_ms: u64, entry: &Entry<'_>) -> Result<PendingLeaf, LineError> {
    let Entry { by, action, subject, before, after } = entry;
    let state = |state: &Option<Value>| -> Result<Text, LineError> {
        operation::state(state.as_ref().map(Value::to_string).as_deref())
    };
    let operation = Operation {
        id,
        at_unix_ms,
        actor: operation::line(&by.actor)?,
        role: operation::line(&by.role)?,
        action: operation::line(action)?,
        subject: operation::line(subject)?,
        before: state(before)?,
        after: state(after)?,
        reason: operation::line(&by.reason)?,
    };
    Ok(PendingLeaf {
        jurisdiction: operation::log().ok_or(LineError("log"))?,
        id,
        subject: id,
        kind: operation::KIND,
        entry: operation.encode(),
    })
}
