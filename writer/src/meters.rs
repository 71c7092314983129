//! What the writer counts: transitions, stakes, payouts.
//!
//! Invariant: label values come from code or from the list of games; none names an operator, player or id.

use crate::round_state::RoundState;
use domicile_core::games::{self, PPM};
use domicile_core::ids::GameCode;
use domicile_core::money::Micro;
use std::sync::atomic::{AtomicU64, Ordering};

/// Stakes and payouts by game since this process began to serve.
#[derive(Debug)]
pub struct Meters {
    games: Vec<Totals>,
}

/// What a settled round took and paid.
#[derive(Debug, Clone)]
pub struct Turnover {
    /// The game.
    pub game: GameCode,
    /// All stakes.
    pub staked: Micro,
    /// All payouts.
    pub paid: Micro,
}

#[derive(Debug)]
struct Totals {
    game: &'static str,
    staked_micro: AtomicU64,
    paid_micro: AtomicU64,
}

impl Default for Meters {
    fn default() -> Self {
        let totals = |game: &&'static dyn games::Game| Totals {
            game: game.code(),
            staked_micro: AtomicU64::new(0),
            paid_micro: AtomicU64::new(0),
        };
        Self { games: games::ALL.iter().map(totals).collect() }
    }
}

impl Meters {
    /// Counts settled bets and shows the return to player measured so far.
    pub fn settled(&self, game: &GameCode, staked: Micro, paid: Micro) {
        let Some(totals) = self.games.iter().find(|t| t.game == game.as_str()) else { return };
        let staked = add(&totals.staked_micro, staked.get());
        let paid = add(&totals.paid_micro, paid.get());
        let ppm = u128::from(paid).saturating_mul(u128::from(PPM)).checked_div(u128::from(staked));
        let ppm = ppm.and_then(|ppm| u32::try_from(ppm).ok()).unwrap_or(0);
        metrics::gauge!("rtp_actual_ppm", "game" => totals.game).set(f64::from(ppm));
    }
}

fn add(total: &AtomicU64, amount: u64) -> u64 {
    total.fetch_add(amount, Ordering::Relaxed).saturating_add(amount)
}

/// A round's step from one state to the next.
#[derive(Debug, Clone)]
pub struct Entered {
    /// Its game.
    pub game: GameCode,
    /// The state it left; `None` for one that opens.
    pub from: Option<RoundState>,
    /// The state it entered.
    pub to: RoundState,
}

/// Counts a step.
pub fn transition(kind: &'static str, step: &Entered) {
    let game = games::ALL.iter().find(|game| game.code() == step.game.as_str());
    let labels = [
        ("kind", kind),
        ("game", game.map_or("unknown", |game| game.code())),
        ("from", step.from.map_or("none", RoundState::as_str)),
        ("to", step.to.as_str()),
    ];
    metrics::counter!("round_state_transitions_total", &labels).increment(1);
}
