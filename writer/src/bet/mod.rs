//! Bets on shared rounds: a stake under a published commitment, answered with a signed receipt.
//!
//! Invariants: a bet is written under a share lock on a round that is open, so none is accepted once the
//! round's close is on its way; the commitment it names is covered by a published checkpoint.

pub mod look;
pub mod write;

use crate::answer::{Failure, Handled, Reply};
use crate::engine::Engine;
use crate::lane::{JobError, Lane};
use crate::ledger::requests::{NewRequest, RequestId};
use crate::ledger::wagers::Wager;
use crate::limits;
use crate::order::{Ground, Order, SaltedRecord, covering_root};
use crate::player::Player;
use crate::wallet::stake::{self, Place, Stake};
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_core::games;
use domicile_core::ids::{BetId, RoundId};
use domicile_postgres::Pool;
use look::{Look, Looker, Seen};
use serde::Serialize;
use write::{PreparedBet, Writer, Written};

/// The lanes of bets.
#[derive(Debug)]
pub struct Lanes {
    looks: Lane<Looker>,
    writes: Lane<Writer>,
}

impl Lanes {
    /// Starts their workers.
    pub fn start(pool: &Pool, epoch: Epoch) -> Self {
        Self {
            looks: Lane::start(Looker { pool: pool.clone() }),
            writes: Lane::start(Writer { pool: pool.clone(), epoch }),
        }
    }
}

#[derive(Serialize)]
struct BetAnswer<'a> {
    round: RoundId,
    bet: BetId,
    receipt: &'a str,
    epoch: u64,
}

/// Places a bet once per idempotency key.
pub async fn bet(
    engine: &Engine,
    player: &Player,
    request: RequestId,
    round: RoundId,
    mut order: Order,
) -> Handled {
    engine.check_writable(&player.jurisdiction)?;
    let crowded = |_crowded| Failure::new(Code::WriterOverloaded);
    let _session = engine.sessions.exclusive(&player.session.session).await.map_err(crowded)?;
    let wallet = engine.money.line(&player.session.operator)?;
    let (operator, game) = (&player.session.operator, &player.session.game);
    let terms = engine.directory.game(operator, game).await?;
    let (mut place, mut taken) = (Place::new(&engine.ids, Some(round)), None::<Stake>);
    for _ in 0..limits::RACE_ATTEMPTS {
        let look = Look::new(player, &request, round, order.checkpoint_size);
        let seen = engine.bets.looks.submit(look).await.map_err(JobError::unraced)?;
        if let Some(stored) = &seen.stored {
            let replay = stored.replay(&request, &engine.keys, Code::IdempotencyKeyReused);
            return engine.acknowledge(replay).await;
        }
        let permitted = seen.check(player, &order, engine.clock.now_unix_s());
        let permitted = permitted.and_then(|()| terms.check_bet(game, seen.params(), &order));
        if let Err(refusal) = permitted {
            return stake::refuse(engine, taken, refusal).await;
        }
        if order.checkpoint_size.is_none() {
            let covered = engine.covering(&player.jurisdiction, round.0).await?;
            order.checkpoint_size = Some(covered.size);
            continue;
        }
        let mut prepared = match prepare(engine, player, &request, place, &order, &seen) {
            Ok(prepared) => prepared,
            Err(refusal) => return stake::refuse(engine, taken, refusal).await,
        };
        if let (Some(line), None) = (&wallet, &taken) {
            match stake::take(engine, line, (player, &order), &request, place).await {
                Ok(stake) => taken = Some(stake),
                Err(answer) => return answer,
            }
        }
        if let Some(stake) = taken.filter(|stake| stake.place != place) {
            // An earlier request of this key has fixed the ids.
            place = stake.place;
            continue;
        }
        prepared.stake = taken.map(|stake| stake.taken);
        // Not before: whoever changes the round must not wait for a wallet.
        let _round = engine.rounds.shared(&round).await.map_err(crowded)?;
        match engine.bets.writes.submit(prepared).await {
            Ok(Written::Placed(acknowledged)) => return Ok(acknowledged),
            Ok(Written::Late) => {
                return stake::refuse(engine, taken, Failure::new(Code::RoundState)).await;
            }
            Ok(Written::Revoked) => {
                return stake::refuse(engine, taken, Failure::new(Code::SessionRevoked)).await;
            }
            // Perhaps it was the stake: the intent says.
            Err(JobError::Raced) => taken = None,
            Err(JobError::Failed(failure)) => return Err(failure),
        }
    }
    Err(Failure::new(Code::WriterOverloaded))
}

fn prepare(
    engine: &Engine,
    player: &Player,
    request: &RequestId,
    place: Place,
    order: &Order,
    seen: &Seen,
) -> Result<PreparedBet, Failure> {
    let commit_index = seen.commit_index.ok_or(Failure::new(Code::CommitmentNotPublished))?;
    let (checkpoint_size, checkpoint_root) =
        covering_root(seen.checkpoint.as_deref(), commit_index)?;
    let game = games::game(&player.session.game).ok_or(Failure::new(Code::GameUnknown))?;
    order.check(game, seen.params())?;
    let Place { round, bet } = place;
    let ground = Ground { round, bet, checkpoint_size, checkpoint_root };
    let salted = SaltedRecord::new(player, order, ground, engine.ids.bytes());
    let receipt = salted.receipt(engine)?;
    let answer = BetAnswer { round, bet, receipt: &receipt, epoch: engine.epoch.0 };
    let reply = Reply::json(201, &answer)?;
    let request = NewRequest::new(request.clone(), &reply, &engine.keys)?;
    let wager = Wager { salted, payout: None, receipt };
    let limited = seen.limits.loss_micro.is_some();
    Ok(PreparedBet { request, wager, stake: None, limited, reply })
}
