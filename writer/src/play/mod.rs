//! Instant play: a stake, the next seed of the session's chain, an outcome – in one commit.
//!
//! A play looks first (one statement for many plays), is prepared by its own request, then written with
//! others in one transaction. Plays of a session take turns in memory; the chain's row decides in the
//! ledger. Invariants: positions are used strictly in order, each by one play; the seed leaves after the
//! commit that used it is in two regions; the next chain is committed before this one runs out.

pub mod look;
pub mod prepare;
pub mod write;

use crate::answer::{Failure, Handled};
use crate::engine::Engine;
use crate::lane::{JobError, Lane};
use crate::ledger::requests::RequestId;
use crate::limits;
use crate::meters::{self, Entered};
use crate::order::Order;
use crate::player::Player;
use crate::round_state::RoundState;
use crate::wallet::stake::{self, Place, Stake};
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_postgres::Pool;
use look::{Look, Looker};
use write::Writer;

/// The lanes of plays.
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

/// Plays once per idempotency key.
pub async fn play(
    engine: &Engine,
    player: &Player,
    request: RequestId,
    mut order: Order,
) -> Handled {
    engine.check_writable(&player.jurisdiction)?;
    let crowded = |_crowded| Failure::new(Code::WriterOverloaded);
    let _turn = engine.sessions.exclusive(&player.session.session).await.map_err(crowded)?;
    let wallet = engine.money.line(&player.session.operator)?;
    let (operator, game) = (&player.session.operator, &player.session.game);
    let terms = engine.directory.game(operator, game).await?;
    let (mut place, mut taken) = (Place::new(&engine.ids, None), None::<Stake>);
    for _ in 0..limits::RACE_ATTEMPTS {
        let look = Look::new(player, &request, order.checkpoint_size);
        let seen = engine.plays.looks.submit(look).await.map_err(JobError::unraced)?;
        if let Some(stored) = &seen.stored {
            let replay = stored.replay(&request, &engine.keys, Code::IdempotencyKeyReused);
            return engine.acknowledge(replay).await;
        }
        let chain = match seen.usable_chain(&order, engine.clock.now_unix_s()) {
            Ok(chain) => chain,
            Err(refusal) => return stake::refuse(engine, taken, refusal).await,
        };
        if let Err(refusal) = terms.check_bet(game, &chain.params, &order) {
            return stake::refuse(engine, taken, refusal).await;
        }
        if order.checkpoint_size.is_none() {
            let covered = engine.covering(&player.jurisdiction, chain.id.0).await?;
            order.checkpoint_size = Some(covered.size);
            continue;
        }
        let ground = (chain, &seen, place);
        let mut prepared = match prepare::prepare(engine, player, &request, &order, ground) {
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
        let stake = order.stake;
        let payout = prepared.payout();
        match engine.plays.writes.submit(prepared).await {
            Ok(acknowledged) => {
                engine.wake([&player.jurisdiction]);
                let settled = Entered { game: game.clone(), from: None, to: RoundState::Settled };
                meters::transition("play", &settled);
                engine.meters.settled(game, stake, payout);
                if taken.is_some() {
                    engine.money.wake();
                }
                return Ok(acknowledged);
            }
            // Perhaps it was the stake: the intent says.
            Err(JobError::Raced) => taken = None,
            Err(JobError::Failed(failure)) => return Err(failure),
        }
    }
    Err(Failure::new(Code::WriterOverloaded))
}
