//! What the games really pay back: every outcome's frequency and the return of every selection,
//! over fixed seeds, against the expectation the game declares.

#![cfg(test)]

use std::collections::BTreeMap;

use domicile_core::{
    games::{self, Game, PPM},
    money::Micro,
    outcome::Draws,
    seed::Seed,
};
use proptest::prelude::*;

/// Rounds per game in every run of the tests.
const ROUNDS: u64 = 200_000;
/// Rounds per game before a release.
const RELEASE_ROUNDS: u64 = 10_000_000;

/// What was seen of one game with one set of parameters, at a stake of one million.
struct Seen {
    rounds: u64,
    /// Per selection: its payouts' sum, and the sum of their squares.
    paid: Vec<(&'static str, u64, u128)>,
    outcomes: BTreeMap<String, u64>,
}

impl Seen {
    /// Plays this many rounds over fixed seeds and contexts.
    fn play(game: &dyn Game, params: &str, rounds: u64) -> Self {
        let (seed, stake) = (Seed::new([0x5e; 32]), Micro::new(PPM).unwrap());
        let selections = game.selections(params).unwrap();
        let mut paid: Vec<_> = selections.into_iter().map(|selection| (selection, 0, 0)).collect();
        let mut outcomes = BTreeMap::new();
        for round in 0..rounds {
            let mut draws = Draws::new(&seed, format!("{} {round}\n", game.code()).as_bytes());
            let outcome = game.outcome(params, &mut draws).unwrap();
            for (selection, sum, squares) in &mut paid {
                let payout = game.payout(params, stake, selection, &outcome).unwrap().get();
                *sum += payout;
                *squares += u128::from(payout).pow(2);
            }
            *outcomes.entry(outcome).or_default() += 1;
        }
        Self { rounds, paid, outcomes }
    }

    /// Holds each selection's return to `declared_ppm`: at most four standard errors away, in integers.
    fn assert_returns(&self, declared_ppm: u64) {
        let rounds = u128::from(self.rounds);
        for (selection, sum, squares) in &self.paid {
            let variance = squares / rounds - u128::from(sum / self.rounds).pow(2);
            let away = u128::from((sum / self.rounds).abs_diff(declared_ppm));
            assert!(
                away.pow(2) * rounds <= 16 * variance,
                "{selection}: {} ppm over {rounds} rounds, {declared_ppm} declared",
                sum / self.rounds
            );
        }
    }
}

fn default_games_return_what_they_declare(rounds: u64) {
    std::thread::scope(|threads| {
        for game in games::ALL {
            threads.spawn(move || {
                let params = game.default_params();
                for selection in game.selections(params).unwrap() {
                    assert_eq!(game.rtp_ppm(params, selection), Ok(970_000), "{selection}");
                }
                Seen::play(*game, params, rounds).assert_returns(970_000);
            });
        }
    });
}

#[test]
fn default_games_return_their_share() {
    default_games_return_what_they_declare(ROUNDS);
}

#[test]
#[ignore = "ten million rounds per game are a release check: make rtp"]
fn default_games_return_their_share_over_ten_million_rounds() {
    default_games_return_what_they_declare(RELEASE_ROUNDS);
}

#[test]
fn a_skewed_die_favours_no_side() {
    let game = games::ALL.iter().find(|game| game.code() == "hilo-dice").unwrap();
    let params = "low_weight=70,high_weight=30,commission_ppm=50000";
    Seen::play(*game, params, ROUNDS).assert_returns(950_000);
}

#[test]
fn faces_are_even() {
    let game = games::ALL.iter().find(|game| game.code() == "hilo-dice").unwrap();
    let counts = Seen::play(*game, game.default_params(), ROUNDS).outcomes;
    assert_eq!(counts.len(), 6);
    // Chi-square with 5 degrees of freedom: 20.5 is the 0.1 % point. Scaled by 1000, in integers.
    let expected = ROUNDS / 6;
    let scaled: u64 =
        counts.values().map(|seen| seen.abs_diff(expected).pow(2) * 1000 / expected).sum();
    assert!(scaled < 20_500, "{counts:?}");
}

proptest! {
    #[test]
    fn outcomes_are_payable_and_below_the_maximum(
        seed: [u8; 32], stake in 0u64..1_000_000_000, low in 1u64..=10_000, high in 1u64..=10_000,
        commission in 0u64..=200_000,
        segments in prop::collection::vec((1u64..1000, 0u64..=PPM), 2..=64),
    ) {
        let dice = format!("low_weight={low},high_weight={high},commission_ppm={commission}");
        let segments: Vec<_> = segments.iter().map(|(w, m)| format!("{w}x{m}")).collect();
        let wheel = format!("segments={}", segments.join("/"));
        let stake = Micro::new(stake).unwrap();
        for (game, params) in games::ALL.iter().zip([&dice, &wheel]) {
            prop_assert_eq!(game.check_params(params), Ok(()));
            let outcome = game.outcome(params, &mut Draws::new(&Seed::new(seed), b"")).unwrap();
            prop_assert!(outcome.is_ascii() && !outcome.contains('\n'));
            for selection in game.selections(params).unwrap() {
                let paid = game.payout(params, stake, selection, &outcome).unwrap();
                prop_assert!(paid <= game.max_payout(params, stake, selection).unwrap());
                prop_assert!(game.rtp_ppm(params, selection).unwrap() <= PPM);
            }
        }
    }

    #[test]
    fn any_parameter_line_is_read_or_refused(line in "\\PC{0,80}") {
        for game in games::ALL {
            prop_assert!(game.check_params(&line).is_err());
            prop_assert!(game.check_selection(game.default_params(), &line).is_err());
        }
    }
}
