//! A circuit breaker: stops asking a wallet that does not answer, and finds out by itself when it does again.
//!
//! Closed, it counts failures in a row; at the limit it opens and refuses until its pause is over; then it lets one call
//! through as a probe, and closes or opens again by what that one brings. Time comes in as an argument (monotonic).
//! Invariants: half open, one probe is under way at most; a probe that never reports back is given up after the pause;
//! an answer that belongs to a call of before the opening changes nothing.

use std::time::Duration;

/// When to open, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open before a probe, and how long a probe may take.
    pub pause: Duration,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// One call may find out.
    HalfOpen,
}

impl BreakerState {
    /// The value of the metric `circuit_breaker_state`.
    pub const fn as_gauge(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::Open => 1.0,
            Self::HalfOpen => 0.5,
        }
    }
}

/// Permission for one call; goes back with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    turn: u64,
}

#[derive(Debug, Clone, Copy)]
enum Inner {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing { until: Duration },
}

/// The breaker of one wallet.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: BreakerSettings,
    inner: Inner,
    /// Grows with every opening and every probe, so that late results are told from current ones.
    turn: u64,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(settings: BreakerSettings) -> Self {
        Self { settings, inner: Inner::Closed { failures: 0 }, turn: 0 }
    }

    /// Asks for a call at `now`; `None` refuses.
    pub fn admit(&mut self, now: Duration) -> Option<Pass> {
        match self.inner {
            Inner::Closed { .. } => {}
            Inner::Open { until } | Inner::Probing { until } => {
                if now < until {
                    return None;
                }
                self.turn = self.turn.wrapping_add(1);
                self.inner = Inner::Probing { until: now.saturating_add(self.settings.pause) };
            }
        }
        Some(Pass { turn: self.turn })
    }

    /// Takes the result of a call. Returns whether the state changed.
    pub fn report(&mut self, pass: Pass, is_sound: bool, now: Duration) -> bool {
        if pass.turn != self.turn {
            return false;
        }
        let before = self.state(now);
        self.inner = match self.inner {
            _ if is_sound => Inner::Closed { failures: 0 },
            Inner::Closed { failures } if failures.saturating_add(1) < self.settings.failures => {
                Inner::Closed { failures: failures.saturating_add(1) }
            }
            Inner::Closed { .. } | Inner::Probing { .. } | Inner::Open { .. } => {
                self.turn = self.turn.wrapping_add(1);
                Inner::Open { until: now.saturating_add(self.settings.pause) }
            }
        };
        self.state(now) != before
    }

    /// Where it stands at `now`.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.inner {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { until } if now < until => BreakerState::Open,
            Inner::Open { .. } | Inner::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a call would pass at `now`; takes no probe.
    pub fn would_admit(&self, now: Duration) -> bool {
        match self.inner {
            Inner::Closed { .. } => true,
            Inner::Open { until } | Inner::Probing { until } => now >= until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAUSE: Duration = Duration::from_secs(10);
    const SETTINGS: BreakerSettings = BreakerSettings { failures: 3, pause: PAUSE };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            let pass = breaker.admit(at(0)).unwrap();
            breaker.report(pass, false, at(0));
        }
        breaker
    }

    #[test]
    fn it_opens_at_the_limit_and_closes_after_a_good_probe() {
        let mut breaker = opened();
        assert_eq!((breaker.state(at(9)), breaker.admit(at(9))), (BreakerState::Open, None));
        let probe = breaker.admit(at(10)).unwrap();
        assert_eq!((breaker.state(at(10)), breaker.admit(at(10))), (BreakerState::HalfOpen, None));
        assert!(breaker.report(probe, true, at(11)));
        assert_eq!(breaker.state(at(11)), BreakerState::Closed);
    }

    #[test]
    fn a_bad_probe_opens_it_again_and_a_lost_one_is_given_up() {
        let mut breaker = opened();
        let probe = breaker.admit(at(10)).unwrap();
        breaker.report(probe, false, at(12));
        assert_eq!((breaker.admit(at(21)), breaker.state(at(21))), (None, BreakerState::Open));
        let lost = breaker.admit(at(22)).unwrap();
        assert_eq!(breaker.admit(at(31)), None);
        let next = breaker.admit(at(32)).unwrap();
        assert!(!breaker.report(lost, true, at(32)), "the lost probe came too late");
        assert!(breaker.report(next, true, at(32)));
    }

    #[test]
    fn successes_between_failures_keep_it_closed_and_old_results_do_not_count() {
        let mut breaker = Breaker::new(SETTINGS);
        let old = breaker.admit(at(0)).unwrap();
        for sound in [false, false, true, false, false, true] {
            let pass = breaker.admit(at(0)).unwrap();
            breaker.report(pass, sound, at(0));
        }
        assert_eq!(breaker.state(at(0)), BreakerState::Closed);
        let mut breaker = opened();
        assert!(!breaker.report(old, true, at(1)), "a call of before the opening");
        assert_eq!(breaker.state(at(1)), BreakerState::Open);
    }

    proptest! {
        /// Whatever happens in whatever order: one probe at a time, and a good wallet is found again.
        #[test]
        fn it_always_recovers(steps in prop::collection::vec((0u64..15, any::<bool>(), any::<bool>()), 0..200)) {
            let (mut breaker, mut now, mut held) = (Breaker::new(SETTINGS), 0, Vec::new());
            for (elapsed, is_sound, report) in steps {
                now += elapsed;
                let half_open = breaker.state(at(now)) == BreakerState::HalfOpen;
                if let Some(pass) = breaker.admit(at(now)) {
                    prop_assert!(!half_open || breaker.admit(at(now)).is_none());
                    held.push(pass);
                }
                if report && let Some(pass) = held.pop() {
                    breaker.report(pass, is_sound, at(now));
                }
            }
            let probe = breaker.admit(at(now) + PAUSE);
            prop_assert!(probe.is_some());
            breaker.report(probe.unwrap(), true, at(now) + PAUSE);
            prop_assert_eq!(breaker.state(at(now) + PAUSE), BreakerState::Closed);
        }
    }
}
