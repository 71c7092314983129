//! The only crate that opens database connections.
//!
//! Invariants:
//! - A write is acknowledged by [`Durable`] alone, and [`Tx::commit`] is the only place that makes one: the
//!   server answered COMMIT, said nothing about synchronous replication, and the transaction wrote WAL.
//! - Nothing is ever cancelled. A statement or commit that is given up on leaves its connection to the
//!   task that drives it; the connection's place in the pool is free again when the server has ended it.
//! - A pooled session writes inside a transaction only: outside one the server refuses.
//! - Errors carry SQLSTATE and names of database objects, never values of statements.
//!
//! Deliberately absent: `SET synchronous_commit`, cancel tokens, retries, and waiting for a free session.

mod config;
mod connection;
mod error;
mod guard;
mod link;
pub mod log_rows;
mod observe;
mod pool;
mod schema;
mod transaction;
pub mod wait;

pub use config::{ConnectConfig, PoolConfig};
pub use connection::{Connection, Params, Query, connect};
pub use error::{Class, Error};
pub use guard::AnswerGuard;
pub use pool::{Pool, PoolState, Session};
pub use schema::{
    LEDGER_SCHEMA_VERSION, READER_SCHEMA_VERSION, SCHEMA_VERSION_SQL, schema_version,
};
pub use tokio_postgres::Row;
pub use tokio_postgres::types;
pub use transaction::{CommitError, Durable, Tx, UnknownCause};
pub use wait::Wait;

/// Oldest server that keeps failover slots synchronized, as `server_version_num`.
pub const SERVER_VERSION_MIN: i32 = 170_000;
/// Statements one connection keeps prepared; beyond it the cache starts anew.
pub const STATEMENTS_CACHED_MAX: usize = 256;
/// How much longer than the server's own statement timeout a client waits for the answer, ms.
pub const STATEMENT_GRACE_MS: u64 = 2_000;
/// How long a session may sit idle inside a transaction before the server ends it, ms. Nothing outside the database is
/// waited for inside a transaction: who is silent for so long is frozen, and everybody else waits for its row locks.
pub const IDLE_IN_TRANSACTION_MAX_MS: u64 = 5_000;
/// How long sent bytes may stay unacknowledged before a connection counts as lost, ms.
pub const TCP_USER_TIMEOUT_MS: u64 = 10_000;
/// Silence after which TCP keepalive probes start, s.
pub const KEEPALIVE_IDLE_S: u64 = 5;
/// Pause between TCP keepalive probes, s.
pub const KEEPALIVE_INTERVAL_S: u64 = 2;
/// Notifications that a connection keeps for its user; more are dropped.
pub const NOTIFICATIONS_KEPT_MAX: usize = 1_024;
/// Unanswered TCP keepalive probes after which a connection counts as lost.
pub const KEEPALIVE_RETRIES: u32 = 3;
