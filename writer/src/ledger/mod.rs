//! The statements the writer runs, table by table.
//!
//! Invariants: every statement that writes reads the epoch too and writes nothing once a later one is open;
//! every insert or update reports a shortfall of rows as an error, so that a transaction is all or nothing.
//! Many rows go in one statement (`unnest`), which is what makes a shared commit cheap.
//! Deliberately absent: commits. A caller commits through `domicile_postgres::Tx::commit` and nothing else.

use domicile_core::epoch::Epoch;
use domicile_postgres::Query;

/// The guard of every write statement; its first parameter is the writer's epoch.
macro_rules! in_term {
    () => {
        "(SELECT max(epoch) FROM ledger.epoch) = $1"
    };
}

pub mod batch;
pub mod captchas;
pub mod chains;
pub mod conservation;
pub mod floor;
pub mod games;
pub mod limited;
pub mod loss_claims;
pub mod operator_desk;
pub mod operators;
pub mod requests;
pub mod revocations;
pub mod rounds;
pub mod rounds_seen;
pub mod sessions;
pub mod wagers;
pub mod wallet_desk;
pub mod wallet_jobs;
pub mod wallets;

/// Why rows were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Fewer rows than asked: another transaction changed or made them first, or the epoch ended.
    #[error("the ledger's rows changed under the request")]
    Shortfall,
    /// The statement failed.
    #[error(transparent)]
    Database(#[from] domicile_postgres::Error),
}

/// The epoch as Postgres stores it.
pub fn term(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}

/// Demands that every row was written.
pub(crate) fn all_written(written: u64, asked: usize) -> Result<(), WriteError> {
    if usize::try_from(written) == Ok(asked) { Ok(()) } else { Err(WriteError::Shortfall) }
}

/// The latest epoch opened in this ledger.
pub async fn latest_epoch(on: &impl Query) -> Result<Option<Epoch>, domicile_postgres::Error> {
    let rows = on.query("SELECT max(epoch) FROM ledger.epoch", &[]).await?;
    let latest = rows.first().and_then(|row| row.get::<_, Option<i64>>(0));
    Ok(latest.and_then(|epoch| u64::try_from(epoch).ok()).map(Epoch))
}
