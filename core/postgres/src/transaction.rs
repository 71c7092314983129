//! A transaction and its end: durable, not executed, or unknown.
//!
//! Invariants:
//! - [`Durable`] means that the commit record is on disk here and in the second region. A transaction that
//!   is not known to have written gets a fence first, because the server lets a commit without WAL pass
//!   without waiting for anyone.
//! - A pool's guard, where there is one, is asked last: what it does not let out is unknown.
//! - From the moment COMMIT may have been sent, only the server's own refusal is "not executed".
//! - A transaction in which a statement failed or was given up on cannot be committed: the server would
//!   answer such a COMMIT with success and roll back.
//!
//! Deliberately absent: savepoints, retries, cancel.

use crate::connection::{Params, Query, Wire};
use crate::error::{Error, Kind};
use crate::guard::AnswerGuard;
use crate::observe;
use crate::wait::Wait;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Transaction};
use tracing::Instrument;

const FENCE: &str = "SELECT pg_logical_emit_message(true, 'domicile.fence', '')";

/// Proof that a transaction is on disk in two regions (in `durability: one`: on this one's).
#[derive(Debug, Clone, Copy)]
pub struct Durable(());

/// Why a commit's outcome is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownCause {
    /// The server committed here and said that the second region did not confirm.
    SyncWarning,
    /// No answer by the caller's deadline.
    Deadline,
    /// The connection ended before the answer.
    ConnectionLost,
    /// An administrator or a crash ended the session.
    AdminTerminated,
    /// The server confirmed, but the pool's guard no longer lets this process tell anybody.
    NotGuarded,
}

impl UnknownCause {
    /// The cause as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyncWarning => "sync-warning",
            Self::Deadline => "deadline",
            Self::ConnectionLost => "connection-lost",
            Self::AdminTerminated => "admin-terminated",
            Self::NotGuarded => "not-guarded",
        }
    }
}

impl std::fmt::Display for UnknownCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A commit without proof of durability.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Perhaps executed, perhaps in one region only: ask again under the same key.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(UnknownCause),
    /// Certainly not executed.
    #[error(transparent)]
    NotExecuted(#[from] Error),
}

/// A transaction. Dropped without commit, it is rolled back.
pub struct Tx<'s> {
    inner: Transaction<'s>,
    wire: &'s Wire,
    guard: Option<&'s dyn AnswerGuard>,
    failed: AtomicBool,
    wrote: AtomicBool,
}

impl<'s> Tx<'s> {
    pub(crate) async fn begin(client: &'s mut Client, wire: &'s Wire) -> Result<Self, Error> {
        let inner = wire.run("begin", client.build_transaction().read_only(false).start()).await?;
        let (failed, wrote) = Default::default();
        Ok(Self { inner, wire, guard: None, failed, wrote })
    }

    pub(crate) fn guarded(self, guard: Option<&'s dyn AnswerGuard>) -> Self {
        Self { guard, ..self }
    }

    /// Runs a statement, prepared once per connection, and returns its rows. Statements may be sent
    /// together (`try_join!`): they run in the order they are first polled.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        self.note(self.wire.query(self.inner.client(), sql, params).await)
    }

    /// As [`Self::query`], for at most one row.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        self.note(self.wire.query_opt(self.inner.client(), sql, params).await)
    }

    /// As [`Self::query`], for exactly one row.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.note(self.wire.query_one(self.inner.client(), sql, params).await)
    }

    /// Runs a statement, prepared once per connection, and returns how many rows it touched.
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        let touched = self.note(self.wire.execute(self.inner.client(), sql, params).await)?;
        if touched > 0 && ["insert", "update", "delete"].contains(&observe::operation(sql)) {
            self.wrote.store(true, Ordering::Release);
        }
        Ok(touched)
    }

    /// Runs statements without parameters.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        let operation = observe::operation(sql);
        self.note(self.wire.run(operation, self.inner.client().batch_execute(sql)).await)
    }

    /// Makes this transaction's commit wait for the second region although it only read. Commit does so by
    /// itself when nothing was written; calling it early lets it travel with the other statements.
    pub async fn fence(&self) -> Result<(), Error> {
        self.note(self.wire.query(self.inner.client(), FENCE, &[]).await)?;
        self.wrote.store(true, Ordering::Release);
        Ok(())
    }

    /// Commits and waits for the second region, at most until `deadline`. An unknown outcome retires the
    /// session; the server goes on waiting, and so does the session's place in its pool.
    pub async fn commit(self, deadline: Duration) -> Result<Durable, CommitError> {
        let started = Instant::now();
        let (wire, span) = (self.wire, observe::span("commit", &self.wire.target));
        let outcome = self.finish(deadline).instrument(span).await;
        match &outcome {
            Ok(_) => observe::finished("commit", started, &Ok(())),
            Err(CommitError::NotExecuted(_)) => {
                metrics::counter!("domicile_postgres_commit_refused_total").increment(1);
            }
            Err(CommitError::Unknown(cause)) => {
                metrics::counter!("domicile_postgres_commit_unknown_total", "cause" => cause.as_str())
                    .increment(1);
                tracing::warn!(%cause, target_server = &*wire.target, "commit outcome unknown");
            }
        }
        outcome
    }

    async fn finish(self, deadline: Duration) -> Result<Durable, CommitError> {
        let until = Instant::now() + deadline;
        if self.failed.load(Ordering::Acquire) || self.wire.unanswered.load(Ordering::Acquire) > 0 {
            return Err(self.wire.error("commit", Kind::Failed).into());
        }
        if !self.wrote.load(Ordering::Acquire) {
            let limit_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            timeout(deadline, self.fence())
                .await
                .map_err(|_elapsed| self.wire.error("commit", Kind::Timeout { limit_ms }))??;
        }
        if self.inner.client().is_closed() {
            return Err(self.wire.error("commit", Kind::Retired).into());
        }
        let Self { inner, wire, guard, .. } = self;
        wire.link.forget_warnings();
        // Retired until the answer says otherwise: this future may be dropped while it waits.
        wire.retired.store(true, Ordering::Release);
        #[expect(clippy::disallowed_methods, reason = "the one commit of the whole system")]
        let answer = timeout(until.saturating_duration_since(Instant::now()), inner.commit()).await;
        let outcome = match answer {
            Err(_elapsed) => Err(CommitError::Unknown(UnknownCause::Deadline)),
            Ok(Ok(())) => {
                wire.acknowledged().and_then(|durable| tellable(durable, guard, wire.wait()))
            }
            Ok(Err(source)) => Err(wire.refused(&source)),
        };
        if !matches!(outcome, Err(CommitError::Unknown(_))) {
            wire.retired.store(false, Ordering::Release);
        }
        outcome
    }

    /// Ends the transaction without effect.
    pub async fn rollback(self) -> Result<(), Error> {
        self.wire.run("rollback", self.inner.rollback()).await
    }

    fn note<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if outcome.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        outcome
    }
}

impl Query for Tx<'_> {
    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        Self::query(self, sql, params).await
    }
}

impl std::fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("target", &self.wire.target).finish_non_exhaustive()
    }
}

/// The last question before anybody is told.
fn tellable(
    durable: Durable,
    guard: Option<&dyn AnswerGuard>,
    wait: Wait,
) -> Result<Durable, CommitError> {
    if guard.is_none_or(|guard| guard.holds(wait)) {
        Ok(durable)
    } else {
        Err(CommitError::Unknown(UnknownCause::NotGuarded))
    }
}

impl Wire {
    /// The server answered COMMIT with success: durable unless it warned meanwhile.
    fn acknowledged(&self) -> Result<Durable, CommitError> {
        if self.link.terminated() {
            Err(CommitError::Unknown(UnknownCause::AdminTerminated))
        } else if self.link.unconfirmed() || self.link.warned() {
            Err(CommitError::Unknown(UnknownCause::SyncWarning))
        } else {
            Ok(Durable(()))
        }
    }

    /// The server or the driver answered COMMIT with an error.
    fn refused(&self, source: &tokio_postgres::Error) -> CommitError {
        let error = Error::driver("commit", &self.target, source);
        if self.link.terminated() || error.sqlstate().is_some_and(|state| state.starts_with("57P"))
        {
            CommitError::Unknown(UnknownCause::AdminTerminated)
        } else if self.link.unconfirmed() {
            CommitError::Unknown(UnknownCause::SyncWarning)
        } else if error.sqlstate().is_some_and(precedes_commit_record) {
            CommitError::NotExecuted(error)
        } else {
            CommitError::Unknown(UnknownCause::ConnectionLost)
        }
    }
}

/// Whether COMMIT fails with this SQLSTATE only before the commit record is written: deferred constraints
/// and triggers, serialization, permissions. All else, being rare, counts as unknown.
fn precedes_commit_record(state: &str) -> bool {
    state != "40003" && matches!(state.get(..2), Some("22" | "23" | "40" | "42" | "44" | "P0"))
}
