//! C4: money is conserved – at every ledger, and at the wallet, where each stake ends exactly once.

use crate::observation::{Booked, Money, Observations, Stake, Wallet};
use crate::verdict::{Oracle, Verdict};
use std::collections::BTreeMap;

/// C4.
pub fn is_conserved(observations: &Observations) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C4);
    let money = &observations.money;
    for (node, reason) in &observations.unseen {
        verdict.check(false, || format!("{node} could not be looked at: {reason}"));
    }
    for (node, stakes) in &money.ledgers {
        for stake in stakes {
            at_ledger(&mut verdict, node, stake);
        }
        let mut bets: Vec<&str> = stakes.iter().map(|stake| stake.bet.as_str()).collect();
        let all = bets.len();
        bets.sort_unstable();
        bets.dedup();
        verdict.check(bets.len() == all, || format!("a bet is twice on {node}"));
    }
    agree(&mut verdict, money);
    if let (Some(wallet), Some(stakes)) = (&money.wallet, money.ledgers.values().next()) {
        at_wallet(&mut verdict, wallet, stakes);
    }
    verdict
}

/// A bet is paid when and only when its round has ended; a voided round gives the stake back.
fn at_ledger(verdict: &mut Verdict, node: &str, stake: &Stake) {
    let Stake { bet, stake_micro, payout_micro, .. } = stake;
    verdict.check(*stake_micro > 0 && payout_micro.is_none_or(|paid| paid >= 0), || {
        format!("{bet} on {node}: an amount is negative")
    });
    let ended = matches!(&*stake.round, "settled" | "voided");
    verdict.check(payout_micro.is_some() == ended, || {
        format!("{bet} on {node}: {payout_micro:?} is paid, and its round is {}", stake.round)
    });
    verdict.check(stake.round != "voided" || *payout_micro == Some(*stake_micro), || {
        format!("{bet} on {node}: {payout_micro:?} of the voided stake {stake_micro} is given back")
    });
}

/// Stakes less payouts of each currency and jurisdiction, and what is pending there.
fn sums(stakes: &[Stake]) -> BTreeMap<(&str, &str), (i128, i128)> {
    let mut sums: BTreeMap<(&str, &str), (i128, i128)> = BTreeMap::new();
    for stake in stakes {
        let (house, pending) = sums.entry((&stake.currency, &stake.jurisdiction)).or_default();
        match stake.payout_micro {
            Some(paid) => *house += i128::from(stake.stake_micro) - i128::from(paid),
            None => *pending += i128::from(stake.stake_micro),
        }
    }
    sums
}

fn agree(verdict: &mut Verdict, money: &Money) {
    let mut ledgers = money.ledgers.iter();
    let Some((first, stakes)) = ledgers.next() else { return };
    for (node, others) in ledgers {
        verdict.check(sums(stakes) == sums(others), || {
            format!("{first} has {:?}, {node} has {:?}", sums(stakes), sums(others))
        });
    }
}

/// The transactions with money in them, by the bet that they are or name.
struct Books<'a> {
    stakes: BTreeMap<&'a str, Vec<&'a Booked>>,
    ends: BTreeMap<&'a str, Vec<&'a Booked>>,
}

impl<'a> Books<'a> {
    fn of(wallet: &'a Wallet) -> Self {
        let mut books = Self { stakes: BTreeMap::new(), ends: BTreeMap::new() };
        for entry in wallet.entries.iter().filter(|entry| entry.times > 0) {
            match &entry.reference {
                None => books.stakes.entry(&entry.bet).or_default().push(entry),
                Some(stake) => books.ends.entry(stake).or_default().push(entry),
            }
        }
        books
    }

    fn ends(&self, stake: &Booked) -> &[&'a Booked] {
        self.ends.get(stake.id.as_str()).map_or(&[], Vec::as_slice)
    }
}

fn at_wallet(verdict: &mut Verdict, wallet: &Wallet, stakes: &[Stake]) {
    verdict.check(wallet.pending == 0, || {
        format!("{} wallet transactions are not done", wallet.pending)
    });
    for violation in &wallet.violations {
        verdict.check(false, || format!("the wallet was asked for what must not be: {violation}"));
    }
    let books = Books::of(wallet);
    let standing: BTreeMap<&str, &Stake> =
        stakes.iter().map(|stake| (stake.bet.as_str(), stake)).collect();
    for stake in stakes {
        standing_bet(verdict, &books, stake);
    }
    for entry in books.stakes.values().flatten() {
        if !standing.contains_key(entry.bet.as_str()) {
            once(verdict, &books, entry, Some(("rollback", entry.amount_micro)));
        }
    }
    for entry in wallet.entries.iter().filter(|entry| entry.times > 0) {
        verdict
            .check(entry.times == 1, || format!("{} was booked {} times", entry.id, entry.times));
        let Some(stake) = &entry.reference else { continue };
        let known = books.stakes.values().flatten().any(|taken| taken.id == *stake);
        verdict.check(known, || format!("{} ends {stake}, which was never taken", entry.id));
    }
    totals(verdict, wallet, stakes);
}

/// A bet that stands: its stake was taken once, and ended as its round did.
fn standing_bet(verdict: &mut Verdict, books: &Books<'_>, stake: &Stake) {
    let taken = books.stakes.get(stake.bet.as_str()).map_or(&[][..], Vec::as_slice);
    let [entry] = taken else {
        verdict
            .check(false, || format!("the stake of {} was taken {} times", stake.bet, taken.len()));
        return;
    };
    let same = entry.amount_micro == stake.stake_micro && entry.currency == stake.currency;
    verdict.check(same, || {
        let (amount, currency) = (entry.amount_micro, &entry.currency);
        format!("{} took {amount} {currency} for {}", entry.id, stake.bet)
    });
    let due = match (&*stake.round, stake.payout_micro) {
        ("voided", _) => Some(("rollback", stake.stake_micro)),
        (_, Some(paid)) if paid > 0 => Some(("win", paid)),
        _ => None,
    };
    once(verdict, books, entry, due);
}

/// The stake was ended by this and nothing else.
fn once(verdict: &mut Verdict, books: &Books<'_>, entry: &Booked, due: Option<(&str, i64)>) {
    let found: Vec<(&str, i64)> =
        books.ends(entry).iter().map(|end| (end.call.as_str(), end.amount_micro)).collect();
    verdict.check(found == Vec::from_iter(due), || {
        format!("the stake {} was ended by {found:?}, due is {due:?}", entry.id)
    });
}

/// The wallet's balances follow from its books, and its books come to what the ledger says.
fn totals(verdict: &mut Verdict, wallet: &Wallet, stakes: &[Stake]) {
    let mut moved: BTreeMap<&str, i128> = BTreeMap::new();
    for entry in &wallet.entries {
        let amount = i128::from(entry.amount_micro) * i128::from(entry.times);
        let sum = moved.entry(&entry.currency).or_default();
        *sum += if entry.call == "bet" { -amount } else { amount };
    }
    let mut ledger: BTreeMap<&str, i128> = BTreeMap::new();
    for stake in stakes {
        let paid = stake.payout_micro.map_or(0, i128::from);
        *ledger.entry(&stake.currency).or_default() += paid - i128::from(stake.stake_micro);
    }
    for (currency, balance) in &wallet.balances_micro {
        let given = wallet.given_micro.get(currency).copied().unwrap_or_default();
        let moved = moved.get(currency.as_str()).copied().unwrap_or_default();
        let says = ledger.get(currency.as_str()).copied().unwrap_or_default();
        verdict.check(*balance == given + moved, || {
            format!("{currency}: the wallet has {balance}, was given {given}, moved {moved}")
        });
        verdict.check(moved == says, || {
            format!("{currency}: the wallet moved {moved}, the ledger says {says}")
        });
    }
    for currency in ledger.keys() {
        verdict.check(wallet.balances_micro.contains_key(*currency), || {
            format!("{currency}: the wallet knows no such money")
        });
    }
}
