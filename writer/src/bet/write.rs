//! Many bets, one transaction: those whose round is still open and whose session stands are written, the others refused.
//!
//! Rows are locked and written in the same order by every process, so that no two batches wait for each other.

use crate::answer::{Acknowledged, Reply, Verdict};
use crate::lane::{BatchError, Executor};
use crate::ledger::requests::NewRequest;
use crate::ledger::wagers::Wager;
use crate::ledger::wallet_jobs::{self, Taken};
use crate::ledger::{WriteError, batch, limited, requests, rounds, sessions, wagers};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, RoundId, SessionId};
use domicile_postgres::{Pool, Tx};
use std::collections::HashSet;

/// A bet, ready to be written.
#[derive(Debug)]
pub struct PreparedBet {
    /// The request with its sealed answer.
    pub request: NewRequest,
    /// The stake.
    pub wager: Wager,
    /// The stake as its wallet took it, where the operator has one.
    pub stake: Option<Taken>,
    /// Whether its session has a loss limit.
    pub limited: bool,
    /// The answer.
    pub reply: Reply,
}

/// What became of a bet.
#[derive(Debug)]
pub enum Written {
    /// It stands.
    Placed(Acknowledged<Verdict>),
    /// Its round was no longer open; nothing was written.
    Late,
    /// Its session was revoked meanwhile; nothing was written.
    Revoked,
}

/// What bets stand on, held until their outcome is known.
#[derive(Debug)]
struct Held {
    rounds: HashSet<RoundId>,
    sessions: HashSet<SessionId>,
}

impl Held {
    fn carries(&self, bet: &PreparedBet) -> bool {
        self.rounds.contains(&bet.round()) && self.sessions.contains(&bet.session().1)
    }
}

impl PreparedBet {
    const fn round(&self) -> RoundId {
        self.wager.salted.record.round
    }

    const fn session(&self) -> (&Jurisdiction, SessionId) {
        let record = &self.wager.salted.record;
        (&record.jurisdiction, record.session)
    }
}

/// Writes batches of bets.
#[derive(Debug)]
pub struct Writer {
    /// Connections.
    pub pool: Pool,
    /// The epoch the bets belong to.
    pub epoch: Epoch,
}

impl Executor for Writer {
    type Job = PreparedBet;
    type Done = Written;
    const NAME: &'static str = "bet";
    const WORKERS: usize = limits::WRITE_WORKERS;

    async fn run(&self, bets: &[PreparedBet]) -> Result<Vec<Self::Done>, BatchError> {
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let mut session = self.pool.session().await.map_err(whole)?;
        let tx = session.begin().await.map_err(whole)?;
        let written = write(&tx, self.epoch, bets).await;
        let (durable, held) = batch::finish(tx, self.epoch, written).await?;
        let written = |bet: &PreparedBet| {
            if held.carries(bet) {
                Written::Placed(Acknowledged::new(&durable, Ok(bet.reply.clone())))
            } else if held.rounds.contains(&bet.round()) {
                Written::Revoked
            } else {
                Written::Late
            }
        };
        Ok(bets.iter().map(written).collect())
    }
}

/// Writes the bets that stand on an open round and a session; says which rounds and sessions do.
async fn write(tx: &Tx<'_>, epoch: Epoch, bets: &[PreparedBet]) -> Result<Held, WriteError> {
    let mut asked: Vec<_> = bets.iter().map(PreparedBet::round).collect();
    asked.sort_unstable();
    asked.dedup();
    let mut players: Vec<_> = bets.iter().map(PreparedBet::session).collect();
    players.sort_unstable_by_key(|(_, session)| *session);
    players.dedup();
    let (entered, sessions) = tokio::join!(rounds::enter(tx, &asked), sessions::stay(tx, &players));
    entered?;
    let held = Held { rounds: rounds::share_open(tx, &asked).await?, sessions: sessions? };
    let mut accepted: Vec<_> = bets.iter().filter(|bet| held.carries(bet)).collect();
    if accepted.is_empty() {
        return Ok(held);
    }
    accepted.sort_unstable_by(|one, other| one.request.order(&other.request));
    let limited = accepted.iter().filter(|bet| bet.limited);
    limited::count(tx, epoch, limited.map(|bet| &bet.wager.salted)).await?;
    let stakes = accepted.iter().filter_map(|bet| bet.stake);
    let (requests, wagers, taken) = tokio::join!(
        requests::record(tx, epoch, accepted.iter().map(|bet| &bet.request)),
        wagers::record(tx, epoch, accepted.iter().map(|bet| &bet.wager)),
        wallet_jobs::take(tx, epoch, stakes),
    );
    requests.and(wagers).and(taken)?;
    Ok(held)
}
