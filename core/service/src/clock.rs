//! Time, asked for in one place so that tests can hold it still.
//!
//! Invariant: wall time is for tokens, timestamps and people; nothing orders or fences by it. Intervals
//! and leases use `monotonic`, which goes on through a suspended machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A source of time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds since the Unix epoch.
    fn now_unix_ms(&self) -> u64;

    /// Time since an arbitrary fixed point; never goes back and counts suspended time.
    fn monotonic(&self) -> Duration;

    /// Seconds since the Unix epoch.
    fn now_unix_s(&self) -> u64 {
        self.now_unix_ms() / 1000
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_unix_ms(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        u64::try_from(duration(now).as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        duration(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
    }
}

fn duration(time: rustix::time::Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    unix_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// A clock standing at this wall time.
    pub fn at_unix_s(unix_s: u64) -> Self {
        Self {
            unix_ms: AtomicU64::new(unix_s.saturating_mul(1000)),
            monotonic_ms: AtomicU64::new(0),
        }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.unix_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_unix_ms(&self) -> u64 {
        self.unix_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}
