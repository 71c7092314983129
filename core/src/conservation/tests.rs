use super::*;

fn account() -> Account {
    let text = |text: &str| text.to_owned();
    Account { operator: text("acme"), currency: text("EUR"), jurisdiction: text("MT") }
}

fn moved(n: u128, state: JobState, amount_micro: i64) -> Moved {
    Moved { id: Uuid::from_u128(n), state, amount_micro, account: account() }
}

fn end(is_win: bool, amount_micro: i64) -> End {
    End { is_win, moved: moved(3, JobState::Done, amount_micro) }
}

/// A round in which a stake of one million on `high` pays 1 940 000.
const SETTLED: Ended<'_> = Ended::Settled {
    game: "hilo-dice",
    params: "low_weight=48,high_weight=48,commission_ppm=30000",
    outcome: "high 12",
};
const PAYOUT: i64 = 1_940_000;

fn good() -> Bet<'static> {
    Bet {
        account: account(),
        id: Uuid::from_u128(1),
        stake_micro: 1_000_000,
        selection: "high",
        payout_micro: Some(PAYOUT),
        round: Some(SETTLED),
        stake: Some(moved(2, JobState::Done, 1_000_000)),
        needs_stake: true,
        end: Some(end(true, PAYOUT)),
    }
}

fn voided() -> Bet<'static> {
    let round = Some(Ended::Voided);
    Bet { round, payout_micro: Some(1_000_000), end: Some(end(false, 1_000_000)), ..good() }
}

fn open() -> Bet<'static> {
    Bet { round: Some(Ended::No), payout_micro: None, end: None, ..good() }
}

fn judged(bet: &Bet<'_>) -> Audit {
    let mut auditor = Auditor::default();
    auditor.bet(bet);
    auditor.finish()
}

#[test]
fn sums_of_sound_bets_hold() {
    let mut auditor = Auditor::default();
    for bet in [good(), voided(), open()] {
        auditor.bet(&bet);
    }
    let audit = auditor.finish();
    assert!(audit.holds(), "{audit:?}");
    let line = &audit.lines[0];
    assert_eq!((line.bets, line.stakes_micro, line.pending_micro), (3, 3_000_000, 1_000_000));
    assert_eq!((line.payouts_micro, line.returned_micro), (i128::from(PAYOUT), 1_000_000));
    assert_eq!(line.house_micro, 1_000_000 - i128::from(PAYOUT));
    assert_eq!(line.wallet_taken_micro, 3_000_000);
    assert_eq!(line.wallet_paid_micro, i128::from(PAYOUT) + 1_000_000);
}

/// A bet, changed in one way.
type Spoil = fn(&mut Bet<'_>);

#[test]
fn every_spoilt_bet_is_found() {
    let spoilt: [(&str, Bet<'_>, Spoil); 14] = [
        ("a payout more", good(), |bet| bet.payout_micro = bet.payout_micro.map(|paid| paid + 1)),
        ("no payout", good(), |bet| bet.payout_micro = None),
        ("a lost round", good(), |bet| bet.round = None),
        ("a loser paid", good(), |bet| bet.selection = "low"),
        ("a stake kept", voided(), |bet| bet.payout_micro = Some(999_999)),
        ("paid early", open(), |bet| bet.payout_micro = Some(1)),
        ("no stake", good(), |bet| bet.stake = None),
        ("another stake", good(), |bet| bet.stake = Some(moved(2, JobState::Done, 7))),
        ("an undone stake", open(), |bet| {
            bet.stake = Some(moved(2, JobState::Undone, 1_000_000));
        }),
        ("no win", good(), |bet| bet.end = None),
        ("another win", good(), |bet| bet.end = Some(end(true, 1))),
        ("a winner refunded", good(), |bet| {
            bet.end = Some(end(false, bet.payout_micro.unwrap_or_default()));
        }),
        ("no rollback", voided(), |bet| bet.end = None),
        ("ended early", open(), |bet| bet.end = Some(end(false, 1_000_000))),
    ];
    for (what, mut bet, spoil) in spoilt {
        assert!(judged(&bet).holds(), "before: {what}");
        spoil(&mut bet);
        let audit = judged(&bet);
        assert!(!audit.holds(), "{what}: {audit:?}");
        assert!(!audit.breaks.is_empty(), "{what} is named");
    }
}

#[test]
fn an_operator_without_a_wallet_moves_nothing() {
    let bet = Bet { stake: None, needs_stake: false, end: None, ..good() };
    assert!(judged(&bet).holds());
}

#[test]
fn transactions_without_their_bet_are_found() {
    let stake = |state, bet_stands, taken_for_bet, end| Job::Stake {
        moved: moved(2, state, 5),
        bet_stands,
        taken_for_bet,
        end,
    };
    let rollback = Some(end(false, 5));
    let sound = [
        stake(JobState::Done, true, 1, None),
        stake(JobState::Undone, false, 0, rollback.clone()),
        stake(JobState::Refused, false, 0, None),
        stake(JobState::Pending, false, 0, None),
        Job::End { end: end(true, 5), stake_stands: true },
    ];
    let mut auditor = Auditor::default();
    for job in &sound {
        auditor.job(job);
    }
    let audit = auditor.finish();
    assert!(audit.holds(), "{audit:?}");
    assert_eq!(audit.lines[0].wallet_pending, 1);
    for spoilt in [
        stake(JobState::Done, false, 1, None),
        stake(JobState::Done, true, 2, None),
        stake(JobState::Undone, false, 0, None),
        stake(JobState::Undone, false, 0, Some(end(false, 4))),
        stake(JobState::Undone, false, 0, Some(end(true, 5))),
        stake(JobState::Refused, false, 0, rollback),
        Job::End { end: end(true, 5), stake_stands: false },
    ] {
        let mut auditor = Auditor::default();
        auditor.job(&spoilt);
        assert!(!auditor.finish().holds(), "{spoilt:?}");
    }
}

#[test]
fn breaks_are_named_up_to_a_limit_and_all_counted() {
    let mut auditor = Auditor::default();
    let bet = Bet { round: None, ..open() };
    for _ in 0..BREAKS_NAMED + 5 {
        auditor.bet(&bet);
    }
    let audit = auditor.finish();
    assert_eq!(audit.breaks.len(), BREAKS_NAMED);
    assert_eq!(audit.lines[0].breaks, u64::try_from(BREAKS_NAMED + 5).unwrap());
}
