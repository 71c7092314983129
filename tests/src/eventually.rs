//! Waiting with a deadline, and saying what was seen last when it passes.

use std::time::Duration;
use tokio::time::Instant;

/// Pause between two looks, in milliseconds.
const LOOK_EVERY_MS: u64 = 50;

/// Looks until `look` answers `Ok`, at most `within`; panics with the last refusal.
pub async fn eventually<T, F, R>(what: &str, within: Duration, mut look: F) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(last) => assert!(
                started.elapsed() < within,
                "{what}: not within {} ms; last seen: {last}",
                within.as_millis()
            ),
        }
        tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
    }
}
