//! Many bets, one transaction: those whose round is still open are written, the others refused.

use crate::answer::{Acknowledged, Reply, Verdict};
use crate::lane::{BatchError, Executor};
use crate::ledger::requests::NewRequest;
use crate::ledger::wagers::Wager;
use crate::ledger::wallet_jobs::{self, Taken};
use crate::ledger::{WriteError, batch, requests, rounds, wagers};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::ids::RoundId;
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
}

impl PreparedBet {
    const fn round(&self) -> RoundId {
        self.wager.salted.record.round
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
        let (durable, open) = batch::finish(tx, self.epoch, written).await?;
        let written = |bet: &PreparedBet| {
            if open.contains(&bet.round()) {
                Written::Placed(Acknowledged::new(&durable, Ok(bet.reply.clone())))
            } else {
                Written::Late
            }
        };
        Ok(bets.iter().map(written).collect())
    }
}

/// Writes the bets whose round is open; says which rounds are.
async fn write(
    tx: &Tx<'_>,
    epoch: Epoch,
    bets: &[PreparedBet],
) -> Result<HashSet<RoundId>, WriteError> {
    let mut asked: Vec<_> = bets.iter().map(PreparedBet::round).collect();
    asked.sort_unstable();
    asked.dedup();
    let open = rounds::share_open(tx, &asked).await?;
    let accepted: Vec<_> = bets.iter().filter(|bet| open.contains(&bet.round())).collect();
    if accepted.is_empty() {
        return Ok(open);
    }
    let stakes = accepted.iter().filter_map(|bet| bet.stake);
    let (requests, wagers, taken) = tokio::join!(
        requests::record(tx, epoch, accepted.iter().map(|bet| &bet.request)),
        wagers::record(tx, epoch, accepted.iter().map(|bet| &bet.wager)),
        wallet_jobs::take(tx, epoch, stakes),
    );
    requests.and(wagers).and(taken)?;
    Ok(open)
}
