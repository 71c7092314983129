//! What an engine does next with its table: pure.
//!
//! Invariants: a closed round is settled and nothing else, from the seed committed at its opening; a round that was cut
//! off is voided and nothing else; a round takes bets for its window, never longer by the engine's will, and is voided
//! when it was left alone for so long that its players cannot be believed to wait; no round is opened while one is under
//! way, while the schedule is off, or by who is leaving. Deliberately absent: clocks and the ledger.

use crate::ledger::floor::{Latest, Schedule};
use crate::limits;
use crate::round_state::RoundState;
use domicile_core::leaf::VoidReason;
use std::time::Duration;

/// What was read, and how long ago.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The schedule.
    pub schedule: Schedule,
    /// The newest round.
    pub latest: Option<Latest>,
    /// Time since they were read.
    pub age: Duration,
    /// Whether this engine gives its table up, and how long it may still take for the round under way.
    pub leaving: Option<Duration>,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open the round of this number.
    Open(i64),
    /// Wait until published checkpoints cover the commitment, and begin to take bets.
    Cover,
    /// Accept no more bets.
    Close,
    /// Reveal the seed and pay.
    Settle,
    /// Reveal the seed and give the stakes back.
    Void(VoidReason),
    /// Nothing for so long.
    Wait(Duration),
    /// Nothing until the schedule changes.
    Rest,
    /// Give the table up as it is.
    Leave,
}

/// Decides.
pub fn decide(facts: &Facts) -> Action {
    let Some(latest) = &facts.latest else { return facts.open(1, Duration::ZERO) };
    match latest.state {
        RoundState::Settled | RoundState::Voided => {
            let ended_for = latest.ended_for.unwrap_or_default().saturating_add(facts.age);
            let pause = millis(facts.schedule.pause_ms).saturating_sub(ended_for);
            facts.open(latest.ordinal.saturating_add(1), pause)
        }
        RoundState::Open | RoundState::Closed if latest.cut => Action::Void(VoidReason::Expired),
        RoundState::Closed => Action::Settle,
        RoundState::Open => facts.go_on(latest),
    }
}

impl Facts {
    fn open(&self, ordinal: i64, pause: Duration) -> Action {
        if self.leaving.is_some() {
            Action::Leave
        } else if !self.schedule.enabled {
            Action::Rest
        } else if pause > Duration::ZERO {
            Action::Wait(pause)
        } else {
            Action::Open(ordinal)
        }
    }

    fn go_on(&self, latest: &Latest) -> Action {
        let Some(betting_for) = latest.betting_for else {
            let open_for = latest.open_for.saturating_add(self.age);
            return if open_for > limits::FLOOR_COVER_WITHIN {
                Action::Void(VoidReason::Expired)
            } else if self.leaving.is_some() {
                Action::Leave
            } else {
                Action::Cover
            };
        };
        let betting_for = betting_for.saturating_add(self.age);
        let left = latest.window.saturating_sub(betting_for);
        if left > Duration::ZERO {
            let too_long = self.leaving.is_some_and(|within| left > within);
            return if too_long { Action::Leave } else { Action::Wait(left) };
        }
        if betting_for <= latest.window.saturating_add(limits::FLOOR_LATE) {
            Action::Close
        } else {
            Action::Void(VoidReason::Expired)
        }
    }
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::floor::Table;
    use domicile_core::ids::{GameCode, OperatorId, RoundId};
    use domicile_core::money::Currency;

    const WINDOW: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_secs(3);

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn schedule(enabled: bool) -> Schedule {
        let table = Table {
            operator: OperatorId::parse("acme").unwrap(),
            game: GameCode::parse("wheel").unwrap(),
            currency: Currency::parse("EUR").unwrap(),
        };
        let (params, jurisdictions) = (None, Vec::new());
        let (betting_ms, pause_ms, revision) = (10_000, 3_000, 1);
        Schedule { table, params, jurisdictions, betting_ms, pause_ms, enabled, revision }
    }

    fn latest(state: RoundState) -> Latest {
        Latest {
            round: RoundId(uuid::Uuid::nil()),
            state,
            ordinal: 7,
            window: WINDOW,
            cut: false,
            jurisdictions: Vec::new(),
            open_for: secs(1),
            betting_for: None,
            ended_for: None,
        }
    }

    fn facts(latest: Option<Latest>) -> Facts {
        Facts { schedule: schedule(true), latest, age: Duration::ZERO, leaving: None }
    }

    fn betting(passed: Duration) -> Facts {
        facts(Some(Latest { betting_for: Some(passed), ..latest(RoundState::Open) }))
    }

    #[test]
    fn a_round_takes_bets_for_its_window_and_no_longer() {
        let void = Action::Void(VoidReason::Expired);
        let late = WINDOW + limits::FLOOR_LATE;
        let ms = Duration::from_millis(1);
        for (passed, expected) in [
            (Duration::ZERO, Action::Wait(WINDOW)),
            (WINDOW.saturating_sub(ms), Action::Wait(ms)),
            (WINDOW, Action::Close),
            (late, Action::Close),
            (late + ms, void),
            (Duration::MAX, void),
        ] {
            assert_eq!(decide(&betting(passed)), expected, "{passed:?}");
        }
        let aged = Facts { age: secs(4), ..betting(secs(7)) };
        assert_eq!(decide(&aged), Action::Close, "time since the look counts");
    }

    #[test]
    fn betting_begins_when_the_commitment_is_covered_or_the_round_is_void() {
        let open_for = |open_for| facts(Some(Latest { open_for, ..latest(RoundState::Open) }));
        assert_eq!(decide(&open_for(Duration::ZERO)), Action::Cover);
        assert_eq!(decide(&open_for(limits::FLOOR_COVER_WITHIN)), Action::Cover);
        let long = limits::FLOOR_COVER_WITHIN + secs(1);
        assert_eq!(decide(&open_for(long)), Action::Void(VoidReason::Expired));
    }

    #[test]
    fn a_closed_round_is_settled_whatever_else_holds() {
        for enabled in [true, false] {
            for leaving in [None, Some(Duration::ZERO), Some(secs(60))] {
                for age in [Duration::ZERO, secs(1_000_000)] {
                    let closed = Some(latest(RoundState::Closed));
                    let facts =
                        Facts { schedule: schedule(enabled), age, leaving, ..facts(closed) };
                    assert_eq!(decide(&facts), Action::Settle, "{enabled} {leaving:?} {age:?}");
                }
            }
        }
    }

    #[test]
    fn a_round_that_was_cut_off_is_voided_whatever_else_holds() {
        for state in [RoundState::Open, RoundState::Closed] {
            for betting_for in [None, Some(Duration::ZERO), Some(WINDOW)] {
                for leaving in [None, Some(Duration::ZERO)] {
                    let cut = Latest { cut: true, betting_for, ..latest(state) };
                    let facts = Facts { leaving, ..facts(Some(cut)) };
                    assert_eq!(decide(&facts), Action::Void(VoidReason::Expired));
                }
            }
        }
    }

    #[test]
    fn the_next_round_follows_after_the_pause() {
        for state in [RoundState::Settled, RoundState::Voided] {
            let ended =
                |ended_for| facts(Some(Latest { ended_for: Some(ended_for), ..latest(state) }));
            assert_eq!(decide(&ended(Duration::ZERO)), Action::Wait(PAUSE));
            assert_eq!(decide(&ended(PAUSE)), Action::Open(8));
            let off = Facts { schedule: schedule(false), ..ended(PAUSE) };
            assert_eq!(decide(&off), Action::Rest);
            let leaving = Facts { leaving: Some(secs(60)), ..ended(PAUSE) };
            assert_eq!(decide(&leaving), Action::Leave);
        }
        assert_eq!(decide(&facts(None)), Action::Open(1));
        let off = Facts { schedule: schedule(false), ..facts(None) };
        assert_eq!(decide(&off), Action::Rest);
    }

    #[test]
    fn who_leaves_finishes_what_ends_soon_and_hands_over_the_rest() {
        let leaving = |left: Duration, within| {
            decide(&Facts { leaving: Some(within), ..betting(WINDOW.saturating_sub(left)) })
        };
        assert_eq!(leaving(secs(2), secs(2)), Action::Wait(secs(2)));
        assert_eq!(leaving(secs(3), secs(2)), Action::Leave);
        assert_eq!(leaving(Duration::ZERO, Duration::ZERO), Action::Close);
        let uncovered = Facts { leaving: Some(secs(60)), ..facts(Some(latest(RoundState::Open))) };
        assert_eq!(decide(&uncovered), Action::Leave);
    }

    #[test]
    fn a_schedule_that_is_switched_off_ends_its_round_first() {
        let off = |facts: Facts| decide(&Facts { schedule: schedule(false), ..facts });
        assert_eq!(off(betting(secs(4))), Action::Wait(secs(6)));
        assert_eq!(off(betting(WINDOW)), Action::Close);
        assert_eq!(off(facts(Some(latest(RoundState::Open)))), Action::Cover);
    }
}
