//! What must be rejected: one seeded mistake each, and the oracle that has to find it.

use crate::scene::{Scene, booked, effect, invoke, mark, note, outcome, read, record, told};
use domicile_oracles::history::{Acknowledged, Event, Kind, Mark, Outcome};
use domicile_oracles::observation::{Booked, Stake, Wallet};
use domicile_oracles::verdict::Oracle;

/// Spoils the good run and expects that this oracle says so.
fn found(oracle: Oracle, spoil: impl FnOnce(&mut Scene)) {
    let mut scene = Scene::good();
    spoil(&mut scene);
    let rejected = scene.rejected_by();
    assert!(rejected.contains(&oracle), "{oracle} has not found it; found by {rejected:?}");
}

fn acknowledged(effect: &str, epoch: u64) -> Outcome {
    Outcome::Acknowledged(told(effect, epoch))
}

#[test]
fn an_acknowledged_play_lost_everywhere() {
    found(Oracle::C1, |scene| {
        for node in &mut scene.observations.nodes {
            node.effects.retain(|effect| effect.effect != "bet/1");
        }
    });
}

#[test]
fn an_acknowledged_play_lost_on_a_reader() {
    found(Oracle::C1, |scene| {
        scene.observations.nodes[2].effects.retain(|effect| effect.effect != "bet/2");
    });
}

#[test]
fn an_acknowledged_play_there_twice() {
    found(Oracle::C1, |scene| {
        scene.observations.nodes[0].effects.push(effect("bet/1", "a"));
    });
}

#[test]
fn a_round_rolled_again() {
    found(Oracle::C1, |scene| {
        for node in &mut scene.observations.nodes {
            node.effects[0].digest = "another outcome".into();
        }
    });
}

#[test]
fn a_node_that_cannot_be_looked_at() {
    found(Oracle::C1, |scene| {
        scene.observations.unseen.insert("reader-gb".into(), "no connection".into());
    });
}

#[test]
fn a_refused_play_that_happened() {
    found(Oracle::C2, |scene| {
        for node in &mut scene.observations.nodes {
            node.effects.push(effect("bet/8", "r"));
        }
    });
}

#[test]
fn an_undecided_play_on_one_node_only() {
    found(Oracle::C2, |scene| {
        scene.observations.nodes[1].effects.push(effect("bet/9", "u"));
    });
}

#[test]
fn an_undecided_play_that_differs_between_nodes() {
    found(Oracle::C2, |scene| {
        for (number, node) in scene.observations.nodes.iter_mut().enumerate() {
            let mut undecided = effect("bet/9", "u");
            undecided.digest = format!("{}", number.min(1));
            node.effects.push(undecided);
        }
    });
}

#[test]
fn a_key_that_had_two_effects() {
    found(Oracle::C3, |scene| {
        for node in &mut scene.observations.nodes {
            node.effects.push(effect("bet/9", "a"));
        }
    });
}

#[test]
fn a_key_that_was_told_two_things() {
    found(Oracle::C3, |scene| {
        scene.events.push(invoke(50, "a", Kind::Play));
        let other = Acknowledged { body_sha256: "other".into(), ..told("bet/1", 2) };
        scene.events.push(outcome(51, "a", Outcome::Acknowledged(other)));
    });
}

#[test]
fn two_keys_that_were_given_one_effect() {
    found(Oracle::C3, |scene| {
        scene.events.push(invoke(50, "z", Kind::Play));
        scene.events.push(outcome(51, "z", acknowledged("bet/1", 2)));
    });
}

#[test]
fn an_effect_nobody_asked_for() {
    found(Oracle::C3, |scene| {
        for node in &mut scene.observations.nodes {
            node.effects.push(effect("bet/99", "ghost"));
        }
    });
    found(Oracle::C3, |scene| {
        for node in &mut scene.observations.nodes {
            node.effects.push(effect("round/8", "o2"));
            node.effects.push(effect("round/9", "nobody"));
        }
    });
}

#[test]
fn a_log_that_forked_after_a_failover() {
    found(Oracle::C5, |scene| {
        for node in &mut scene.observations.nodes {
            let log = node.logs.get_mut("MT/1").expect("the log");
            log.leaves[1].1 = "cd".repeat(32);
            log.checkpoints.clear();
            log.checkpoints.push(note(1));
        }
    });
}

#[test]
fn two_checkpoints_of_one_size() {
    found(Oracle::C5, |scene| {
        let log = scene.observations.nodes[2].logs.get_mut("MT/1").expect("the log");
        log.checkpoints[0] =
            note(2).replace(note(2).lines().nth(2).unwrap(), note(3).lines().nth(2).unwrap());
    });
}

#[test]
fn a_checkpoint_whose_leaves_are_lost() {
    found(Oracle::C5, |scene| {
        for node in &mut scene.observations.nodes {
            node.logs.get_mut("MT/1").expect("the log").leaves.truncate(4);
        }
    });
}

#[test]
fn a_checkpoint_seen_outside_of_a_log_nobody_holds() {
    found(Oracle::C5, |scene| {
        let note = note(2).replace("run/MT/1", "run/MT/2");
        let (source, jurisdiction) = ("router-mt".into(), "MT".into());
        scene.events.push(Event::Checkpoint { at_ns: 9, source, jurisdiction, note });
    });
}

#[test]
fn leaves_that_are_not_what_was_hashed() {
    found(Oracle::C5, |scene| {
        scene.observations.nodes[0].logs.get_mut("MT/1").expect("the log").leaves_altered = 1;
    });
}

#[test]
fn an_old_writer_that_still_answers() {
    found(Oracle::C6, |scene| {
        scene.events.push(invoke(60, "z", Kind::Play));
        scene.events.push(outcome(61, "z", acknowledged("bet/3", 1)));
    });
}

#[test]
fn two_writers_in_one_epoch() {
    found(Oracle::C6, |scene| {
        scene.events.push(invoke(60, "z", Kind::Play));
        let other = Acknowledged { node: Some("writer-mt".into()), ..told("bet/3", 2) };
        scene.events.push(outcome(61, "z", Outcome::Acknowledged(other)));
    });
    found(Oracle::C6, |scene| {
        scene.observations.nodes[0].epochs = vec![(1, "writer-mt".into()), (2, "writer-mt".into())];
    });
}

#[test]
fn an_epoch_that_goes_back() {
    found(Oracle::C6, |scene| scene.events.push(record("status", 1, "writer-mt")));
}

#[test]
fn a_foreign_row_on_a_reader() {
    found(Oracle::C7, |scene| {
        scene.observations.nodes[2].jurisdictions.insert("DE".into());
    });
}

#[test]
fn a_reader_that_forgets_what_it_showed() {
    found(Oracle::C7, |scene| scene.events.push(read(90, "bet/1", false, 5, 6)));
}

#[test]
fn a_reader_that_answers_from_before_what_was_asked_for() {
    found(Oracle::C7, |scene| scene.events.push(read(90, "bet/1", true, 5, 4)));
}

#[test]
fn a_reader_that_answers_though_it_is_far_behind() {
    found(Oracle::C7, |scene| scene.limits.lag_max_ms = [("MT".to_owned(), 10)].into());
}

#[test]
fn a_system_that_never_answers_again() {
    found(Oracle::C9, |scene| {
        let stopped = |event: &Event| matches!(event, Event::Mark { mark: Mark::LoadStopped, .. });
        scene.events.retain(|event| !stopped(event));
        scene.events.push(mark(5_000, Mark::LoadStopped));
    });
    found(Oracle::C9, |scene| {
        scene.events.retain(|event| !matches!(event, Event::Mark { mark: Mark::Healed, .. }));
        scene.events.push(mark(100, Mark::Healed));
    });
}

#[test]
fn a_failover_that_takes_too_long() {
    found(Oracle::C9, |scene| scene.limits.new_epoch_max_ms = Some(14));
}

#[test]
fn a_writer_that_moves_without_a_reason() {
    found(Oracle::C9, |scene| scene.limits.same_epoch = true);
}

#[test]
fn clients_that_were_never_answered() {
    found(Oracle::C9, |scene| scene.limits.failed_max = Some(2));
}

#[test]
fn a_server_that_panicked_lost_a_slot_or_found_damage() {
    for line in [
        "PANIC:  could not fdatasync file",
        "LOG:  invalidating obsolete replication slot \"sub_reader_mt_mt\"",
        "WARNING:  page verification failed, calculated checksum 1 but expected 2",
    ] {
        found(Oracle::C10, |scene| scene.observations.nodes[1].server_log.push(line.into()));
    }
}

/// The ledger's bets on both nodes, changed in the same way.
fn at_ledger(spoil: impl Fn(&mut Vec<Stake>)) {
    found(Oracle::C4, |scene| scene.observations.money.ledgers.values_mut().for_each(&spoil));
}

fn at_wallet(spoil: impl Fn(&mut Wallet)) {
    found(Oracle::C4, |scene| {
        spoil(scene.observations.money.wallet.as_mut().expect("a wallet"));
    });
}

#[test]
fn money_that_a_ledger_loses_or_makes() {
    at_ledger(|stakes| stakes[0].payout_micro = None);
    at_ledger(|stakes| stakes[1].payout_micro = Some(-1));
    at_ledger(|stakes| stakes[2].payout_micro = Some(9));
    at_ledger(|stakes| stakes[3].payout_micro = Some(0));
    at_ledger(|stakes| stakes.push(stakes[0].clone()));
    at_ledger(|stakes| stakes[0].payout_micro = Some(20));
    found(Oracle::C4, |scene| {
        let standby = scene.observations.money.ledgers.get_mut("ledger-de").expect("a ledger");
        standby[0].payout_micro = Some(18);
    });
}

#[test]
fn stakes_that_do_not_end_once_at_the_wallet() {
    // A winner that is not paid, paid twice, paid otherwise, or given the stake back.
    at_wallet(|wallet| wallet.entries.retain(|entry| entry.call != "win"));
    at_wallet(|wallet| {
        wallet.entries.push(Booked { id: "again".into(), ..booked("win", "1", 19) });
    });
    at_wallet(|wallet| wallet.entries.push(booked("rollback", "1", 10)));
    at_wallet(|wallet| wallet.entries[5].amount_micro = 18);
    // A loser that is paid; a pending bet that is.
    at_wallet(|wallet| wallet.entries.push(booked("win", "2", 1)));
    at_wallet(|wallet| wallet.entries.push(booked("rollback", "4", 10)));
    // A stake without a bet that nobody gave back, or gave back in part.
    at_wallet(|wallet| wallet.entries.retain(|entry| entry.id != "rollback-5"));
    at_wallet(|wallet| wallet.entries[7].amount_micro = 9);
    // A stake that was never taken, taken twice, of another amount, or in other money.
    at_wallet(|wallet| drop(wallet.entries.remove(1)));
    at_wallet(|wallet| wallet.entries.push(Booked { id: "two".into(), ..booked("bet", "2", 10) }));
    at_wallet(|wallet| wallet.entries[1].amount_micro = 11);
    at_wallet(|wallet| wallet.entries[1].currency = "USD".into());
    // Something booked twice, or ended that was never taken.
    at_wallet(|wallet| wallet.entries[1].times = 2);
    at_wallet(|wallet| wallet.entries[8].times = 1);
}

#[test]
fn a_wallet_whose_sums_do_not_follow() {
    at_wallet(|wallet| wallet.balances_micro = [("EUR".to_owned(), 990)].into());
    at_wallet(|wallet| wallet.balances_micro.clear());
    at_wallet(|wallet| wallet.violations.push("a bet was ended twice".into()));
    at_wallet(|wallet| wallet.pending = 1);
    found(Oracle::C4, |scene| {
        scene.observations.unseen.insert("wallet".into(), "no answer".into());
    });
}
