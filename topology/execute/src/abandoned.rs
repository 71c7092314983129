//! Whether a plan was left by an executor that died, so that somebody has to go on with it.
//!
//! A plan that stopped by itself says so in its journal and waits for a person; one whose executor died says nothing more,
//! while its writes may be closed. The executor's lock, on a lease, tells the living from the dead.

use crate::entry::{Entry, Happened};
use domicile_control::{ControlClient, Error, Plans, StoredPlan};

/// The plan under way, if nobody runs it and it did not stop by itself. Both are looked at one after the other: only
/// [`Executor::take_over`](crate::Executor::take_over) knows.
pub async fn abandoned(control: &ControlClient) -> Result<Option<String>, Error> {
    let plans = Plans::new(control);
    let Some(stored) = plans.current().await? else { return Ok(None) };
    if plans.owner().await?.is_some() || stopped_by_itself(&stored) {
        return Ok(None);
    }
    Ok(Some(stored.plan.id))
}

pub(crate) fn stopped_by_itself(stored: &StoredPlan) -> bool {
    let Some(last) = stored.journal.last() else { return false };
    let last: Result<Entry, _> = serde_json::from_slice(&last.value);
    // An entry that cannot be read is for a person too.
    last.map_or(true, |entry| matches!(entry.happened, Happened::Stopped { .. }))
}
