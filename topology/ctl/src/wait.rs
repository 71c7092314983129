//! Waiting for something to become true, always with a deadline, and with the last thing seen in the error.

use anyhow::{Result, anyhow};
use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// One look at a condition.
pub(crate) enum Look<T> {
    /// It holds.
    Done(T),
    /// Not yet; what was seen instead.
    NotYet(String),
}

/// Looks until the condition holds or the time is over.
pub(crate) async fn until<T, F>(
    what: impl Display,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Look<T>>,
{
    let begun = Instant::now();
    loop {
        match look().await {
            Look::Done(value) => return Ok(value),
            Look::NotYet(seen) if begun.elapsed() >= limit => {
                let limit = crate::term::elapsed(limit);
                return Err(anyhow!("{what}: not within {limit}; last seen: {seen}"));
            }
            Look::NotYet(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_and_tells_what_it_saw_last() {
        let mut looks = 0;
        let seen = until("the standby", Duration::from_secs(5), || {
            looks += 1;
            let look = looks;
            async move { if look == 3 { Look::Done(look) } else { Look::NotYet("catchup".into()) } }
        });
        assert_eq!(seen.await.unwrap(), 3);
        let never =
            until("the standby", Duration::ZERO, || async { Look::<()>::NotYet("catchup".into()) });
        let error = never.await.unwrap_err().to_string();
        assert_eq!(error, "the standby: not within 0 ms; last seen: catchup");
    }
}
