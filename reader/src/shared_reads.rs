//! Reads put together: who asks while others are being answered shares one statement.
//!
//! Invariants: at most `STATEMENTS_AT_ONCE` statements of a kind run and `WAITING_MAX` callers wait for
//! them; a caller that leaves takes nobody else's answer along. Deliberately absent: a delay to collect more;
//! the first one asks at once.

use crate::store::{LogId, Store, StoredEntry};
use domicile_core::ids::{Jurisdiction, RoundId, SessionId};
use domicile_postgres::Error;
use domicile_service::tasks;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// What one statement is asked for, at most.
const KEYS_PER_STATEMENT: usize = 64;
/// Statements of a kind that run at the same time, at most: fewer, fuller ones cost the replica less.
const STATEMENTS_AT_ONCE: usize = 2;
/// Callers that may wait for their turn, at most.
const WAITING_MAX: usize = 1_024;

/// Why something was not read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unread {
    /// Too many callers wait already, or the process is leaving.
    #[error("too many callers wait for the replica")]
    Busy,
    /// The replica cannot be read now.
    #[error(transparent)]
    Database(Arc<Error>),
}

/// A kind of read that takes many keys at once.
pub trait ManyRead: Send + Sync + 'static {
    /// What is asked for.
    type Key: Copy + Ord + Hash + Send + 'static;
    /// What is found; the default where there is nothing.
    type Found: Clone + Default + Send + 'static;

    /// Reads all keys in one statement.
    fn read(
        &self,
        keys: &[Self::Key],
    ) -> impl Future<Output = Result<HashMap<Self::Key, Self::Found>, Error>> + Send;
}

/// The leaves of rounds, in order, each with the checkpoint that covers it.
pub struct Rounds {
    /// Where they are read.
    pub store: Store,
    /// Of which log.
    pub log: LogId,
}

impl ManyRead for Rounds {
    type Key = RoundId;
    type Found = Vec<StoredEntry>;

    async fn read(&self, rounds: &[RoundId]) -> Result<HashMap<RoundId, Vec<StoredEntry>>, Error> {
        self.store.entries(&self.log, rounds).await
    }
}

/// Whether sessions were revoked.
pub struct Revocations {
    /// Where they are read.
    pub store: Store,
    /// Whose sessions.
    pub jurisdiction: Jurisdiction,
}

impl ManyRead for Revocations {
    type Key = SessionId;
    type Found = bool;

    async fn read(&self, sessions: &[SessionId]) -> Result<HashMap<SessionId, bool>, Error> {
        let revoked = self.store.revoked(&self.jurisdiction, sessions).await?;
        Ok(revoked.into_iter().map(|session| (session, true)).collect())
    }
}

struct Ask<R: ManyRead> {
    key: R::Key,
    answer: oneshot::Sender<Result<R::Found, Unread>>,
}

/// The entry to shared reads of one kind.
pub struct SharedReads<R: ManyRead> {
    asks: mpsc::Sender<Ask<R>>,
}

impl<R: ManyRead> SharedReads<R> {
    /// Starts the task that reads; it ends with this value.
    pub fn start(read: R) -> Self {
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        tasks::spawn("shared reads", serve(Arc::new(read), asked));
        Self { asks }
    }

    /// What the replica holds under `key`.
    pub async fn get(&self, key: R::Key) -> Result<R::Found, Unread> {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask { key, answer }).map_err(|_full| Unread::Busy)?;
        answered.await.unwrap_or(Err(Unread::Busy))
    }
}

async fn serve<R: ManyRead>(read: Arc<R>, mut asked: mpsc::Receiver<Ask<R>>) {
    let turns = Arc::new(Semaphore::new(STATEMENTS_AT_ONCE));
    // The turn first: whoever asks until it comes is in the same statement.
    while let Ok(turn) = Arc::clone(&turns).acquire_owned().await {
        let mut asks = Vec::with_capacity(KEYS_PER_STATEMENT);
        if asked.recv_many(&mut asks, KEYS_PER_STATEMENT).await == 0 {
            return;
        }
        let read = Arc::clone(&read);
        tasks::spawn("shared read", async move {
            answer(&*read, asks).await;
            drop(turn);
        });
    }
}

async fn answer<R: ManyRead>(read: &R, asks: Vec<Ask<R>>) {
    let mut keys: Vec<R::Key> = asks.iter().map(|ask| ask.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let found = read.read(&keys).await.map_err(|error| Unread::Database(Arc::new(error)));
    for Ask { key, answer } in asks {
        let own = found.as_ref().map(|found| found.get(&key).cloned().unwrap_or_default());
        // Who has left needs no answer.
        drop(answer.send(own.map_err(Unread::clone)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Doubles even numbers, knows nothing of odd ones, and waits for permission.
    struct Doubler {
        asked: Arc<Mutex<Vec<Vec<u32>>>>,
        permits: Arc<Semaphore>,
    }

    impl ManyRead for Doubler {
        type Key = u32;
        type Found = u32;

        async fn read(&self, keys: &[u32]) -> Result<HashMap<u32, u32>, Error> {
            self.asked.lock().unwrap().push(keys.to_vec());
            self.permits.acquire().await.unwrap().forget();
            Ok(keys.iter().filter(|key| *key % 2 == 0).map(|key| (*key, key * 2)).collect())
        }
    }

    #[tokio::test]
    async fn who_asks_meanwhile_shares_a_statement_and_who_leaves_takes_nothing_along() {
        let (asked, permits) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let read = Doubler { asked: Arc::clone(&asked), permits: Arc::clone(&permits) };
        let reads = Arc::new(SharedReads::start(read));
        let mut callers = Vec::new();
        for key in [2, 4, 9, 8, 6, 8] {
            let reads = Arc::clone(&reads);
            callers.push(tokio::spawn(async move { reads.get(key).await.unwrap() }));
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        callers.remove(4).abort();
        permits.add_permits(16);
        let mut answers = Vec::new();
        for caller in callers {
            answers.push(caller.await.unwrap());
        }
        assert_eq!(answers, [4, 8, 0, 16, 16]);
        let mut asked = asked.lock().unwrap().clone();
        asked.sort_by_key(Vec::len);
        assert_eq!(
            asked,
            [vec![2], vec![4], vec![6, 8, 9]],
            "two at once, then all others together"
        );
    }
}
