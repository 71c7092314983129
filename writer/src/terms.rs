//! On what terms an operator offers a game: whether at all, with which parameters, within which limits.
//!
//! Invariants: what begins – a session's chain, a round – takes its parameters from the terms in force and keeps them,
//! because its commit leaf states them; limits and suspension hold for every bet at once. A suspension ends what is in
//! flight by [`crate::admin::suspension`].
//! Deliberately absent: a commission of its own. It is one of a game's parameters.

use crate::answer::Failure;
use crate::ledger::games::{self, Config};
use crate::order::Order;
use domicile_core::error::Code;
use domicile_core::games::{Game, game};
use domicile_core::ids::{GameCode, OperatorId};
use domicile_core::money::Micro;
use domicile_postgres::Query;

/// The terms in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GameTerms {
    /// Which change of the terms this is; 0 where none was ever made.
    pub revision: u64,
    /// Whether the game is offered.
    pub enabled: bool,
    /// Whether it is stopped for an incident.
    pub suspended: bool,
    /// The parameters of what begins now.
    pub params: String,
    /// The smallest stake.
    pub stake_min: Option<Micro>,
    /// The largest stake.
    pub stake_max: Option<Micro>,
    /// The largest payout that a bet may lead to.
    pub payout_max: Option<Micro>,
}

impl GameTerms {
    /// The terms of a revision, or those of a game that nobody has set any for.
    pub fn new(of: &dyn Game, config: Option<Config>) -> Self {
        let own = || of.default_params().to_owned();
        match config {
            Some(config) => Self {
                revision: config.revision,
                enabled: config.enabled,
                suspended: config.suspended,
                params: config.params.unwrap_or_else(own),
                stake_min: config.stake_min,
                stake_max: config.stake_max,
                payout_max: config.payout_max,
            },
            None => Self {
                revision: 0,
                enabled: true,
                suspended: false,
                params: own(),
                stake_min: None,
                stake_max: None,
                payout_max: None,
            },
        }
    }

    /// Reads the terms in force.
    pub async fn read(
        on: &impl Query,
        operator: &OperatorId,
        code: &GameCode,
    ) -> Result<Self, Failure> {
        let of = game(code).ok_or(Failure::new(Code::GameUnknown))?;
        Ok(Self::new(of, games::latest(on, operator, code).await?))
    }

    /// Refuses to begin anything, or to take a bet, while the game is not offered.
    pub fn check_offered(&self) -> Result<(), Failure> {
        if self.suspended {
            Err(Failure::with(Code::GameSuspended, "the game is suspended"))
        } else if !self.enabled {
            Err(Failure::with(Code::GameSuspended, "the game is not offered at present"))
        } else {
            Ok(())
        }
    }

    /// Refuses a bet that the terms do not permit; `params` are those of its round or chain.
    pub fn check_bet(&self, code: &GameCode, params: &str, order: &Order) -> Result<(), Failure> {
        self.check_offered()?;
        let refuse = |detail: String| Err(Failure::with(Code::GameLimit, detail));
        if let Some(least) = self.stake_min.filter(|least| order.stake < *least) {
            return refuse(format!("the smallest stake is {least} micro-units"));
        }
        if let Some(most) = self.stake_max.filter(|most| order.stake > *most) {
            return refuse(format!("the largest stake is {most} micro-units"));
        }
        let Some(most) = self.payout_max else { return Ok(()) };
        let of = game(code).ok_or(Failure::new(Code::GameUnknown))?;
        let largest = of.max_payout(params, order.stake, &order.selection);
        let largest = largest.map_err(|error| Failure::with(error.code(), error.to_string()))?;
        if largest > most {
            return refuse(format!("the largest payout is {most} micro-units"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(stake_micro: u64) -> Order {
        Order {
            stake: Micro::new(stake_micro).unwrap(),
            selection: "high".into(),
            client_seed: [0; 32],
            commitment: [0; 32],
            checkpoint_size: None,
        }
    }

    fn terms(config: Option<Config>) -> (GameCode, GameTerms) {
        let code = GameCode::parse("hilo-dice").unwrap();
        let terms = GameTerms::new(game(&code).unwrap(), config);
        (code, terms)
    }

    fn config() -> Config {
        Config {
            revision: 3,
            enabled: true,
            suspended: false,
            params: None,
            stake_min: Micro::new(100).ok(),
            stake_max: Micro::new(1_000).ok(),
            payout_max: Micro::new(1_500).ok(),
        }
    }

    #[test]
    fn without_a_revision_the_game_is_offered_as_built() {
        let (code, terms) = terms(None);
        assert_eq!(
            (terms.revision, terms.params.as_str()),
            (0, game(&code).unwrap().default_params())
        );
        assert_eq!(terms.check_bet(&code, &terms.params, &order(1)), Ok(()));
    }

    #[test]
    fn limits_hold_to_the_micro_unit() {
        let (code, terms) = terms(Some(config()));
        let verdict =
            |stake| terms.check_bet(&code, &terms.params, &order(stake)).map_err(|f| f.code);
        assert_eq!(verdict(99), Err(Code::GameLimit));
        assert_eq!(verdict(100), Ok(()));
        // 1.94 times the stake, rounded down: 773 pays 1499, 774 pays 1501.
        assert_eq!(verdict(773), Ok(()));
        assert_eq!(verdict(774), Err(Code::GameLimit));
        assert_eq!(verdict(1_001), Err(Code::GameLimit));
    }

    #[test]
    fn a_game_that_is_not_offered_takes_nothing() {
        for (enabled, suspended) in [(false, false), (true, true), (false, true)] {
            let (code, terms) = terms(Some(Config { enabled, suspended, ..config() }));
            let verdict = terms.check_bet(&code, &terms.params, &order(500));
            assert_eq!(verdict.unwrap_err().code, Code::GameSuspended);
        }
    }
}
