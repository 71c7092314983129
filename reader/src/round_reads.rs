//! Reads of rounds, put together: who asks while others are being answered shares one statement.
//!
//! Invariants: at most [`STATEMENTS_AT_ONCE`] statements run and [`WAITING_MAX`] callers wait; a caller that
//! leaves takes nobody else's answer along. Deliberately absent: a delay to collect more; the first asks at once.

use crate::store::{LogId, Store, StoredEntry};
use domicile_core::ids::RoundId;
use domicile_postgres::Error;
use domicile_service::tasks;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Rounds read by one statement, at most.
const ROUNDS_PER_STATEMENT: usize = 64;
/// Statements that run at the same time, at most: fewer, fuller ones cost the replica less.
const STATEMENTS_AT_ONCE: usize = 2;
/// Callers that may wait for their turn, at most.
const WAITING_MAX: usize = 1_024;

/// Why a round was not read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unread {
    /// Too many callers wait already, or the process is leaving.
    #[error("too many callers wait")]
    Busy,
    /// The replica cannot be read now.
    #[error(transparent)]
    Database(Arc<Error>),
}

type Answer = Result<Vec<StoredEntry>, Unread>;

struct Ask {
    round: RoundId,
    answer: oneshot::Sender<Answer>,
}

/// Reads rounds of one log.
pub struct RoundReads {
    asks: mpsc::Sender<Ask>,
}

impl RoundReads {
    /// Starts the task that reads; it ends with this value.
    pub fn start(store: Store, log: LogId) -> Self {
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        tasks::spawn("round reads", serve(store, log, asked));
        Self { asks }
    }

    /// The round's leaves in order; none when the log does not hold it here.
    pub async fn entries(&self, round: RoundId) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.asks.try_send(Ask { round, answer }).map_err(|_full| Unread::Busy)?;
        answered.await.unwrap_or(Err(Unread::Busy))
    }
}

async fn serve(store: Store, log: LogId, mut asked: mpsc::Receiver<Ask>) {
    let turns = Arc::new(Semaphore::new(STATEMENTS_AT_ONCE));
    // The turn first: whoever asks until it comes is in the same statement.
    while let Ok(turn) = Arc::clone(&turns).acquire_owned().await {
        let mut asks = Vec::with_capacity(ROUNDS_PER_STATEMENT);
        if asked.recv_many(&mut asks, ROUNDS_PER_STATEMENT).await == 0 {
            return;
        }
        let (store, log) = (store.clone(), log.clone());
        tasks::spawn("round read", async move {
            answer(&store, &log, asks).await;
            drop(turn);
        });
    }
}

async fn answer(store: &Store, log: &LogId, asks: Vec<Ask>) {
    let mut rounds: Vec<RoundId> = asks.iter().map(|ask| ask.round).collect();
    rounds.sort_unstable();
    rounds.dedup();
    let found =
        store.entries(log, &rounds).await.map_err(|error| Unread::Database(Arc::new(error)));
    for Ask { round, answer } in asks {
        let entries = found
            .as_ref()
            .map(|found| found.get(&round).cloned().unwrap_or_default())
            .map_err(Unread::clone);
        // Who has left needs no answer.
        drop(answer.send(entries));
    }
}
