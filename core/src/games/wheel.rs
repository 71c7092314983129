//! `wheel`: one spin of a wheel of weighted segments, each with a multiplier.
//!
//! Parameters `segments=54x0/24x1500000/…`: weight `x` multiplier in parts per million, at least two
//! segments. A wheel whose expectation exceeds its stake is refused.
//! Selection `spin`; outcome `segment <index from 0> <multiplier_ppm>`.

use super::{Game, GameError, PPM, params};
use crate::{money::Micro, outcome::Draws};

const DEFAULT: &str = "segments=54x0/24x1500000/14x2000000/6x3000000/2x7500000";
const SEGMENTS_MAX: usize = 64;
const WEIGHT_MAX: u64 = 1_000_000;
const MULTIPLIER_MAX_PPM: u64 = 1_000 * PPM;
const SPIN: &str = "spin";

pub(super) struct Wheel;

struct Segment {
    weight: u64,
    multiplier_ppm: u64,
}

struct Params(Vec<Segment>);

impl Params {
    fn parse(line: &str) -> Result<Self, GameError> {
        let [list] = params::values(line, ["segments"])?;
        let mut segments = Vec::new();
        for text in list.split('/') {
            let (weight, multiplier) = text
                .split_once('x')
                .ok_or(GameError::Params("a segment is weight x multiplier"))?;
            let weight = params::number(weight, 1..=WEIGHT_MAX)?;
            let multiplier_ppm = params::number(multiplier, 0..=MULTIPLIER_MAX_PPM)?;
            segments.push(Segment { weight, multiplier_ppm });
        }
        if !(2..=SEGMENTS_MAX).contains(&segments.len()) {
            return Err(GameError::Params("a wheel has 2..=64 segments"));
        }
        let wheel = Self(segments);
        // Compared without rounding: not even a fraction of a part above the stake.
        if wheel.weighted_sum() > wheel.total() * PPM {
            return Err(GameError::Params("the wheel pays back more than it takes"));
        }
        Ok(wheel)
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|segment| segment.weight).sum()
    }

    /// At most 64 × 10^6 × 10^9, inside 64 bits.
    fn weighted_sum(&self) -> u64 {
        self.0.iter().map(|segment| segment.weight * segment.multiplier_ppm).sum()
    }
}

impl Game for Wheel {
    fn code(&self) -> &'static str {
        "wheel"
    }

    fn default_params(&self) -> &'static str {
        DEFAULT
    }

    fn check_params(&self, params: &str) -> Result<(), GameError> {
        Params::parse(params).map(drop)
    }

    fn selections(&self, params: &str) -> Result<Vec<&'static str>, GameError> {
        Params::parse(params).map(|_| vec![SPIN])
    }

    fn outcome(&self, params: &str, draws: &mut Draws) -> Result<String, GameError> {
        let wheel = Params::parse(params)?;
        let mut left = draws.below(wheel.total())?;
        for (index, segment) in wheel.0.iter().enumerate() {
            match left.checked_sub(segment.weight) {
                Some(rest) => left = rest,
                None => return Ok(format!("segment {index} {}", segment.multiplier_ppm)),
            }
        }
        Err(GameError::Outcome("the draw lies outside the wheel"))
    }

    fn payout(
        &self,
        params: &str,
        stake: Micro,
        selection: &str,
        outcome: &str,
    ) -> Result<Micro, GameError> {
        let wheel = Params::parse(params)?;
        check_spin(selection)?;
        let multiplier_ppm = wheel
            .0
            .iter()
            .enumerate()
            .map(|(index, segment)| (index, segment.multiplier_ppm))
            .find(|(index, ppm)| format!("segment {index} {ppm}") == outcome)
            .map(|(_, ppm)| ppm)
            .ok_or(GameError::Outcome("not a segment of this wheel"))?;
        Ok(stake.mul_ratio(multiplier_ppm, PPM)?)
    }

    fn rtp_ppm(&self, params: &str, selection: &str) -> Result<u64, GameError> {
        let wheel = Params::parse(params)?;
        check_spin(selection)?;
        Ok(wheel.weighted_sum() / wheel.total())
    }

    fn max_payout(&self, params: &str, stake: Micro, selection: &str) -> Result<Micro, GameError> {
        let wheel = Params::parse(params)?;
        check_spin(selection)?;
        let most_ppm = wheel.0.iter().map(|segment| segment.multiplier_ppm).max().unwrap_or(0);
        Ok(stake.mul_ratio(most_ppm, PPM)?)
    }
}

fn check_spin(selection: &str) -> Result<(), GameError> {
    if selection == SPIN { Ok(()) } else { Err(GameError::Selection("expected spin")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_pays_its_multiplier() {
        let stake = Micro::new(333).unwrap();
        let pay = |outcome| Wheel.payout(DEFAULT, stake, SPIN, outcome).map(Micro::get);
        assert_eq!(pay("segment 0 0"), Ok(0));
        assert_eq!(pay("segment 1 1500000"), Ok(499));
        for foreign in ["segment 1 1500001", "segment 5 0", "segment 01 1500000", "1"] {
            assert!(pay(foreign).is_err(), "{foreign}");
        }
        assert!(Wheel.payout(DEFAULT, stake, "red", "segment 0 0").is_err());
    }

    #[test]
    fn bad_wheels_are_refused() {
        for params in [
            "segments=",
            "segments=1x0",
            "segments=1x0/1x2000001",
            "segments=0x0/1x1",
            "segments=1x0/1x1000000001",
            "segments=1x0/1",
            "segments=1x0/",
            "segments=1x0/1x1,more=1",
        ] {
            assert!(Wheel.check_params(params).is_err(), "{params}");
        }
        let many = vec!["1x1"; SEGMENTS_MAX + 1].join("/");
        assert!(Wheel.check_params(&format!("segments={many}")).is_err());
        assert_eq!(Wheel.check_params("segments=1x0/1x2000000"), Ok(()));
    }
}
