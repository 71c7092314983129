//! Token buckets in a bounded table: how fast one address or one token may ask.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate
//! algorithm), so admission is one compare-and-swap. A full table forgets the keys used least, which
//! a caller with few addresses cannot exploit and a caller with many does not need to.
//! Deliberately absent: the clock. Callers pass the time.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::Cache;
use serde::Deserialize;

/// How much one key may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Sustained requests per second.
    pub per_s: u32,
    /// Requests at once after a pause.
    pub burst: u32,
}

/// One table of buckets.
pub struct Quota<K> {
    /// When each bucket is full again, nanoseconds.
    buckets: Cache<K, Arc<AtomicU64>>,
    interval_ns: u64,
    burst_ns: u64,
}

impl<K: Hash + Eq + Clone> Quota<K> {
    /// At most `entries` keys are remembered.
    pub fn new(rate: Rate, entries: usize) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(rate.per_s.max(1));
        let burst_ns = interval_ns.saturating_mul(u64::from(rate.burst.max(1)));
        Self { buckets: Cache::new(entries), interval_ns, burst_ns }
    }

    /// Takes one request out of the key's bucket at `now`, or says how long until there is one.
    pub fn admit(&self, key: &K, now: Duration) -> Result<(), Duration> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bucket(key);
        let mut full_at_ns = bucket.load(Ordering::Relaxed);
        loop {
            let next_ns = full_at_ns.max(now_ns).saturating_add(self.interval_ns);
            let over_ns = next_ns.saturating_sub(now_ns.saturating_add(self.burst_ns));
            if over_ns > 0 {
                return Err(Duration::from_nanos(over_ns));
            }
            // Taken at once except when another request of the same key came between.
            match bucket.compare_exchange_weak(
                full_at_ns,
                next_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(present_ns) => full_at_ns = present_ns,
            }
        }
    }

    fn bucket(&self, key: &K) -> Arc<AtomicU64> {
        self.buckets.get(key).unwrap_or_else(|| {
            let bucket = Arc::new(AtomicU64::new(0));
            self.buckets.insert(key.clone(), bucket.clone());
            bucket
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_s: 10, burst: 5 };

    #[test]
    fn a_burst_then_the_rate() {
        let (quota, start) = (Quota::new(RATE, 16), Duration::from_secs(100));
        let at_once = (0..20).filter(|_| quota.admit(&"a", start).is_ok()).count();
        assert_eq!(at_once, 5);
        assert_eq!(quota.admit(&"a", start), Err(Duration::from_millis(100)));
        assert!(quota.admit(&"b", start).is_ok());
        assert!(quota.admit(&"a", start + Duration::from_millis(100)).is_ok());
        assert!(quota.admit(&"a", start + Duration::from_millis(150)).is_err());
    }

    #[test]
    fn the_table_is_bounded() {
        let quota = Quota::new(RATE, 64);
        for key in 0..10_000 {
            quota.admit(&key, Duration::ZERO).unwrap();
        }
        assert!(quota.buckets.len() <= 64);
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_burst_and_rate(
            pauses_ms in prop::collection::vec(0u64..300, 1..200),
        ) {
            let quota = Quota::new(RATE, 16);
            let mut now = Duration::from_secs(1);
            let mut admitted = 0;
            for pause_ms in &pauses_ms {
                now += Duration::from_millis(*pause_ms);
                admitted += u64::from(quota.admit(&"a", now).is_ok());
            }
            let elapsed_ms: u64 = pauses_ms.iter().sum();
            prop_assert!(admitted <= 5 + elapsed_ms / 100 + 1);
        }
    }
}
