//! A server connection and its statements.
//!
//! Invariants: a connection is handed out only after the server proved fit (version, synchronous commit,
//! message language); a statement that is given up on is not cancelled, and its connection never serves
//! another one.

use crate::config::{Access, ConnectConfig};
use crate::error::{Error, Kind};
use crate::link::{self, Link};
use crate::transaction::Tx;
use crate::wait::{self, Wait};
use crate::{SERVER_VERSION_MIN, STATEMENT_GRACE_MS, STATEMENTS_CACHED_MAX, observe};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use tracing::Instrument;

/// Parameters of a statement.
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What can read rows: a session, a transaction, a connection.
pub trait Query: Sync {
    /// Runs a statement, prepared once per connection, and returns its rows.
    fn query(
        &self,
        sql: &str,
        params: Params<'_>,
    ) -> impl Future<Output = Result<Vec<Row>, Error>> + Send;
}

/// A connection of one's own, for what is not done through a pool. Statements outside a transaction commit
/// by themselves; one that the second region did not confirm fails with [`Class::Unconfirmed`](crate::Class::Unconfirmed).
pub struct Connection {
    client: Client,
    wire: Wire,
}

/// Connects to a server and checks that it is fit.
pub async fn connect(config: &ConnectConfig) -> Result<Connection, Error> {
    Connection::open(config, Access::Direct).await
}

impl Connection {
    pub(crate) async fn open(config: &ConnectConfig, access: Access) -> Result<Self, Error> {
        let target = config.target();
        let limit_ms = config.connect_timeout_ms;
        let started = Instant::now();
        let opening = async {
            let (client, link) = link::open(config, access)
                .await
                .map_err(|source| Error::driver("connect", &target, &source))?;
            let connection = Self { client, wire: Wire::new(config, Arc::clone(&target), link) };
            connection.prove_fit().await?;
            Ok(connection)
        };
        let outcome = timeout(Duration::from_millis(limit_ms), opening)
            .instrument(observe::span("connect", &target))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(Error::new("connect", &target, Kind::Timeout { limit_ms }))
            });
        observe::finished("connect", started, &outcome);
        outcome
    }

    async fn prove_fit(&self) -> Result<(), Error> {
        let row = self
            .query_one(
                "SELECT current_setting('server_version_num')::int, \
                 current_setting('synchronous_commit'), current_setting('lc_messages')",
                &[],
            )
            .await?;
        let decode = |source| Error::decode("connect", source);
        let version: i32 = row.try_get(0).map_err(decode)?;
        let synchronous_commit: &str = row.try_get(1).map_err(decode)?;
        let language: &str = row.try_get(2).map_err(decode)?;
        let unfit = if version < SERVER_VERSION_MIN {
            format!("server_version_num is {version}, at least {SERVER_VERSION_MIN} is needed")
        } else if synchronous_commit != "on" {
            format!("synchronous_commit is {synchronous_commit}, it must be on")
        } else if !is_english(language) {
            format!("lc_messages is {language}, it must be C or English")
        } else {
            return Ok(());
        };
        Err(self.wire.error("connect", Kind::Unfit(unfit)))
    }

    /// Runs a statement, prepared once per connection, and returns its rows.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        self.wire.query(&self.client, sql, params).await
    }

    /// As [`Self::query`], for at most one row.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        self.wire.query_opt(&self.client, sql, params).await
    }

    /// As [`Self::query`], for exactly one row.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.wire.query_one(&self.client, sql, params).await
    }

    /// Runs a statement, prepared once per connection, and returns how many rows it touched.
    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Error> {
        self.wire.execute(&self.client, sql, params).await
    }

    /// Runs statements without parameters, outside any transaction of this crate.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.wire.run(observe::operation(sql), self.client.batch_execute(sql)).await
    }

    /// Starts a transaction that may write.
    pub async fn begin(&mut self) -> Result<Tx<'_>, Error> {
        Tx::begin(&mut self.client, &self.wire).await
    }

    /// Waits for notifications of the channels that a `LISTEN` named, and takes their payloads. They are hints: one may
    /// be lost, as when the connection is, and equal ones are told once.
    pub async fn notified(&self) -> BTreeSet<String> {
        self.wire.link.heard().await
    }

    /// Whether the connection has ended or was given up on.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed() || self.wire.retired.load(Ordering::Acquire)
    }

    /// Whether another user may have it: alive, and nothing sent to it is unanswered.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.is_closed() && self.wire.unanswered.load(Ordering::Acquire) == 0
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.wire.link
    }

    /// What is known of the wait of this session's commits.
    pub(crate) fn wait(&self) -> Wait {
        self.wire.wait()
    }

    /// Asks the server whether this session's commits wait. A failure retires it.
    pub(crate) async fn ask_wait(&self) -> Result<Wait, Error> {
        let retired = &self.wire.retired;
        let wait = wait::ask(self).await.inspect_err(|_| retired.store(true, Ordering::Release))?;
        self.wire.waits.store(wait == Wait::Kept, Ordering::Release);
        Ok(wait)
    }
}

impl Query for Connection {
    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        Self::query(self, sql, params).await
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("target", &self.wire.target).finish_non_exhaustive()
    }
}

/// How statements are sent, timed, counted and prepared on one connection.
pub(crate) struct Wire {
    pub(crate) target: Arc<str>,
    pub(crate) link: Arc<Link>,
    /// Set when the connection must never serve again.
    pub(crate) retired: AtomicBool,
    /// Statements sent whose answer nobody has seen; given-up ones are never subtracted.
    pub(crate) unanswered: AtomicUsize,
    /// Commits wait for the second region, as the server has said.
    waits: AtomicBool,
    statements: Mutex<HashMap<Box<str>, Statement>>,
    limit_ms: u64,
}

impl Wire {
    fn new(config: &ConnectConfig, target: Arc<str>, link: Arc<Link>) -> Self {
        Self {
            target,
            link,
            retired: AtomicBool::new(false),
            unanswered: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            statements: Mutex::default(),
            limit_ms: config.statement_timeout_ms.saturating_add(STATEMENT_GRACE_MS),
        }
    }

    pub(crate) fn error(&self, operation: &'static str, kind: Kind) -> Error {
        Error::new(operation, &self.target, kind)
    }

    pub(crate) fn wait(&self) -> Wait {
        if self.waits.load(Ordering::Acquire) { Wait::Kept } else { Wait::NotKnown }
    }

    pub(crate) async fn query(
        &self,
        client: &Client,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.run(observe::operation(sql), async {
            client.query(&self.prepared(client, sql).await?, params).await
        })
        .await
    }

    pub(crate) async fn query_opt(
        &self,
        client: &Client,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Option<Row>, Error> {
        self.run(observe::operation(sql), async {
            client.query_opt(&self.prepared(client, sql).await?, params).await
        })
        .await
    }

    pub(crate) async fn query_one(
        &self,
        client: &Client,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Row, Error> {
        self.run(observe::operation(sql), async {
            client.query_one(&self.prepared(client, sql).await?, params).await
        })
        .await
    }

    pub(crate) async fn execute(
        &self,
        client: &Client,
        sql: &str,
        params: Params<'_>,
    ) -> Result<u64, Error> {
        self.run(observe::operation(sql), async {
            client.execute(&self.prepared(client, sql).await?, params).await
        })
        .await
    }

    /// Waits for an answer, at most as long as the server may take. Dropped early, the connection counts
    /// as having an unanswered statement for ever.
    pub(crate) async fn run<T>(
        &self,
        operation: &'static str,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        if self.retired.load(Ordering::Acquire) {
            return Err(self.error(operation, Kind::Retired));
        }
        let started = Instant::now();
        self.unanswered.fetch_add(1, Ordering::AcqRel);
        let answer = timeout(Duration::from_millis(self.limit_ms), statement)
            .instrument(observe::span(operation, &self.target))
            .await;
        let outcome = match answer {
            Err(_elapsed) => Err(self.error(operation, Kind::Timeout { limit_ms: self.limit_ms })),
            Ok(answer) => {
                self.unanswered.fetch_sub(1, Ordering::AcqRel);
                self.judge(operation, answer)
            }
        };
        observe::finished(operation, started, &outcome);
        outcome
    }

    fn judge<T>(
        &self,
        operation: &'static str,
        answer: Result<T, tokio_postgres::Error>,
    ) -> Result<T, Error> {
        if self.link.unconfirmed() {
            self.retired.store(true, Ordering::Release);
        }
        answer
            .map_err(|source| {
                // A statement prepared before a schema change: a new connection prepares it anew.
                let stale = [SqlState::FEATURE_NOT_SUPPORTED, SqlState::INVALID_SQL_STATEMENT_NAME];
                if source.code().is_some_and(|code| stale.contains(code)) {
                    self.retired.store(true, Ordering::Release);
                }
                Error::driver(operation, &self.target, &source)
            })
            .and_then(|value| {
                if self.link.unconfirmed() {
                    Err(self.error(operation, Kind::Unconfirmed))
                } else {
                    Ok(value)
                }
            })
    }

    async fn prepared(
        &self,
        client: &Client,
        sql: &str,
    ) -> Result<Statement, tokio_postgres::Error> {
        let statements = || self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = statements().get(sql).cloned() {
            return Ok(statement);
        }
        let statement = client.prepare(sql).await?;
        let mut statements = statements();
        if statements.len() >= STATEMENTS_CACHED_MAX {
            statements.clear();
        }
        statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }
}

fn is_english(language: &str) -> bool {
    ["", "C", "POSIX"].contains(&language)
        || ["C.", "en_", "en-", "English"].iter().any(|prefix| language.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::is_english;

    #[test]
    fn only_english_messages_are_understood() {
        for good in ["", "C", "POSIX", "C.UTF-8", "en_US.UTF-8", "English_United States.1252"] {
            assert!(is_english(good), "{good}");
        }
        for bad in ["de_DE.UTF-8", "mt_MT", "Czech"] {
            assert!(!is_english(bad), "{bad}");
        }
    }
}
