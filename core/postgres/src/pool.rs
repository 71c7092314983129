//! A bounded pool that counts what the server still holds.
//!
//! Invariants: at most `size` server connections exist; a session that was given up on keeps its place
//! until its server connection has ended; who finds no place is refused at once, or
//! after the wait that was named.
//!
//! Deliberately not a general pool: those count clients, and free a place when the client is dropped, while
//! the server may hold the connection in a commit for minutes.

use crate::config::{Access, PoolConfig};
use crate::connection::{Connection, Params, Query};
use crate::error::{Error, Kind};
use crate::guard::AnswerGuard;
use crate::transaction::Tx;
use crate::wait::Wait;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_postgres::Row;

/// Server connections of one role to one database.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    target: Arc<str>,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    abandoned: AtomicUsize,
    closed: AtomicBool,
    guard: Option<Arc<dyn AnswerGuard>>,
}

/// How a pool's places are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolState {
    /// Places in all.
    pub size: usize,
    /// Places that hold a session in use or an abandoned one.
    pub taken: usize,
    /// Of those: given up on, still held by the server.
    pub abandoned: usize,
    /// Connections waiting for use.
    pub idle: usize,
}

impl Pool {
    /// Makes a pool; connections are opened when they are needed.
    pub fn new(config: PoolConfig) -> Result<Self, Error> {
        Self::make(config, None)
    }

    /// As [`Self::new`]; a commit is durable only while `guard` holds, and unknown otherwise. Where the guard rests on the
    /// wait for the second region, a session is given out after the server was asked about it.
    pub fn guarded(config: PoolConfig, guard: Arc<dyn AnswerGuard>) -> Result<Self, Error> {
        Self::make(config, Some(guard))
    }

    fn make(config: PoolConfig, guard: Option<Arc<dyn AnswerGuard>>) -> Result<Self, Error> {
        let target = config.connect.target();
        if config.size == 0 || config.size > Semaphore::MAX_PERMITS {
            let size = config.size;
            return Err(Error::new("pool", &target, Kind::Exhausted { size }));
        }
        let places = Arc::new(Semaphore::new(config.size));
        let (idle, abandoned, closed) = Default::default();
        let shared = Shared { config, target, places, idle, abandoned, closed, guard };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes a session, or refuses at once when every place is taken.
    pub async fn session(&self) -> Result<Session, Error> {
        self.take(self.shared.free_place()).await
    }

    /// Takes a session as soon as a place is free, in the order of asking; refuses after `wait`. For reads:
    /// a write that waits here would wait once more for the second region.
    pub async fn session_within(&self, wait: Duration) -> Result<Session, Error> {
        let free = Arc::clone(&self.shared.places).acquire_owned();
        let place = tokio::time::timeout(wait, free).await.ok().and_then(Result::ok);
        self.take(place).await
    }

    async fn take(&self, place: Option<OwnedSemaphorePermit>) -> Result<Session, Error> {
        let shared = &self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Err(Error::new("session", &shared.target, Kind::Retired));
        }
        let place = place.ok_or_else(|| {
            metrics::counter!("domicile_postgres_exhausted_total").increment(1);
            Error::new("session", &shared.target, Kind::Exhausted { size: shared.config.size })
        })?;
        let connection = match shared.take_idle() {
            Some(connection) => connection,
            None => Connection::open(&shared.config.connect, Access::Pooled).await?,
        };
        shared.learn_wait(&connection).await?;
        metrics::gauge!("domicile_postgres_sessions_in_use").increment(1.0);
        Ok(Session { held: Some((connection, place)), shared: Arc::clone(shared) })
    }

    /// Opens a connection of one's own to the same server in the same role. It takes no place of the pool, and its
    /// transactions are not guarded.
    pub async fn apart(&self) -> Result<Connection, Error> {
        Connection::open(&self.shared.config.connect, Access::Direct).await
    }

    /// Opens connections until `idle` of them wait for use, side by side and as far as there are places. One that
    /// does not come about is no failure: whoever needs it asks again and is told why.
    pub async fn warm(&self, idle: usize) {
        let state = self.state();
        let room = state.size.saturating_sub(state.taken).saturating_sub(state.idle);
        let missing = idle.saturating_sub(state.idle).min(room);
        let mut opening = JoinSet::new();
        for place in (0..missing).map_while(|_| self.shared.free_place()) {
            let shared = Arc::clone(&self.shared);
            opening.spawn(async move {
                let opened = Connection::open(&shared.config.connect, Access::Pooled).await;
                if let Ok(connection) = opened
                    && shared.learn_wait(&connection).await.is_ok()
                {
                    shared.keep(connection);
                }
                drop(place);
            });
        }
        drop(opening.join_all().await);
    }

    /// Ends every idle connection, and each other one when its user returns it. No session is given out any more.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.idle().clear();
    }

    /// How the places are used now.
    pub fn state(&self) -> PoolState {
        let shared = &self.shared;
        PoolState {
            size: shared.config.size,
            taken: shared.config.size.saturating_sub(shared.places.available_permits()),
            abandoned: shared.abandoned.load(Ordering::Acquire),
            idle: shared.idle().len(),
        }
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Keeps a connection for the next user, unless the pool was closed meanwhile.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle();
        if !self.closed.load(Ordering::Acquire) {
            idle.push(connection);
        }
    }

    /// Sees that the session's commits wait for the second region, where the guard rests on that.
    async fn learn_wait(&self, connection: &Connection) -> Result<(), Error> {
        let Some(guard) = &self.guard else { return Ok(()) };
        if connection.wait() == Wait::NotKnown && guard.rests_on_wait() {
            guard.heard(connection.ask_wait().await?);
        }
        Ok(())
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        std::iter::from_fn(|| idle.pop()).find(Connection::is_reusable)
    }
}

/// A pooled connection: reads directly, writes in a transaction.
#[derive(Debug)]
pub struct Session {
    /// Present until dropped.
    held: Option<(Connection, OwnedSemaphorePermit)>,
    shared: Arc<Shared>,
}

impl Session {
    fn connection(&self) -> Result<&Connection, Error> {
        let held = self.held.as_ref().map(|(connection, _place)| connection);
        held.ok_or_else(|| Error::new("session", &self.shared.target, Kind::Retired))
    }

    /// Runs a reading statement, prepared once per connection, and returns its rows.
    pub async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        self.connection()?.query(sql, params).await
    }

    /// As [`Self::query`], for at most one row.
    pub async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        self.connection()?.query_opt(sql, params).await
    }

    /// As [`Self::query`], for exactly one row.
    pub async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, Error> {
        self.connection()?.query_one(sql, params).await
    }

    /// Starts a transaction that may write.
    pub async fn begin(&mut self) -> Result<Tx<'_>, Error> {
        match &mut self.held {
            Some((connection, _place)) => {
                let tx = connection.begin().await?;
                Ok(tx.guarded(self.shared.guard.as_deref()))
            }
            None => Err(Error::new("begin", &self.shared.target, Kind::Retired)),
        }
    }
}

impl Query for Session {
    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        Self::query(self, sql, params).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        metrics::gauge!("domicile_postgres_sessions_in_use").decrement(1.0);
        let Some((connection, place)) = self.held.take() else { return };
        if connection.is_reusable() {
            self.shared.keep(connection);
            drop(place);
        } else {
            // The connection's task keeps the place until the server has ended the connection.
            let abandoned = Abandoned::new(Arc::clone(&self.shared), place);
            connection.link().keep(Box::new(abandoned));
        }
    }
}

/// A place in the pool that its user left and the server still holds.
struct Abandoned {
    shared: Arc<Shared>,
    _place: OwnedSemaphorePermit,
}

impl Abandoned {
    fn new(shared: Arc<Shared>, place: OwnedSemaphorePermit) -> Self {
        shared.abandoned.fetch_add(1, Ordering::AcqRel);
        metrics::gauge!("domicile_postgres_sessions_abandoned").increment(1.0);
        Self { shared, _place: place }
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.shared.abandoned.fetch_sub(1, Ordering::AcqRel);
        metrics::gauge!("domicile_postgres_sessions_abandoned").decrement(1.0);
    }
}
