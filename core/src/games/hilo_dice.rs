//! `hilo-dice`: one die with two sides of three faces, low (3, 6, 9) and high (12, 15, 18).
//!
//! Parameters `low_weight=48,high_weight=48,commission_ppm=30000`. The side is drawn by weight, the
//! face evenly within it. A won bet pays the side's fair odds less the commission, so both sides
//! return the same `1 − commission` whatever the weights: a skewed die favours no side.
//! Selections `low`, `high`; outcomes `low 3` … `high 18`.

use super::{Game, GameError, PPM, params};
use crate::{money::Micro, outcome::Draws};

const DEFAULT: &str = "low_weight=48,high_weight=48,commission_ppm=30000";
const WEIGHT_MAX: u64 = 10_000;
const COMMISSION_MAX_PPM: u64 = 200_000;
const LOW: (&str, [&str; 3]) = ("low", ["low 3", "low 6", "low 9"]);
const HIGH: (&str, [&str; 3]) = ("high", ["high 12", "high 15", "high 18"]);

pub(super) struct HiloDice;

struct Params {
    low_weight: u64,
    high_weight: u64,
    commission_ppm: u64,
}

impl Params {
    fn parse(line: &str) -> Result<Self, GameError> {
        let [low, high, commission] =
            params::values(line, ["low_weight", "high_weight", "commission_ppm"])?;
        Ok(Self {
            low_weight: params::number(low, 1..=WEIGHT_MAX)?,
            high_weight: params::number(high, 1..=WEIGHT_MAX)?,
            commission_ppm: params::number(commission, 0..=COMMISSION_MAX_PPM)?,
        })
    }

    const fn total(&self) -> u64 {
        self.low_weight + self.high_weight
    }

    fn weight(&self, selection: &str) -> Result<u64, GameError> {
        match selection {
            "low" => Ok(self.low_weight),
            "high" => Ok(self.high_weight),
            _ => Err(GameError::Selection("expected low or high")),
        }
    }

    /// Stake times total over weight, less commission, in one division.
    fn win(&self, stake: Micro, selection: &str) -> Result<Micro, GameError> {
        let weight = self.weight(selection)?;
        let kept_ppm = PPM - self.commission_ppm;
        Ok(stake.mul_ratio(self.total() * kept_ppm, weight * PPM)?)
    }
}

impl Game for HiloDice {
    fn code(&self) -> &'static str {
        "hilo-dice"
    }

    fn default_params(&self) -> &'static str {
        DEFAULT
    }

    fn check_params(&self, params: &str) -> Result<(), GameError> {
        Params::parse(params).map(drop)
    }

    fn selections(&self, params: &str) -> Result<Vec<&'static str>, GameError> {
        Params::parse(params).map(|_| vec![LOW.0, HIGH.0])
    }

    fn outcome(&self, params: &str, draws: &mut Draws) -> Result<String, GameError> {
        let params = Params::parse(params)?;
        let (_, [first, second, third]) =
            if draws.below(params.total())? < params.low_weight { LOW } else { HIGH };
        let face = match draws.below(3)? {
            0 => first,
            1 => second,
            _ => third,
        };
        Ok(face.to_owned())
    }

    fn payout(
        &self,
        params: &str,
        stake: Micro,
        selection: &str,
        outcome: &str,
    ) -> Result<Micro, GameError> {
        let win = Params::parse(params)?.win(stake, selection)?;
        let (side, _) = [LOW, HIGH]
            .into_iter()
            .find(|(_, faces)| faces.contains(&outcome))
            .ok_or(GameError::Outcome("not a side and one of its faces"))?;
        Ok(if side == selection { win } else { Micro::ZERO })
    }

    fn rtp_ppm(&self, params: &str, selection: &str) -> Result<u64, GameError> {
        let params = Params::parse(params)?;
        params.weight(selection)?;
        Ok(PPM - params.commission_ppm)
    }

    fn max_payout(&self, params: &str, stake: Micro, selection: &str) -> Result<Micro, GameError> {
        Params::parse(params)?.win(stake, selection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_win_pays_fair_odds_less_commission() {
        let stake = Micro::new(1_000_000).unwrap();
        let pay = |params, selection, outcome| {
            HiloDice.payout(params, stake, selection, outcome).map(Micro::get)
        };
        assert_eq!(pay(DEFAULT, "low", "low 6"), Ok(1_940_000));
        assert_eq!(pay(DEFAULT, "low", "high 15"), Ok(0));
        let skewed = "low_weight=60,high_weight=40,commission_ppm=0";
        assert_eq!(pay(skewed, "low", "low 9"), Ok(1_666_666));
        assert_eq!(pay(skewed, "high", "high 18"), Ok(2_500_000));
    }

    #[test]
    fn other_spellings_are_refused() {
        for params in [
            "",
            "low_weight=48,high_weight=48",
            "high_weight=48,low_weight=48,commission_ppm=0",
            "low_weight=48,high_weight=48,commission_ppm=0,x=1",
            "low_weight=048,high_weight=48,commission_ppm=0",
            "low_weight=+48,high_weight=48,commission_ppm=0",
            "low_weight=0,high_weight=48,commission_ppm=0",
            "low_weight=10001,high_weight=48,commission_ppm=0",
            "low_weight=48,high_weight=48,commission_ppm=200001",
            "low_weight=48, high_weight=48,commission_ppm=0",
        ] {
            assert!(HiloDice.check_params(params).is_err(), "{params}");
        }
        assert!(HiloDice.check_selection(DEFAULT, "Low").is_err());
        let refused = HiloDice.payout(DEFAULT, Micro::ZERO, "low", "low 12");
        assert_eq!(refused, Err(GameError::Outcome("not a side and one of its faces")));
    }
}
