//! A receipt is handed in: what its bet comes to, and the money that follows.

use super::kept::{self, KeptBet, Played};
use crate::answer::{Failure, Reply};
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::ledger::loss_claims::{self, Decision, Filing, Found, Money, Stake, State};
use crate::ledger::wagers;
use crate::ledger::wallet_jobs::{self, End, Follow, Taken};
use crate::operations::{self, Entry, MadeBy};
use domicile_core::error::Code;
use domicile_core::ids::OperatorId;
use domicile_core::money::Micro;
use domicile_core::receipt::Receipt;
use domicile_core::wallet::job::JobState;
use domicile_postgres::Tx;
use domicile_topology::agent_api::OrphanBet;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// The wallet's word for a stake that it took before the fork, as the receipt attests.
const TAKEN: &str = "RS_OK";

/// Who hands a receipt in.
#[derive(Debug, Clone)]
pub enum Claimant {
    /// An operator, for one of its own players.
    Operator(OperatorId),
    /// A person at the cluster's command line.
    Person(MadeBy),
}

impl Claimant {
    fn name(&self) -> String {
        match self {
            Self::Operator(id) => format!("operator:{id}"),
            Self::Person(by) => by.actor.clone(),
        }
    }
}

/// A receipt and what was found to it.
#[derive(Debug)]
pub struct Claim {
    /// The signed text.
    pub note: String,
    /// What it says.
    pub receipt: Receipt,
    /// What a returned node has kept of its bet.
    pub kept: Option<OrphanBet>,
    /// Refund without kept rows: nobody has them any more.
    pub refund: bool,
    /// Who asks.
    pub by: Claimant,
}

impl Claim {
    /// Opens a receipt that one of our keys has signed.
    pub fn new(engine: &Engine, note: String, by: Claimant) -> Result<Self, Failure> {
        let receipt = Receipt::open(&note, &engine.receipt_keys());
        let receipt =
            receipt.map_err(|error| Failure::with(Code::ReceiptInvalid, error.to_string()))?;
        Ok(Self { note, receipt, kept: None, refund: false, by })
    }

    /// Whose bet it was: as its record says, or its session, or else as the operator says that hands it in.
    async fn operator(&self, tx: &Tx<'_>, kept: Option<&KeptBet>) -> Result<OperatorId, Halt> {
        let place = (&self.receipt.jurisdiction, self.receipt.session);
        let known = match kept {
            Some(bet) => Some(bet.record.operator.clone()),
            None => loss_claims::operator_of(tx, place).await?,
        };
        match (known, &self.by) {
            (Some(known), Claimant::Operator(id)) if known != *id => {
                Err(Halt::Refused(Failure::new(Code::OperatorForbidden)))
            }
            (Some(known), _) => Ok(known),
            (None, Claimant::Operator(id)) => Ok(id.clone()),
            (None, Claimant::Person(_)) => Err(Halt::Refused(Failure::with(
                Code::LossEvidence,
                "neither the session nor a kept row is known, so that nobody can say whose bet it was",
            ))),
        }
    }

    /// Refuses what is not lost.
    async fn check_lost(&self, engine: &Engine, tx: &Tx<'_>) -> Result<(), Halt> {
        let receipt = &self.receipt;
        let not_lost =
            |detail: &'static str| Halt::Refused(Failure::with(Code::RoundNotLost, detail));
        if receipt.accepted_epoch >= engine.epoch {
            return Err(not_lost("its epoch has not ended"));
        }
        if wagers::exists(tx, &receipt.jurisdiction, receipt.bet).await? {
            return Err(not_lost("the ledger has the bet: read its round"));
        }
        Ok(())
    }

    /// The game must be the one that the chain or round was made for, where the ledger still has that.
    async fn check_game(&self, tx: &Tx<'_>, played: &Played) -> Result<(), Halt> {
        let receipt = &self.receipt;
        let place = (&receipt.jurisdiction, receipt.session);
        let ground = (&receipt.commitment, receipt.round);
        let known = loss_claims::game_of(tx, place, ground).await?;
        let fits = known
            .is_none_or(|(game, params)| game == played.game.as_str() && params == played.params);
        let detail = "its chain or round was made for another game";
        if fits { Ok(()) } else { Err(Halt::Refused(Failure::with(Code::LossEvidence, detail))) }
    }

    /// Queues what the operator's wallet has to be asked for. A stake that is on its way back already stays so.
    async fn move_money(
        &self,
        engine: &Engine,
        tx: &Tx<'_>,
        operator: &OperatorId,
        (kept, payout): (Option<&Stake>, Option<Micro>),
    ) -> Result<(Money, bool), Halt> {
        let epoch = engine.epoch;
        let present = loss_claims::stake_of(tx, self.receipt.bet).await?;
        let (id, state) = match (present, kept) {
            (Some(present), _) => present,
            (None, Some(stake)) => {
                let end = if payout.is_some() { JobState::Done } else { JobState::Undone };
                loss_claims::restore_stake(tx, epoch, &self.receipt, stake, end).await?;
                let follow = follow(stake.id, payout);
                wallet_jobs::follow(tx, epoch, follow.into_iter()).await?;
                return Ok((Money::Wallet, payout.is_some()));
            }
            (None, None) => {
                let has_wallet = !matches!(engine.money.line(operator), Ok(None));
                let money = if has_wallet { Money::ByHand } else { Money::Ledger };
                return Ok((money, payout.is_some()));
            }
        };
        match (state, payout) {
            (JobState::Undone | JobState::Refused, _) => return Ok((Money::Wallet, false)),
            (JobState::Pending, Some(_)) => {
                let taken = Taken { id, answer: TAKEN };
                wallet_jobs::take(tx, epoch, std::iter::once(taken)).await?;
            }
            (JobState::Pending, None) => {
                let state = JobState::Undone;
                let end = End { id, state, answer: TAKEN, pause: Duration::ZERO };
                wallet_jobs::end(tx, epoch, &[end]).await?;
                return Ok((Money::Wallet, false));
            }
            _ => {}
        }
        wallet_jobs::follow(tx, epoch, follow(id, payout).into_iter()).await?;
        Ok((Money::Wallet, payout.is_some()))
    }

    /// What a person decided stands in the operations log, too.
    async fn enter(&self, engine: &Engine, tx: &Tx<'_>, decision: &Decision) -> Result<(), Halt> {
        let Claimant::Person(by) = &self.by else { return Ok(()) };
        let action = match decision.state {
            State::Settled => "loss.settle",
            State::Refunded => "loss.refund",
        };
        let (subject, receipt) = (self.receipt.bet.to_string(), &self.receipt);
        let after = json!({
            "jurisdiction": receipt.jurisdiction,
            "round": receipt.round,
            "operator": decision.operator,
            "accepted_epoch": receipt.accepted_epoch,
            "stake_micro": receipt.stake_micro,
            "payout_micro": decision.payout,
            "currency": receipt.currency,
        });
        let entry = Entry { by, action, subject: &subject, before: None, after: Some(after) };
        let entered = operations::append(engine, tx, entry).await;
        entered.map(drop).map_err(|error| Halt::Failed(error.into()))
    }

    async fn decide(
        &self,
        engine: &Engine,
        tx: &Tx<'_>,
        operator: OperatorId,
        (stake, played): (Option<&Stake>, Option<Played>),
    ) -> Result<Decision, Halt> {
        if let Some(played) = &played {
            self.check_game(tx, played).await?;
        }
        let payout = played.as_ref().map(|played| played.payout);
        let (money, settles) = self.move_money(engine, tx, &operator, (stake, payout)).await?;
        let played = played.filter(|_| settles);
        Ok(Decision {
            operator,
            state: if settles { State::Settled } else { State::Refunded },
            payout: played.as_ref().map_or(Micro::ZERO, |played| played.payout),
            outcome: played.map(|played| played.outcome),
            money,
            evidence: self.kept.as_ref().and_then(|kept| serde_json::to_value(kept).ok()),
            by: self.by.name(),
        })
    }
}

/// What follows a stake: its win, its return, or – where it lost – nothing.
fn follow(id: Uuid, payout: Option<Micro>) -> Option<Follow> {
    match payout {
        Some(payout) if payout > Micro::ZERO => Some(Follow::Win(id, payout)),
        Some(_) => None,
        None => Some(Follow::Rollback(id)),
    }
}

impl Change for Claim {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let receipt = &self.receipt;
        let place = (&receipt.jurisdiction, receipt.bet);
        let found = loss_claims::find(tx, place).await?;
        if let Some(Found { view, is_open: false, .. }) = &found {
            return Ok(Applied::quiet(Reply::json(200, view)?));
        }
        self.check_lost(engine, tx).await?;
        let kept = self.kept.as_ref().map(|kept| kept::read(receipt, kept)).transpose();
        let kept = kept.map_err(Halt::Refused)?;
        let operator = self.operator(tx, kept.as_ref()).await?;
        if found.is_none() {
            let filing =
                Filing { receipt, note: &self.note, operator: &operator, by: &self.by.name() };
            loss_claims::file(tx, engine.epoch, &filing).await?;
        }
        // Without kept rows the receipt waits for them, unless a person gives them up.
        if kept.is_some() || self.refund {
            let played = kept.as_ref().and_then(|kept| kept.played.clone());
            let stake = kept.as_ref().and_then(|kept| kept.stake.as_ref());
            let decision = self.decide(engine, tx, operator, (stake, played)).await?;
            loss_claims::decide(tx, engine.epoch, place, &decision).await?;
            self.enter(engine, tx, &decision).await?;
            let end = decision.state.as_str();
            metrics::counter!("domicile_writer_loss_claims_total", "end" => end).increment(1);
            tracing::info!(round = %receipt.round, end, by = decision.by, "a receipt of a lost bet is honoured");
        } else if matches!(self.by, Claimant::Person(_)) {
            let detail = "no kept row was handed in with the receipt";
            return Err(Halt::Refused(Failure::with(Code::LossEvidence, detail)));
        }
        let found = loss_claims::find(tx, place).await?;
        let view = found.map(|found| found.view).ok_or(Halt::Raced)?;
        Ok(Applied::quiet(Reply::json(200, &view)?))
    }
}
