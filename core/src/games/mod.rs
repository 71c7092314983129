//! The games, as plugins behind one trait.
//!
//! A game turns draws into an outcome text and an outcome into payouts; it knows nothing of players,
//! rounds or storage. Parameters, selections and outcomes are single ASCII lines with exactly one
//! spelling each, because they are hashed into leaves and records and read by other verifiers.
//! Invariants: outcomes depend on parameters and draws only; no configuration pays back more than
//! it takes ([`Game::rtp_ppm`] ≤ 1 000 000); money rounds towards the house.
//! A new game is a module here, a line in [`ALL`] and a set of published vectors in `testdata/`.

mod hilo_dice;
mod params;
mod wheel;

use thiserror::Error;

use crate::{
    error::Code,
    ids::GameCode,
    money::{AmountOutOfRange, Micro},
    outcome::{DrawError, Draws},
};

/// One whole in parts per million.
pub const PPM: u64 = 1_000_000;

/// Every game of this build.
pub const ALL: &[&dyn Game] = &[&hilo_dice::HiloDice, &wheel::Wheel];

/// Why a game refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GameError {
    /// The parameters are not the canonical text of a permitted configuration.
    #[error("game parameters: {0}")]
    Params(&'static str),
    /// The selection is not one of this game's.
    #[error("selection: {0}")]
    Selection(&'static str),
    /// The outcome is not one these parameters can produce.
    #[error("outcome: {0}")]
    Outcome(&'static str),
    /// The payout does not fit.
    #[error("payout: {0}")]
    Amount(#[from] AmountOutOfRange),
    /// The outcome could not be drawn.
    #[error("draw: {0}")]
    Draw(#[from] DrawError),
}

impl GameError {
    /// The code a caller sees.
    pub const fn code(&self) -> Code {
        match self {
            Self::Params(_) => Code::GameParameters,
            Self::Selection(_) | Self::Amount(_) => Code::BetInvalid,
            Self::Outcome(_) | Self::Draw(_) => Code::Internal,
        }
    }
}

/// What every game provides. All texts are canonical: another spelling is refused.
pub trait Game: Send + Sync {
    /// The game's code.
    fn code(&self) -> &'static str;
    /// The parameters of a round that names none.
    fn default_params(&self) -> &'static str;
    /// Refuses parameters that are malformed, out of range, or pay back more than they take.
    fn check_params(&self, params: &str) -> Result<(), GameError>;
    /// Every selection a player may make.
    fn selections(&self, params: &str) -> Result<Vec<&'static str>, GameError>;
    /// Draws the outcome.
    fn outcome(&self, params: &str, draws: &mut Draws) -> Result<String, GameError>;
    /// What a stake on `selection` pays when `outcome` came, stake included; zero when it lost.
    fn payout(
        &self,
        params: &str,
        stake: Micro,
        selection: &str,
        outcome: &str,
    ) -> Result<Micro, GameError>;
    /// The expected payout of a stake of one million, rounded down.
    fn rtp_ppm(&self, params: &str, selection: &str) -> Result<u64, GameError>;
    /// The largest payout of a stake on `selection`, for checking a bet before it is taken.
    fn max_payout(&self, params: &str, stake: Micro, selection: &str) -> Result<Micro, GameError>;

    /// Refuses a selection this game does not offer.
    fn check_selection(&self, params: &str, selection: &str) -> Result<(), GameError> {
        if self.selections(params)?.contains(&selection) {
            Ok(())
        } else {
            Err(GameError::Selection("not offered by this game"))
        }
    }
}

/// The game of that code, if this build has it.
pub fn game(code: &GameCode) -> Option<&'static dyn Game> {
    ALL.iter().copied().find(|game| game.code() == code.as_str())
}
