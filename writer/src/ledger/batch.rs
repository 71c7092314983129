//! One transaction for a batch: begin, write, commit – and the meaning of each way to fail.

use super::{WriteError, latest_epoch};
use crate::answer::Failure;
use crate::lane::BatchError;
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_postgres::{Class, Durable, Tx};

/// Commits what `written` wrote, or tells what its failure means for the batch.
pub async fn finish<T>(
    tx: Tx<'_>,
    epoch: Epoch,
    written: Result<T, WriteError>,
) -> Result<(Durable, T), BatchError> {
    let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
    match written {
        Ok(value) => {
            let committed = tx.commit(limits::COMMIT_WAIT).await;
            Ok((committed.map_err(|error| BatchError::Whole(error.into()))?, value))
        }
        Err(WriteError::Database(error)) => Err(meaning(error)),
        Err(WriteError::Shortfall) => {
            let current = latest_epoch(&tx).await.map_err(whole)? == Some(epoch);
            tx.rollback().await.map_err(whole)?;
            if current {
                Err(BatchError::Raced)
            } else {
                Err(BatchError::Whole(Failure::new(Code::EpochFenced)))
            }
        }
    }
}

/// A failed statement: in the way of a concurrent one, this batch's own fault, or no database.
fn meaning(error: domicile_postgres::Error) -> BatchError {
    match error.class() {
        Class::Contention | Class::Duplicate => BatchError::Raced,
        Class::Constraint | Class::Fault => BatchError::Rejected(error.into()),
        _ => BatchError::Whole(error.into()),
    }
}
