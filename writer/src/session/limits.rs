//! Responsible-gaming limits that an operator gives a session: stake of one bet, loss, time.
//!
//! Stake and time are decided when a bet is looked at. The loss is decided by the transaction that writes the bet
//! (`ledger::limited`): of two bets at once, also in two processes, the second one counts the first. A bet that is still
//! open counts as lost. A look refuses what is beyond the limit already, before a wallet is asked.

use crate::answer::Failure;
use crate::ledger::limited::SessionLimits;
use domicile_core::error::Code;
use domicile_core::money::Micro;
use serde::{Deserialize, Serialize};

/// What an operator sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsBody {
    /// The largest stake of one bet.
    pub stake_micro: Option<Micro>,
    /// The most that may be lost: stakes less payouts.
    pub loss_micro: Option<Micro>,
    /// How long bets are taken, from the session's opening.
    pub time_s: Option<u64>,
}

/// The limits as the session's player sees them.
#[derive(Debug, Serialize)]
pub struct LimitsView {
    stake_micro: Option<i64>,
    loss_micro: Option<i64>,
    lost_micro: Option<i64>,
    play_until_unix_s: Option<u64>,
}

impl LimitsBody {
    /// Refuses limits that limit nothing or everything.
    pub fn check(&self) -> Result<(), Failure> {
        let zero = |limit: Option<Micro>| limit == Some(Micro::ZERO);
        if zero(self.stake_micro) || zero(self.loss_micro) || self.time_s == Some(0) {
            return Err(Failure::with(Code::MalformedBody, "a limit is more than nothing"));
        }
        Ok(())
    }

    /// The limits of a session that is opened now.
    pub fn from(self, now_unix_s: u64) -> SessionLimits {
        SessionLimits {
            stake_micro: self.stake_micro.map(Micro::as_i64),
            loss_micro: self.loss_micro.map(Micro::as_i64),
            play_until_unix_s: self.time_s.map(|time_s| now_unix_s.saturating_add(time_s)),
            lost_micro: None,
        }
    }
}

impl SessionLimits {
    /// Refuses a stake that is beyond a limit now.
    pub fn check(&self, stake: Micro, now_unix_s: u64) -> Result<(), Failure> {
        if self.stake_micro.is_some_and(|limit| stake.as_i64() > limit) {
            return Err(refused(Code::StakeLimit, "stake"));
        }
        if self.play_until_unix_s.is_some_and(|until| now_unix_s >= until) {
            return Err(refused(Code::TimeLimit, "time"));
        }
        let lost = self.lost_micro.unwrap_or_default().saturating_add(stake.as_i64());
        if self.loss_micro.is_some_and(|limit| lost > limit) {
            return Err(refused(Code::LossLimit, "loss"));
        }
        Ok(())
    }

    /// As shown to the player; nothing where there is no limit.
    pub fn view(&self) -> Option<LimitsView> {
        let none = self.stake_micro.is_none()
            && self.loss_micro.is_none()
            && self.play_until_unix_s.is_none();
        (!none).then_some(LimitsView {
            stake_micro: self.stake_micro,
            loss_micro: self.loss_micro,
            lost_micro: self.lost_micro,
            play_until_unix_s: self.play_until_unix_s,
        })
    }
}

fn refused(code: Code, limit: &'static str) -> Failure {
    metrics::counter!("domicile_writer_limit_refusals_total", "limit" => limit).increment(1);
    Failure::new(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn code(limits: SessionLimits, stake: u64) -> Option<Code> {
        limits.check(Micro::new(stake).unwrap(), NOW).err().map(|failure| failure.code)
    }

    #[test]
    fn each_limit_refuses_beyond_it_and_not_at_it() {
        let none = SessionLimits::default();
        assert_eq!(code(none, 9_000_000_000_000_000), None);
        let stake = SessionLimits { stake_micro: Some(5), ..none };
        assert_eq!((code(stake, 5), code(stake, 6)), (None, Some(Code::StakeLimit)));
        let loss = SessionLimits { loss_micro: Some(10), lost_micro: Some(7), ..none };
        assert_eq!((code(loss, 3), code(loss, 4)), (None, Some(Code::LossLimit)));
        let won = SessionLimits { loss_micro: Some(10), lost_micro: Some(-7), ..none };
        assert_eq!((code(won, 17), code(won, 18)), (None, Some(Code::LossLimit)));
        let time = SessionLimits { play_until_unix_s: Some(NOW + 1), ..none };
        assert_eq!(code(time, 1), None);
        let over = SessionLimits { play_until_unix_s: Some(NOW), ..none };
        assert_eq!(code(over, 1), Some(Code::TimeLimit));
    }

    #[test]
    fn limits_are_read_strictly() {
        let body: LimitsBody = serde_json::from_str(r#"{"stake_micro":5,"time_s":60}"#).unwrap();
        assert!(body.check().is_ok());
        assert_eq!(body.from(NOW).play_until_unix_s, Some(NOW + 60));
        assert!(LimitsBody { loss_micro: Some(Micro::ZERO), ..body }.check().is_err());
        assert!(serde_json::from_str::<LimitsBody>(r#"{"stakes_micro":5}"#).is_err());
        assert!(body.from(NOW).view().is_some());
        assert!(SessionLimits::default().view().is_none());
    }
}
