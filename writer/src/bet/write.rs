//! Many bets, one transaction: those whose round is still open are written, the others refused.

use crate::answer::{Acknowledged, Failure, Reply, Verdict};
use crate::lane::{BatchError, Executor};
use crate::ledger::requests::NewRequest;
use crate::ledger::wagers::Wager;
use crate::ledger::{WriteError, batch, requests, rounds, wagers};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
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
    /// The answer.
    pub reply: Reply,
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
    type Done = Acknowledged<Verdict>;
    const NAME: &'static str = "bet";
    const WORKERS: usize = limits::WRITE_WORKERS;

    async fn run(&self, bets: &[PreparedBet]) -> Result<Vec<Self::Done>, BatchError> {
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let mut session = self.pool.session().await.map_err(whole)?;
        let tx = session.begin().await.map_err(whole)?;
        let written = write(&tx, self.epoch, bets).await;
        let (durable, open) = batch::finish(tx, self.epoch, written).await?;
        let verdict = |bet: &PreparedBet| {
            if open.contains(&bet.round()) {
                Ok(bet.reply.clone())
            } else {
                Err(Failure::new(Code::RoundState))
            }
        };
        Ok(bets.iter().map(|bet| Acknowledged::new(&durable, verdict(bet))).collect())
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
    let (requests, wagers) = tokio::join!(
        requests::record(tx, epoch, accepted.iter().map(|bet| &bet.request)),
        wagers::record(tx, epoch, accepted.iter().map(|bet| &bet.wager)),
    );
    requests.and(wagers)?;
    Ok(open)
}
