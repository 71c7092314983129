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

const ROUNDS: u64 = 200_000;

/// Observed return and outcome counts of one selection over `ROUNDS` fixed contexts.
fn play(game: &dyn Game, params: &str, selection: &str) -> (u64, BTreeMap<String, u64>) {
    let (seed, stake) = (Seed::new([0x5e; 32]), Micro::new(PPM).unwrap());
    let (mut paid, mut counts) = (0, BTreeMap::new());
    for round in 0..ROUNDS {
        let mut draws = Draws::new(&seed, format!("{} {round}\n", game.code()).as_bytes());
        let outcome = game.outcome(params, &mut draws).unwrap();
        paid += game.payout(params, stake, selection, &outcome).unwrap().get();
        *counts.entry(outcome).or_default() += 1;
    }
    (paid / ROUNDS, counts)
}

#[test]
fn default_games_return_what_they_declare() {
    for game in games::ALL {
        let params = game.default_params();
        for selection in game.selections(params).unwrap() {
            let declared = game.rtp_ppm(params, selection).unwrap();
            assert_eq!(declared, 970_000, "{} {selection}", game.code());
            // Standard error is below 3 300 ppm for both games; four of them are allowed.
            let (observed, _) = play(*game, params, selection);
            assert!(
                observed.abs_diff(declared) < 13_200,
                "{} {selection}: {observed}",
                game.code()
            );
        }
    }
}

#[test]
fn a_skewed_die_favours_no_side() {
    let game = games::ALL.iter().find(|game| game.code() == "hilo-dice").unwrap();
    let params = "low_weight=70,high_weight=30,commission_ppm=50000";
    for selection in ["low", "high"] {
        let (observed, _) = play(*game, params, selection);
        assert!(observed.abs_diff(950_000) < 15_000, "{selection}: {observed}");
    }
}

#[test]
fn faces_are_even() {
    let game = games::ALL.iter().find(|game| game.code() == "hilo-dice").unwrap();
    let (_, counts) = play(*game, game.default_params(), "low");
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
