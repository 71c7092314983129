//! A wallet transaction's way through the ledger: intended, asked for, ended – or put before a person.
//!
//! | call | from `pending` | to |
//! |---|---|---|
//! | bet | done | `done` |
//! | bet | refused | `refused` |
//! | bet | unknown | `undone`, and a rollback begins |
//! | win, rollback | done | `done` |
//! | win, rollback | retry | `pending` again after a pause; `dead` once it is too old |
//! | win, rollback | refused | `dead` |
//! | win, rollback, `dead` | a person re-arms it | `pending` |
//! | win, rollback, `dead` | a person has settled it otherwise | `resolved` |
//!
//! Invariants: an ended state is left by a person only, and only from `dead`; `undone` is the tombstone of a bet: an
//! answer or a repetition that comes later finds it and takes no stake.

use std::time::Duration;

use super::Call;
use super::answer::Meaning;

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobState {
    /// Intended; asked for or about to be.
    Pending,
    /// In the wallet.
    Done,
    /// A bet the wallet refused.
    Refused,
    /// A bet that must not be taken any more; its rollback is a transaction of its own.
    Undone,
    /// Given up: a person decides.
    Dead,
    /// A person has settled it outside.
    Resolved,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Done, Self::Refused, Self::Undone, Self::Dead, Self::Resolved];

    /// The text the ledger stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Undone => "undone",
            Self::Dead => "dead",
            Self::Resolved => "resolved",
        }
    }

    /// Reads the ledger's text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// How long a win or rollback is repeated, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pause after the first attempt; doubled by each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The age at which a transaction that is still not done goes before a person.
    pub give_up_after: Duration,
}

/// What follows from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The transaction ends here.
    End(JobState),
    /// The bet is undone and its rollback begins.
    Undo,
    /// The same again after this pause.
    Again(Duration),
}

/// What follows from what an answer to this transaction means.
///
/// `attempts` counts the one that was answered; `random` is any number and spreads the repetitions.
pub fn next(
    call: Call,
    meaning: Meaning,
    policy: RetryPolicy,
    (attempts, age): (u32, Duration),
    random: u64,
) -> Next {
    match (call, meaning) {
        (_, Meaning::Done) => Next::End(JobState::Done),
        (Call::Bet, Meaning::Refused) => Next::End(JobState::Refused),
        (Call::Bet, Meaning::Retry | Meaning::Unknown) => Next::Undo,
        (Call::Win | Call::Rollback, Meaning::Refused) => Next::End(JobState::Dead),
        (Call::Win | Call::Rollback, Meaning::Retry | Meaning::Unknown) => {
            if age >= policy.give_up_after {
                Next::End(JobState::Dead)
            } else {
                Next::Again(policy.pause(attempts, random))
            }
        }
    }
}

impl RetryPolicy {
    /// The pause after this many attempts: half of it certain, half of it by chance, so that what failed
    /// together does not come back together.
    pub fn pause(self, attempts: u32, random: u64) -> Duration {
        let doublings = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.first_pause.saturating_mul(doublings).min(self.longest_pause);
        let half_ms = u64::try_from(full.as_millis()).unwrap_or(u64::MAX) / 2;
        let chance_ms = random.checked_rem(half_ms.saturating_add(1)).unwrap_or(0);
        Duration::from_millis(half_ms.saturating_add(chance_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wallet::answer::{Answer, Duplicate, Status, meaning};
    use proptest::prelude::*;

    const POLICY: RetryPolicy = RetryPolicy {
        first_pause: Duration::from_secs(1),
        longest_pause: Duration::from_mins(5),
        give_up_after: Duration::from_hours(1),
    };

    #[test]
    fn texts_round_trip_and_nothing_else_parses() {
        for state in JobState::ALL {
            assert_eq!(JobState::parse(state.as_str()), Some(state));
        }
        assert_eq!(JobState::parse("Done"), None);
    }

    #[test]
    fn pauses_double_up_to_the_cap() {
        for (attempts, full_ms) in
            [(0, 1_000u64), (1, 1_000), (2, 2_000), (9, 256_000), (10, 300_000)]
        {
            let pause_ms = |random| POLICY.pause(attempts, random).as_millis();
            assert_eq!(pause_ms(0), u128::from(full_ms / 2));
            assert_eq!(pause_ms(full_ms / 2), u128::from(full_ms));
        }
        assert_eq!(POLICY.pause(u32::MAX, 0).as_millis(), 150_000);
    }

    #[test]
    fn what_is_old_goes_before_a_person_unless_it_is_done() {
        let old = (7, Duration::from_hours(1));
        for call in [Call::Win, Call::Rollback] {
            assert_eq!(next(call, Meaning::Retry, POLICY, old, 0), Next::End(JobState::Dead));
            assert_eq!(next(call, Meaning::Done, POLICY, old, 0), Next::End(JobState::Done));
        }
        assert_eq!(next(Call::Bet, Meaning::Unknown, POLICY, old, 0), Next::Undo);
    }

    proptest! {
        /// Any answers in any order: a bet ends at its first answer, a win ends done or dead and is never undone.
        #[test]
        fn every_transaction_comes_to_its_end(
            answers in prop::collection::vec(0usize..=Status::all().count(), 1..40),
            duplicate_is_done: bool, random: u64, seconds in 0u64..7200,
        ) {
            let duplicate = if duplicate_is_done { Duplicate::Done } else { Duplicate::Conflict };
            for call in Call::ALL {
                let (mut ended, mut attempts) = (None, 0);
                for index in &answers {
                    let answer = Status::all().nth(*index).map_or(Answer::None, Answer::Listed);
                    let age = Duration::from_secs(seconds) * attempts;
                    attempts += 1;
                    match next(call, meaning(call, answer, duplicate), POLICY, (attempts, age), random) {
                        Next::Again(pause) => {
                            prop_assert!(call != Call::Bet && pause <= POLICY.longest_pause);
                            prop_assert!(pause >= POLICY.first_pause / 2);
                        }
                        Next::Undo => {
                            prop_assert_eq!(call, Call::Bet);
                            ended = Some(JobState::Undone);
                        }
                        Next::End(state) => ended = Some(state),
                    }
                    if ended.is_some() {
                        break;
                    }
                }
                let permitted: &[_] = match call {
                    Call::Bet => &[JobState::Done, JobState::Refused, JobState::Undone],
                    Call::Win | Call::Rollback => &[JobState::Done, JobState::Dead],
                };
                prop_assert!(ended.is_none_or(|state| permitted.contains(&state)));
                prop_assert!(call != Call::Bet || ended.is_some());
            }
        }
    }
}
