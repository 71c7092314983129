//! Whether money is conserved: stakes = payouts + returned stakes + house + pending, bet by bet.
//!
//! The house's share is not what is left over: it follows from each round's outcome and the game's rules, so that a payout
//! which the outcome does not justify shows. What moved at an operator's wallet is held against the bet it moved for.
//! Sums are kept per operator, currency and jurisdiction; everything else is forgotten after its row, so that a ledger of
//! any size is judged in little memory. Invariant: [`Line::holds`] where and only where no break was found in it.
//! Deliberately absent: reading the ledger – the writer does, in one snapshot.

use crate::games;
use crate::ids::GameCode;
use crate::money::Micro;
use crate::wallet::job::JobState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Most breaks that are named; all are counted.
pub const BREAKS_NAMED: usize = 100;

/// Whose money, which money, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// The operator.
    pub operator: String,
    /// The currency.
    pub currency: String,
    /// The jurisdiction.
    pub jurisdiction: String,
}

/// Where a bet's round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<'a> {
    /// It goes on.
    No,
    /// With this outcome.
    Settled {
        /// The game.
        game: &'a str,
        /// Its parameters.
        params: &'a str,
        /// What came out.
        outcome: &'a str,
    },
    /// Without one: stakes go back.
    Voided,
}

/// A transaction with a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Its id.
    pub id: Uuid,
    /// Where it stands.
    pub state: JobState,
    /// How much.
    pub amount_micro: i64,
    /// Whose money it names.
    pub account: Account,
}

/// What ended a stake at its wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The win; otherwise it is a rollback.
    pub is_win: bool,
    /// It.
    pub moved: Moved,
}

/// A bet as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bet<'a> {
    /// Whose money.
    pub account: Account,
    /// The bet.
    pub id: Uuid,
    /// What was staked.
    pub stake_micro: i64,
    /// On what.
    pub selection: &'a str,
    /// What the ledger says it paid.
    pub payout_micro: Option<i64>,
    /// Its round; `None` where there is none.
    pub round: Option<Ended<'a>>,
    /// The stake at the wallet.
    pub stake: Option<Moved>,
    /// Whether there has to be one: the operator had a wallet already.
    pub needs_stake: bool,
    /// What followed it there.
    pub end: Option<End>,
}

/// A transaction seen from the wallet's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// A stake, whether its bet stands, how many bets' stakes name the same bet, and its rollback or win.
    Stake {
        /// It.
        moved: Moved,
        /// Whether the bet is in the ledger.
        bet_stands: bool,
        /// Taken stakes of the same bet, itself included.
        taken_for_bet: i64,
        /// What followed.
        end: Option<End>,
    },
    /// A win or rollback, and whether the stake it names is there.
    End {
        /// It.
        end: End,
        /// Whether the stake is there.
        stake_stands: bool,
    },
}

/// What one account comes to, micro-units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Whose.
    pub account: Account,
    /// How many bets.
    pub bets: u64,
    /// Stakes.
    pub stakes_micro: i128,
    /// Paid to winners, as written down.
    pub payouts_micro: i128,
    /// Given back, as written down.
    pub returned_micro: i128,
    /// Left to the house, by outcomes and rules.
    pub house_micro: i128,
    /// Stakes of rounds that go on.
    pub pending_micro: i128,
    /// What wallets took for bets that stand.
    pub wallet_taken_micro: i128,
    /// What wallets paid and gave back for them.
    pub wallet_paid_micro: i128,
    /// What wallets still owe for them.
    pub wallet_owed_micro: i128,
    /// Wallet transactions that are not done.
    pub wallet_pending: u64,
    /// What breaks it.
    pub breaks: u64,
}

impl Line {
    const fn new(account: Account) -> Self {
        Self {
            account,
            bets: 0,
            stakes_micro: 0,
            payouts_micro: 0,
            returned_micro: 0,
            house_micro: 0,
            pending_micro: 0,
            wallet_taken_micro: 0,
            wallet_paid_micro: 0,
            wallet_owed_micro: 0,
            wallet_pending: 0,
            breaks: 0,
        }
    }

    /// Whether its money is conserved.
    pub const fn holds(&self) -> bool {
        self.breaks == 0
            && self.stakes_micro
                == self.payouts_micro + self.returned_micro + self.house_micro + self.pending_micro
    }
}

/// Something that breaks conservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    /// Whose.
    pub account: Account,
    /// What is wrong.
    pub what: String,
    /// The bet or wallet transaction.
    pub id: Uuid,
    /// What it should come to, micro-units.
    pub due_micro: i64,
    /// What it comes to.
    pub found_micro: i64,
}

/// The judgement of a whole ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// By account.
    pub lines: Vec<Line>,
    /// The first of what breaks it.
    pub breaks: Vec<Break>,
}

impl Audit {
    /// Whether money is conserved.
    pub fn holds(&self) -> bool {
        self.breaks.is_empty() && self.lines.iter().all(Line::holds)
    }
}

/// Judges row by row.
#[derive(Debug, Default)]
pub struct Auditor {
    lines: BTreeMap<Account, Line>,
    breaks: Vec<Break>,
}

impl Auditor {
    /// The next bet.
    pub fn bet(&mut self, bet: &Bet<'_>) {
        let found = bet.payout_micro.unwrap_or_default();
        let due = due(bet);
        let line = self.line(&bet.account);
        line.bets = line.bets.saturating_add(1);
        line.stakes_micro += i128::from(bet.stake_micro);
        match (&due, bet.round) {
            (Ok(Some(_)), Some(Ended::Voided)) => line.returned_micro += i128::from(found),
            (Ok(Some(due)), _) => {
                line.payouts_micro += i128::from(found);
                line.house_micro += i128::from(bet.stake_micro) - i128::from(*due);
            }
            (Ok(None) | Err(_), _) => line.pending_micro += i128::from(bet.stake_micro),
        }
        let wrong = match due {
            Err(what) => Some((what, 0)),
            Ok(None) if bet.payout_micro.is_some() => Some(("paid before its round ended", 0)),
            Ok(Some(due)) if bet.payout_micro.is_none() => Some(("not paid", due)),
            Ok(Some(due)) if due != found => Some(("paid otherwise than its round says", due)),
            Ok(_) => None,
        };
        if let Some((what, due)) = wrong {
            self.broken(&bet.account, what, bet.id, (due, found));
        }
        self.at_wallet(bet);
    }

    /// What moved at the wallet for a bet that stands.
    fn at_wallet(&mut self, bet: &Bet<'_>) {
        let Some(stake) = &bet.stake else {
            if bet.needs_stake {
                let what = "no stake was taken from the wallet";
                self.broken(&bet.account, what, bet.id, (bet.stake_micro, 0));
            }
            return;
        };
        self.line(&bet.account).wallet_taken_micro += i128::from(stake.amount_micro);
        let same = stake.account == bet.account && stake.amount_micro == bet.stake_micro;
        if stake.state != JobState::Done || !same {
            let what = "the wallet's stake is not the bet's";
            self.broken(&bet.account, what, stake.id, (bet.stake_micro, stake.amount_micro));
        }
        let paid = bet.payout_micro.unwrap_or_default();
        let is_win = bet.round != Some(Ended::Voided);
        match &bet.end {
            None if paid > 0 => {
                let what = if is_win { "its win is missing" } else { "its rollback is missing" };
                self.broken(&bet.account, what, stake.id, (paid, 0));
            }
            None => {}
            Some(end) => {
                let line = self.line(&bet.account);
                let amount = i128::from(end.moved.amount_micro);
                match end.moved.state {
                    JobState::Done | JobState::Resolved => line.wallet_paid_micro += amount,
                    _ => line.wallet_owed_micro += amount,
                }
                let moved = &end.moved;
                let same = end.is_win == is_win && moved.account == bet.account;
                if !same || moved.amount_micro != paid || paid == 0 {
                    let what = "its win or rollback is not its payout";
                    self.broken(&bet.account, what, moved.id, (paid, moved.amount_micro));
                }
            }
        }
    }

    /// The next wallet transaction.
    pub fn job(&mut self, job: &Job) {
        let (moved, wrong) = match job {
            Job::Stake { moved, bet_stands, taken_for_bet, end } => {
                let wrong = match moved.state {
                    JobState::Done if !bet_stands => Some(("taken without a bet", 0)),
                    JobState::Done if *taken_for_bet > 1 => {
                        Some(("taken more than once for its bet", moved.amount_micro))
                    }
                    JobState::Undone => undone(moved, end.as_ref()),
                    JobState::Refused | JobState::Pending if end.is_some() => {
                        Some(("ended without having been taken", 0))
                    }
                    _ => None,
                };
                (moved, wrong)
            }
            Job::End { end, stake_stands } => {
                let wrong = (!stake_stands).then_some(("ends a stake that is not there", 0));
                (&end.moved, wrong)
            }
        };
        if matches!(moved.state, JobState::Pending | JobState::Dead) {
            let line = self.line(&moved.account);
            line.wallet_pending = line.wallet_pending.saturating_add(1);
        }
        if let Some((what, due)) = wrong {
            self.broken(&moved.account, what, moved.id, (due, moved.amount_micro));
        }
    }

    fn line(&mut self, account: &Account) -> &mut Line {
        self.lines.entry(account.clone()).or_insert_with(|| Line::new(account.clone()))
    }

    fn broken(&mut self, account: &Account, what: &str, id: Uuid, (due, found): (i64, i64)) {
        let line = self.line(account);
        line.breaks = line.breaks.saturating_add(1);
        if self.breaks.len() < BREAKS_NAMED {
            self.breaks.push(Break {
                account: account.clone(),
                what: what.to_owned(),
                id,
                due_micro: due,
                found_micro: found,
            });
        }
    }

    /// The judgement.
    pub fn finish(self) -> Audit {
        Audit { lines: self.lines.into_values().collect(), breaks: self.breaks }
    }
}

/// A stake that is not to stand has a rollback of its own amount.
fn undone(stake: &Moved, end: Option<&End>) -> Option<(&'static str, i64)> {
    let whole = end.is_some_and(|end| {
        !end.is_win
            && end.moved.amount_micro == stake.amount_micro
            && end.moved.account == stake.account
    });
    (!whole).then_some(("undone without its rollback", 0))
}

/// What a bet has to have paid: nothing yet while its round goes on.
fn due(bet: &Bet<'_>) -> Result<Option<i64>, &'static str> {
    match bet.round {
        None => Err("its round is not there"),
        Some(Ended::No) => Ok(None),
        Some(Ended::Voided) => Ok(Some(bet.stake_micro)),
        Some(Ended::Settled { game, params, outcome }) => {
            let code = GameCode::parse(game).ok();
            let game = code.as_ref().and_then(games::game).ok_or("its game is not known")?;
            let stake = Micro::try_from(bet.stake_micro);
            let stake = stake.map_err(|_out_of_range| "its stake is no amount")?;
            let payout = game.payout(params, stake, bet.selection, outcome);
            let payout = payout.map_err(|_no_payout| "its outcome is none of its game's")?;
            Ok(Some(payout.as_i64()))
        }
    }
}

#[cfg(test)]
mod tests;
