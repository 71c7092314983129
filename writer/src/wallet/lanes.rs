//! Group commits of intents and results.

use crate::lane::{BatchError, Executor};
use crate::ledger::batch;
use crate::ledger::wallet_jobs::{self, End, Intended, Intent};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_postgres::{Durable, Pool};

/// Writes intents of bets.
#[derive(Debug)]
pub(super) struct Intender {
    pub(super) pool: Pool,
    pub(super) epoch: Epoch,
}

impl Executor for Intender {
    type Job = Intent;
    type Done = (Intended, Durable);
    const NAME: &'static str = "wallet-intent";
    const WORKERS: usize = limits::WRITE_WORKERS;

    async fn run(&self, intents: &[Intent]) -> Result<Vec<Self::Done>, BatchError> {
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let mut session = self.pool.session().await.map_err(whole)?;
        let tx = session.begin().await.map_err(whole)?;
        let written = Box::pin(wallet_jobs::intend(&tx, self.epoch, intents)).await;
        let (durable, found) = batch::finish(tx, self.epoch, written).await?;
        Ok(found.into_iter().map(|intended| (intended, durable)).collect())
    }
}

/// Writes how transactions go on.
#[derive(Debug)]
pub(super) struct Ender {
    pub(super) pool: Pool,
    pub(super) epoch: Epoch,
}

impl Executor for Ender {
    type Job = End;
    type Done = Durable;
    const NAME: &'static str = "wallet-end";
    const WORKERS: usize = limits::WRITE_WORKERS;

    async fn run(&self, ends: &[End]) -> Result<Vec<Durable>, BatchError> {
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let mut session = self.pool.session().await.map_err(whole)?;
        let tx = session.begin().await.map_err(whole)?;
        let written = wallet_jobs::end(&tx, self.epoch, ends).await;
        let (durable, ()) = batch::finish(tx, self.epoch, written).await?;
        Ok(vec![durable; ends.len()])
    }
}
