//! Money at operators' wallets: a stake is taken before its bet counts, a win is paid until it is paid.
//!
//! Intent, call, result – each in a commit of its own that waited for the second region, and no database session
//! or row lock is held while a wallet is asked. Invariants: a play or bet of an operator with a wallet is written in
//! the transaction that ends its stake as taken, and its win is queued by the transaction that knows the outcome; a stake
//! whose call brought neither yes nor no is undone, which the row remembers for ever; one slow wallet holds up nobody
//! else (places and breaker per operator). Operators without a wallet are not touched by any of it.
//! Deliberately absent: the meaning of answers (`domicile_core::wallet`) and rows (`crate::ledger::wallet_jobs`).

pub mod balance;
mod book;
mod lanes;
mod line;
mod signing;
pub mod stake;
pub mod worker;

pub use book::{Book, BookError};
pub use line::{Line, Places};
pub use signing::WalletKey;

use crate::answer::Failure;
use crate::keys::Keys;
use crate::lane::{JobError, Lane};
use crate::ledger::wallet_jobs::{End, Intended, Intent};
use domicile_core::epoch::Epoch;
use domicile_core::ids::OperatorId;
use domicile_postgres::{Durable, Pool};
use lanes::{Ender, Intender};
use std::sync::Arc;
use tokio::sync::Notify;

/// What the engine has for wallets.
#[derive(Debug)]
pub struct Money {
    /// The wallets.
    pub book: Arc<Book>,
    intents: Lane<Intender>,
    ends: Lane<Ender>,
    wake: Notify,
}

impl Money {
    /// Starts the lanes.
    pub fn start(book: Arc<Book>, pool: &Pool, epoch: Epoch) -> Self {
        Self {
            book,
            intents: Lane::start(Intender { pool: pool.clone(), epoch }),
            ends: Lane::start(Ender { pool: pool.clone(), epoch }),
            wake: Notify::new(),
        }
    }

    /// The wallet of an operator, if it has one; a failure where it has one that cannot be used.
    pub fn line(&self, operator: &OperatorId) -> Result<Option<Arc<Line>>, Failure> {
        self.book.line(operator)
    }

    /// Tells the worker that transactions may be due.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for that.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) async fn intend(&self, intent: Intent) -> Result<(Intended, Durable), JobError> {
        self.intents.submit(intent).await
    }

    pub(crate) async fn end(&self, end: End) -> Result<Durable, JobError> {
        self.ends.submit(end).await
    }
}

/// The context a wallet's key is sealed for.
pub fn seal_context(operator: &OperatorId) -> String {
    format!("wallet:{operator}")
}

/// Seals a wallet's key.
pub fn seal_key(keys: &Keys, operator: &OperatorId, key: &[u8]) -> Result<Vec<u8>, Failure> {
    keys.seal(&seal_context(operator), key)
}
