//! Waiting out a change of the control plane's leader, for callers that rather wait than give up.
//!
//! Invariant: only what is known to have changed nothing is asked again. Deliberately absent: waiting in the calls
//! themselves, because whoever holds a lease has to know at once that nobody answers.

use crate::error::Error;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long it is waited: an election takes three seconds at most, and a dead majority is told soon.
const WITHIN: Duration = Duration::from_secs(8);
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until a member answers.
pub async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(Error::Unavailable { .. }) if begun.elapsed() < WITHIN => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn away() -> Error {
        Error::Unavailable { operation: "range", cause: "no leader".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_election_is_waited_out_and_a_lost_answer_is_not() {
        let asked = AtomicU32::new(0);
        let elected = patiently(async || match asked.fetch_add(1, Ordering::Relaxed) {
            0..20 => Err(away()),
            _ => Ok(()),
        });
        assert!(elected.await.is_ok());
        let begun = Instant::now();
        assert!(patiently(async || Err::<(), _>(away())).await.is_err());
        assert!(begun.elapsed() >= WITHIN);
        asked.store(0, Ordering::Relaxed);
        let lost = patiently(async || {
            asked.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Error::OutcomeUnknown { operation: "txn", cause: "reset".to_owned() })
        });
        assert!(lost.await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
