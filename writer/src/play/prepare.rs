//! From order and chain to a finished play: outcome, payout, record, leaf, receipt, answer.
//!
//! Pure but for randomness (ids, salt, the next chain's start). Nothing of it leaves before its commit.

use super::look::{OpenChain, Seen};
use crate::answer::{Failure, Reply};
use crate::chain::{self, ChainOrder};
use crate::engine::Engine;
use crate::keys::SeedOf;
use crate::ledger::chains::{NewChain, Step};
use crate::ledger::requests::{NewRequest, RequestId};
use crate::ledger::rounds::RoundFacts;
use crate::ledger::wagers::Wager;
use crate::ledger::wallet_jobs::Taken;
use crate::order::{Ground, Order, SaltedRecord, covering_root};
use crate::pending::PendingLeaf;
use crate::player::Player;
use crate::round_state::RoundState;
use crate::wallet::stake::Place;
use domicile_core::error::Code;
use domicile_core::games::{self, GameError};
use domicile_core::ids::{BetId, GameCode, RoundId};
use domicile_core::leaf::{CloseReason, Leaf, Play};
use domicile_core::lines::Text;
use domicile_core::money::Micro;
use domicile_core::outcome::{Draws, play_context};
use domicile_core::seed::{Seed, chain_seed};
use serde::Serialize;

/// A play, ready to be written.
#[derive(Debug)]
pub struct PreparedPlay {
    /// The chain's step.
    pub step: Step,
    /// The round's published facts.
    pub round: RoundFacts,
    /// Stake and payout.
    pub wager: Wager,
    /// The request with its sealed answer.
    pub request: NewRequest,
    /// The play's leaf, and those of a chain that begins or ends with it.
    pub leaves: Vec<PendingLeaf>,
    /// The stake as its wallet took it, where the operator has one.
    pub stake: Option<Taken>,
    /// Whether its session has a loss limit.
    pub limited: bool,
    /// The next chain, where this play is the one that commits it.
    pub next_chain: Option<NewChain>,
    /// The answer.
    pub reply: Reply,
}

impl PreparedPlay {
    /// What the play pays.
    pub fn payout(&self) -> Micro {
        self.wager.payout.unwrap_or(Micro::ZERO)
    }
}

#[derive(Serialize)]
struct PlayAnswer<'a> {
    round: RoundId,
    bet: BetId,
    position: u32,
    remaining: u32,
    outcome: &'a str,
    payout_micro: Micro,
    seed: String,
    receipt: &'a str,
    epoch: u64,
}

/// What the seed of the chain's next position decided.
struct Roll {
    start: Seed,
    seed: Seed,
    outcome: String,
    payout: Micro,
}

impl Roll {
    fn new(
        engine: &Engine,
        order: &Order,
        chain: &OpenChain,
        salted: &SaltedRecord,
        game_code: &GameCode,
    ) -> Result<Self, Failure> {
        let game = games::game(game_code).ok_or(Failure::new(Code::GameUnknown))?;
        order.check(game, &chain.params)?;
        let start = engine.keys.open_seed(SeedOf::Chain(chain.id), &chain.seed_sealed)?;
        let seed = chain_seed(&start, chain.length, chain.next_position).map_err(internal)?;
        let context = play_context(
            game_code,
            &chain.params,
            salted.record.round,
            chain.next_position,
            &order.client_seed,
            &salted.commitment,
        );
        let mut draws = Draws::new(&seed, context.as_bytes());
        let refused = |error: GameError| Failure::because(error.code(), &error);
        let outcome = game.outcome(&chain.params, &mut draws).map_err(refused)?;
        let payout = game.payout(&chain.params, order.stake, &order.selection, &outcome);
        Ok(Self { start, seed, payout: payout.map_err(refused)?, outcome })
    }
}

fn internal(error: impl std::error::Error) -> Failure {
    Failure::because(Code::Internal, &error)
}

/// Draws and writes down the play of `order` on the chain's next position.
pub fn prepare(
    engine: &Engine,
    player: &Player,
    request: &RequestId,
    order: &Order,
    (chain, seen, place): (&OpenChain, &Seen, Place),
) -> Result<PreparedPlay, Failure> {
    let commit_index = seen.commit_index.ok_or(Failure::new(Code::CommitmentNotPublished))?;
    let (checkpoint_size, checkpoint_root) =
        covering_root(seen.checkpoint.as_deref(), commit_index)?;
    let Place { round, bet } = place;
    let ground = Ground { round, bet, checkpoint_size, checkpoint_root };
    let salted = SaltedRecord::new(player, order, ground, engine.ids.bytes());
    let game_code = &player.session.game;
    let roll = Roll::new(engine, order, chain, &salted, game_code)?;

    let position = chain.next_position;
    let leaf = Leaf::Play(Play {
        jurisdiction: player.jurisdiction.clone(),
        commit_index,
        position,
        round,
        seed: *roll.seed.as_bytes(),
        client_seed: order.client_seed,
        outcome: Text::parse(&roll.outcome).map_err(internal)?,
        record: salted.commitment,
    });
    let mut leaves = vec![PendingLeaf::new(engine.ids.uuid_v7(), round.0, &leaf)];
    let next_chain = succession(engine, player, chain, commit_index, &roll.start, &mut leaves)?;

    let receipt = salted.receipt(engine)?;
    let answer = PlayAnswer {
        round,
        bet,
        position,
        remaining: chain.length.saturating_sub(position).saturating_sub(1),
        outcome: &roll.outcome,
        payout_micro: roll.payout,
        seed: roll.seed.reveal_hex(),
        receipt: &receipt,
        epoch: engine.epoch.0,
    };
    let reply = Reply::json(201, &answer)?;
    Ok(PreparedPlay {
        step: Step { jurisdiction: player.jurisdiction.clone(), chain: chain.id, position },
        round: RoundFacts {
            jurisdiction: player.jurisdiction.clone(),
            id: round,
            kind: "play",
            operator: player.session.operator.clone(),
            game: game_code.clone(),
            params: chain.params.clone(),
            currency: player.session.currency.clone(),
            commitment: chain.commitment,
            state: RoundState::Settled,
            outcome: Some(roll.outcome),
        },
        request: NewRequest::new(request.clone(), &reply, &engine.keys)?,
        wager: Wager { salted, payout: Some(roll.payout), receipt },
        leaves,
        stake: None,
        limited: seen.limits.loss_micro.is_some(),
        next_chain,
        reply,
    })
}

/// The chain that this play commits, if it is the one; and the end of the chain that it uses up.
fn succession(
    engine: &Engine,
    player: &Player,
    chain: &OpenChain,
    commit_index: u64,
    start: &Seed,
    leaves: &mut Vec<PendingLeaf>,
) -> Result<Option<NewChain>, Failure> {
    let mut next_chain = None;
    if chain::is_rollover(chain.length, chain.next_position) {
        let order = ChainOrder {
            jurisdiction: player.jurisdiction.clone(),
            session: player.session.session,
            ordinal: chain.ordinal.saturating_add(1),
            game: player.session.game.clone(),
            params: chain.params.clone(),
        };
        let (created, commit) = chain::create(order, &engine.keys, &engine.ids)?;
        leaves.push(commit);
        next_chain = Some(created);
    }
    let plays = chain.next_position.saturating_add(1);
    if plays >= chain.length {
        let ended = chain::Ended { id: chain.id, commit_index, plays, start };
        let reason = CloseReason::Exhausted;
        leaves.push(ended.leaf(player.jurisdiction.clone(), reason, &engine.ids));
    }
    Ok(next_chain)
}
