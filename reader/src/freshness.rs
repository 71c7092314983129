//! How far behind this replica is: time since the writer's last heartbeat arrived, on our own monotonic clock.
//!
//! Invariant: no wall clock of another machine takes part. A beat that does not arrive is lag, whatever the
//! reason: a cut, a stopped apply worker, a stopped standby (readers are held back with it) or no writer.

use crate::store::Store;
use domicile_core::ids::Jurisdiction;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often the heartbeat is looked at, in milliseconds.
const POLL_MS: u64 = 200;
/// The writer beats this often, in milliseconds; less than that is no lag.
const BEAT_MS: u64 = 1_000;

/// The lag of one jurisdiction's rows.
#[derive(Clone)]
pub struct Freshness {
    last_beat: watch::Receiver<Option<(i64, Instant)>>,
}

impl Freshness {
    /// Time since the last heartbeat beyond its period; `None` before the first one.
    pub fn lag(&self) -> Option<Duration> {
        let beat = *self.last_beat.borrow();
        beat.map(|(_, at)| at.elapsed().saturating_sub(Duration::from_millis(BEAT_MS)))
    }
}

/// Follows the heartbeat of one jurisdiction; the future runs until dropped.
pub fn follow(
    store: Store,
    jurisdiction: Jurisdiction,
) -> (Freshness, impl Future<Output = ()> + Send) {
    let (sender, last_beat) = watch::channel(None::<(i64, Instant)>);
    let name = jurisdiction.to_string();
    let task = async move {
        loop {
            match store.heartbeat(&jurisdiction).await {
                Ok(Some(beat)) => {
                    let changed = (*sender.borrow()).is_none_or(|(last, _)| last != beat);
                    if changed {
                        sender.send_replace(Some((beat, Instant::now())));
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(jurisdiction = %name, %error, "the heartbeat cannot be read");
                }
            }
            if let Some((_, at)) = *sender.borrow() {
                let lag = at.elapsed().saturating_sub(Duration::from_millis(BEAT_MS));
                metrics::gauge!("domicile_replica_lag_seconds", "jurisdiction" => name.clone())
                    .set(lag.as_secs_f64());
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    };
    (Freshness { last_beat }, task)
}
