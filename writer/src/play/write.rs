//! Many plays, one transaction.

use super::prepare::PreparedPlay;
use crate::answer::{Acknowledged, Verdict};
use crate::lane::{BatchError, Executor};
use crate::ledger::wallet_jobs::{self, Follow};
use crate::ledger::{WriteError, batch, chains, limited, requests, rounds, wagers};
use crate::limits;
use crate::pending::{self, PendingLeaf};
use domicile_core::epoch::Epoch;
use domicile_core::money::Micro;
use domicile_postgres::{Pool, Tx};

/// Writes batches of plays.
#[derive(Debug)]
pub struct Writer {
    /// Connections.
    pub pool: Pool,
    /// The epoch the plays belong to.
    pub epoch: Epoch,
}

impl Executor for Writer {
    type Job = PreparedPlay;
    type Done = Acknowledged<Verdict>;
    const NAME: &'static str = "play";
    const WORKERS: usize = limits::WRITE_WORKERS;

    async fn run(&self, plays: &[PreparedPlay]) -> Result<Vec<Self::Done>, BatchError> {
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let mut session = self.pool.session().await.map_err(whole)?;
        let tx = session.begin().await.map_err(whole)?;
        let written = Box::pin(write(&tx, self.epoch, plays)).await;
        let (durable, ()) = batch::finish(tx, self.epoch, written).await?;
        let done = plays.iter().map(|play| Acknowledged::new(&durable, Ok(play.reply.clone())));
        Ok(done.collect())
    }
}

/// The statements go out together and all are awaited, so that the transaction can be ended either way.
async fn write(tx: &Tx<'_>, epoch: Epoch, plays: &[PreparedPlay]) -> Result<(), WriteError> {
    // Chains are locked in this order by every process: no two batches wait for each other.
    let mut plays: Vec<&PreparedPlay> = plays.iter().collect();
    plays.sort_unstable_by_key(|play| play.step.chain);
    let leaves: Vec<PendingLeaf> = plays.iter().flat_map(|play| play.leaves.clone()).collect();
    let limited = plays.iter().filter(|play| play.limited);
    limited::count(tx, epoch, limited.map(|play| &play.wager.salted)).await?;
    let stakes = plays.iter().filter_map(|play| play.stake);
    let wins = plays.iter().filter_map(|play| {
        let won = play.payout() > Micro::ZERO;
        play.stake.filter(|_| won).map(|stake| Follow::Win(stake.id, play.payout()))
    });
    let (advanced, requests, rounds, wagers, next, enqueued, taken, won) = tokio::join!(
        chains::advance(tx, epoch, plays.iter().map(|play| &play.step)),
        requests::record(tx, epoch, plays.iter().map(|play| &play.request)),
        rounds::insert(tx, epoch, plays.iter().map(|play| &play.round)),
        wagers::record(tx, epoch, plays.iter().map(|play| &play.wager)),
        chains::insert(tx, epoch, plays.iter().filter_map(|play| play.next_chain.as_ref())),
        pending::enqueue(tx, epoch, &leaves),
        wallet_jobs::take(tx, epoch, stakes),
        wallet_jobs::follow(tx, epoch, wins),
    );
    advanced.and(requests).and(rounds).and(wagers).and(next).and(enqueued).and(taken).and(won)
}
