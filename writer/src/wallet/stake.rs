//! Taking a stake from a player's wallet, for a play or bet that is ready to be written.
//!
//! Invariants: the intent is durable before the wallet is asked; who repeats a request under its key goes on with the
//! same transaction; a stake that was taken and whose bet cannot be written any more is undone before the refusal is told.
//! When the engine closes meanwhile nothing is decided: the next writer asks the wallet the same again.

use super::line::{Line, Places};
use crate::answer::{Acknowledged, Failure, Handled, Verdict};
use crate::engine::Engine;
use crate::lane::JobError;
use crate::ledger::requests::RequestId;
use crate::ledger::wallet_jobs::{End, Intended, Intent, Taken};
use crate::order::Order;
use crate::player::Player;
use domicile_core::error::Code;
use domicile_core::ids::{BetId, RoundId};
use domicile_core::wallet::answer::{Answer, Meaning};
use domicile_core::wallet::exchange::Transaction;
use domicile_core::wallet::job::JobState;
use domicile_core::wallet::{Call, bet_id};
use domicile_postgres::Durable;
use domicile_service::ids::IdSource;
use std::time::Duration;

/// The ids of a bet, fixed before its stake is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The round.
    pub round: RoundId,
    /// The bet.
    pub bet: BetId,
}

impl Place {
    /// A bet on a shared round, or – without one – a play with a round of its own.
    pub fn new(ids: &IdSource, round: Option<RoundId>) -> Self {
        let round = round.unwrap_or_else(|| RoundId(ids.uuid_v7()));
        Self { round, bet: BetId(ids.uuid_v7()) }
    }
}

/// A stake that the wallet has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stake {
    /// The transaction.
    pub taken: Taken,
    /// The bet it was taken for.
    pub place: Place,
}

/// Takes the stake of an order, or says what its request is answered.
pub async fn take(
    engine: &Engine,
    line: &Line,
    (player, order): (&Player, &Order),
    request: &RequestId,
    place: Place,
) -> Result<Stake, Handled> {
    let unavailable = || Err(Failure::new(Code::WalletUnavailable));
    let Some(admission) = line.admit(Places::Bets).await else { return Err(unavailable()) };
    let mut transaction = bet(player, order, request, place);
    let intent = Intent {
        transaction: transaction.clone(),
        body_hash: request.body_hash,
        lease: line.lease(),
    };
    let intended = engine.money.intend(intent).await;
    let (intended, durable) = intended.map_err(|error| Err(error.unraced()))?;
    check(&intended, request).map_err(|refusal| Ok(told(durable, refusal)))?;
    let place = Place { round: intended.round, bet: intended.bet };
    (transaction.round, transaction.bet) = (place.round, place.bet);
    let Some((answer, meaning)) = engine.unless_closing(line.ask(admission, &transaction)).await
    else {
        return Err(Err(Failure::new(Code::WriterDraining)));
    };
    match meaning {
        Meaning::Done => {
            let taken = Taken { id: transaction.id, answer: answer.as_str() };
            Ok(Stake { taken, place })
        }
        Meaning::Refused => {
            let end = ended(&transaction, JobState::Refused, answer);
            let durable = write(engine, end).await?;
            Err(Ok(told(durable, Failure::with(Code::StakeRefused, answer.as_str()))))
        }
        Meaning::Retry | Meaning::Unknown => {
            let durable = write(engine, ended(&transaction, JobState::Undone, answer)).await?;
            engine.money.wake();
            Err(Ok(told(durable, Failure::new(Code::StakeReturned))))
        }
    }
}

/// Tells a refusal, once the stake that was taken for the request, if any, is on its way back.
pub async fn refuse(engine: &Engine, stake: Option<Stake>, refusal: Failure) -> Handled {
    let Some(stake) = stake else { return engine.acknowledge(Err(refusal)).await };
    let end = End {
        id: stake.taken.id,
        state: JobState::Undone,
        answer: stake.taken.answer,
        pause: Duration::ZERO,
    };
    match write(engine, end).await {
        Ok(durable) => {
            engine.money.wake();
            Ok(told(durable, refusal))
        }
        Err(handled) => handled,
    }
}

/// What an earlier request of the same key left; a pending bet is asked for again.
fn check(intended: &Intended, request: &RequestId) -> Result<(), Failure> {
    if intended.body_hash != request.body_hash {
        return Err(Failure::new(Code::IdempotencyKeyReused));
    }
    match intended.state {
        JobState::Pending => Ok(()),
        JobState::Refused => {
            let answer = intended.answer.clone().unwrap_or_default();
            Err(Failure::with(Code::StakeRefused, answer))
        }
        // A request that is told its stored answer does not come here; this one finds it next time.
        JobState::Done => Err(Failure::new(Code::OutcomeUnknown)),
        JobState::Undone | JobState::Dead | JobState::Resolved => {
            Err(Failure::new(Code::StakeReturned))
        }
    }
}

fn bet(player: &Player, order: &Order, request: &RequestId, place: Place) -> Transaction {
    Transaction {
        id: bet_id(&request.scope, &request.key),
        call: Call::Bet,
        reference: None,
        operator: player.session.operator.clone(),
        jurisdiction: player.jurisdiction.clone(),
        player: player.session.player.clone(),
        session: player.session.session,
        game: player.session.game.clone(),
        round: place.round,
        bet: place.bet,
        currency: player.session.currency.clone(),
        amount: order.stake,
    }
}

fn ended(transaction: &Transaction, state: JobState, answer: Answer) -> End {
    End { id: transaction.id, state, answer: answer.as_str(), pause: Duration::ZERO }
}

async fn write(engine: &Engine, end: End) -> Result<Durable, Handled> {
    engine.money.end(end).await.map_err(|error| match error {
        // Another process has ended it: the next look finds how.
        JobError::Raced => Err(Failure::new(Code::OutcomeUnknown)),
        JobError::Failed(failure) => Err(failure),
    })
}

const fn told(durable: Durable, refusal: Failure) -> Acknowledged<Verdict> {
    Acknowledged::new(&durable, Err(refusal))
}
