//! A database session of one's own beside the pool: what is held there is held for as long as the session lives.
//!
//! Processes of one region share work by session-level advisory locks. Whoever has one must know at once when it is
//! gone, and a process that hangs must not keep it. Invariants: every statement ends within [`limits::DESK_PATIENCE`] or
//! the desk counts as lost here; the server ends a session that says nothing for [`limits::DESK_SILENCE`], which is
//! longer, so that nobody else holds the lock before its holder has given up. The locks share work out; they fence
//! nothing: that the epoch and the rows do.
//! Deliberately absent: transactions.

use crate::limits;
use domicile_postgres::types::ToSql;
use domicile_postgres::{Connection, Error, Pool, Row};
use std::collections::BTreeSet;
use tokio::time::timeout;

/// Why a desk is lost.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The session is over, or its statement failed.
    #[error(transparent)]
    Database(#[from] Error),
    /// The server did not answer in time.
    #[error("the database does not answer")]
    Silent,
}

/// What is shared out: the first half of an advisory lock's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Shared {
    /// Writing an epoch's logs.
    Logs = 1,
}

/// A session of one's own.
pub struct Desk {
    connection: Connection,
    channel: &'static str,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Desk {
    /// Opens a session that hears `channel`.
    pub async fn open(pool: &Pool, channel: &'static str) -> Result<Self, DeskError> {
        let connection = pool.apart().await?;
        let silence_ms = limits::DESK_SILENCE.as_millis();
        let begin = format!("SET idle_session_timeout = {silence_ms}; LISTEN {channel}");
        in_time(connection.batch_execute(&begin)).await?;
        Ok(Self { connection, channel })
    }

    /// Takes the lock, unless somebody has it. What is taken twice has to be given back twice.
    pub async fn take(&self, shared: Shared, key: i32) -> Result<bool, DeskError> {
        let sql = "SELECT pg_try_advisory_lock($1, $2)";
        let rows = self.query(sql, &[&(shared as i32), &key]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Gives every lock back.
    pub async fn give_back(&self) -> Result<(), DeskError> {
        self.query("SELECT pg_advisory_unlock_all()", &[]).await.map(drop)
    }

    /// Shows the server that the process lives, and that the session does.
    pub async fn show_up(&self) -> Result<(), DeskError> {
        self.query("SELECT 1", &[]).await.map(drop)
    }

    /// Reads.
    pub async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DeskError> {
        in_time(self.connection.query(sql, params)).await
    }

    /// Tells every desk on the channel, this one included.
    pub async fn tell(&self, words: &[String]) -> Result<(), DeskError> {
        let sql = "SELECT pg_notify($1, word) FROM unnest($2::text[]) word";
        self.query(sql, &[&self.channel, &words]).await.map(drop)
    }

    /// Waits for what others tell. Hints: words can be lost.
    pub async fn hear(&self) -> BTreeSet<String> {
        self.connection.notified().await
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, DeskError> {
    Ok(timeout(limits::DESK_PATIENCE, answer).await.map_err(|_elapsed| DeskError::Silent)??)
}
