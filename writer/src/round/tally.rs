//! The bets of a round that ends: counted into roots, then paid, a page at a time.
//!
//! Invariant: both passes see the same bets – the round's row is locked and none of its bets is in flight.

use crate::change::Halt;
use crate::engine::Engine;
use crate::ledger::rounds::RoundEngine;
use crate::ledger::wagers::{self, PlacedBet};
use crate::ledger::wallet_jobs::{self, Follow};
use crate::limits;
use domicile_core::ids::Jurisdiction;
use domicile_core::leaf::JurisdictionBets;
use domicile_core::log::frontier::Frontier;
use domicile_core::log::leaf_hash;
use domicile_core::money::Micro;
use domicile_postgres::Tx;
use std::collections::HashMap;
use uuid::Uuid;

/// Counts a round's bets, jurisdiction by jurisdiction.
pub(super) async fn count(tx: &Tx<'_>, round: &RoundEngine) -> Result<Vec<JurisdictionBets>, Halt> {
    let mut all = Vec::with_capacity(round.jurisdictions.len());
    for jurisdiction in &round.jurisdictions {
        let mut tree = Frontier::new();
        let mut pages = Pages::new(jurisdiction, round);
        while let Some(page) = pages.next(tx).await? {
            for bet in &page {
                tree.push(leaf_hash(&bet.commitment));
            }
        }
        all.push(JurisdictionBets {
            jurisdiction: jurisdiction.clone(),
            count: tree.size(),
            root: tree.root(),
        });
    }
    Ok(all)
}

/// Stakes and payouts of a round.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// All stakes.
    pub(super) staked_micro: u64,
    /// All payouts.
    pub(super) paid_micro: u64,
}

/// Credits every bet of a round with what `payout_of` says; where the round is voided the stake goes back, which is no
/// turnover. Wallets that took stakes are told the same.
pub(super) async fn pay(
    engine: &Engine,
    tx: &Tx<'_>,
    round: &RoundEngine,
    voided: &[Jurisdiction],
    payout_of: impl Fn(&PlacedBet) -> Result<Micro, Halt> + Sync,
) -> Result<Totals, Halt> {
    let mut totals = Totals::default();
    for jurisdiction in &round.jurisdictions {
        let is_voided = voided.contains(jurisdiction);
        let mut pages = Pages::new(jurisdiction, round);
        while let Some(page) = pages.next(tx).await? {
            let mut payouts = Vec::with_capacity(page.len());
            for bet in &page {
                if is_voided {
                    payouts.push((bet.id, bet.stake));
                    continue;
                }
                let payout = payout_of(bet)?;
                totals.staked_micro = totals.staked_micro.saturating_add(bet.stake.get());
                totals.paid_micro = totals.paid_micro.saturating_add(payout.get());
                payouts.push((bet.id, payout));
            }
            wagers::pay(tx, engine.epoch, jurisdiction, &payouts).await?;
            let end = |stake, payout| match (is_voided, round.cut) {
                (false, _) => Follow::Win(stake, payout),
                (true, false) => Follow::Rollback(stake),
                (true, true) => Follow::Withheld(stake),
            };
            settle_stakes(engine, tx, &payouts, end).await?;
        }
    }
    Ok(totals)
}

/// Queues what ends those bets whose stakes wallets took.
async fn settle_stakes(
    engine: &Engine,
    tx: &Tx<'_>,
    payouts: &[(Uuid, Micro)],
    end: impl Fn(Uuid, Micro) -> Follow + Send + Sync + Clone,
) -> Result<(), Halt> {
    let owed = payouts.iter().filter(|(_, payout)| *payout > Micro::ZERO);
    let owed: HashMap<Uuid, Micro> = owed.copied().collect();
    let bets: Vec<_> = owed.keys().copied().collect();
    let stakes = wallet_jobs::of_bets(tx, &bets).await?;
    let follows = stakes.into_iter().filter_map(|(stake, bet)| Some(end(stake, *owed.get(&bet)?)));
    Ok(wallet_jobs::follow(tx, engine.epoch, follows).await?)
}

/// A round's bets in one jurisdiction, in order of id.
struct Pages<'a> {
    jurisdiction: &'a Jurisdiction,
    round: &'a RoundEngine,
    after: Option<Uuid>,
}

impl<'a> Pages<'a> {
    const fn new(jurisdiction: &'a Jurisdiction, round: &'a RoundEngine) -> Self {
        Self { jurisdiction, round, after: Some(Uuid::nil()) }
    }

    async fn next(&mut self, tx: &Tx<'_>) -> Result<Option<Vec<PlacedBet>>, Halt> {
        let Some(after) = self.after else { return Ok(None) };
        let limit = limits::SETTLE_PAGE_BETS;
        let page = wagers::page(tx, self.jurisdiction, self.round.id, after, limit).await?;
        let full = i64::try_from(page.len()) == Ok(limit);
        self.after = page.last().map(|bet| bet.id).filter(|_last| full);
        Ok(if page.is_empty() { None } else { Some(page) })
    }
}
