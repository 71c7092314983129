//! Ending a round: settled with an outcome or voided without one. Either way the seed is revealed, every bet
//! gets its payout, and the terminal leaves of all jurisdictions are queued in this one transaction.
//!
//! A jurisdiction that is suspended when its round is settled has its bets voided, never the round alone: the others
//! settle on the outcome that all bets have fixed, and its terminal leaf waits until its log goes on.

use super::{lock_for, tally};
use crate::answer::{Failure, Reply};
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::keys::SeedOf;
use crate::ledger::rounds::{self, RoundEngine};
use crate::meters::{Entered, Turnover};
use crate::pending::{self, PendingLeaf};
use crate::round_state::{RoundCommand, RoundState};
use domicile_core::error::Code;
use domicile_core::games::{self, GameError};
use domicile_core::hex;
use domicile_core::ids::{Jurisdiction, OperatorId, RoundId};
use domicile_core::leaf::{Leaf, RoundBets, RoundSettle, RoundVoid, VoidReason};
use domicile_core::lines::Text;
use domicile_core::money::Micro;
use domicile_core::outcome::{Draws, round_context};
use domicile_core::seed::Seed;
use domicile_postgres::Tx;
use serde_json::{Map, Value, json};

/// How a round ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an outcome.
    Settle,
    /// Without one: stakes go back.
    Void(VoidReason),
}

impl Ending {
    const fn command(self) -> RoundCommand {
        match self {
            Self::Settle => RoundCommand::Settle,
            Self::Void(_) => RoundCommand::Void,
        }
    }
}

/// A round is ended.
#[derive(Debug)]
pub struct EndRound {
    /// Whose it is.
    pub operator: OperatorId,
    /// Which round.
    pub round: RoundId,
    /// How it ends.
    pub ending: Ending,
}

impl Change for EndRound {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let command = self.ending.command();
        let (round, state) = lock_for(tx, &self.operator, self.round, command).await?;
        let (ending, state, voided) = self.where_suspended(engine, &round, state);
        // A terminal leaf refers to its commitment by index.
        let indexes = rounds::commit_indexes(tx, &round).await?;
        let unsequenced = Failure::new(Code::CommitmentNotPublished);
        let indexes = indexes.ok_or(Halt::Refused(unsequenced))?;
        let bets = tally::count(tx, &round).await?;
        let bets =
            RoundBets::new(bets).map_err(|error| Failure::because(Code::Internal, &error))?;
        let seed = engine.keys.open_seed(SeedOf::Round(round.id), &round.seed_sealed)?;
        let outcome = match ending {
            Ending::Settle => Some(outcome_of(&round, &seed, &bets)?),
            Ending::Void(_) => None,
        };
        let ended = Ended { round: &round, ending, seed: &seed, outcome, bets, voided };
        let turnover = ended.pay(engine, tx).await?;
        let reached = (state, ended.outcome.as_deref());
        rounds::move_to(tx, engine.epoch, &round, reached, &ended.voided).await?;
        let leaves: Result<Vec<_>, _> =
            indexes.into_iter().map(|(j, index)| ended.leaf(engine, j, index)).collect();
        pending::enqueue(tx, engine.epoch, &leaves?).await?;
        let reply = Reply::json(200, &ended.answer(state))?;
        let entered = Entered { game: round.game, from: Some(round.state), to: state };
        Ok(Applied { reply, leaves_for: round.jurisdictions, entered: Some(entered), turnover })
    }
}

impl EndRound {
    /// Where a settlement finds jurisdictions suspended, it voids there; where all are, it voids the round, as it does with
    /// one that was cut.
    fn where_suspended(
        &self,
        engine: &Engine,
        round: &RoundEngine,
        state: RoundState,
    ) -> (Ending, RoundState, Vec<Jurisdiction>) {
        if self.ending != Ending::Settle {
            return (self.ending, state, Vec::new());
        }
        if round.cut {
            return (Ending::Void(VoidReason::Expired), RoundState::Voided, Vec::new());
        }
        let all = &round.jurisdictions;
        let voided: Vec<_> = all.iter().filter(|j| engine.is_suspended(j)).cloned().collect();
        if voided.len() == all.len() {
            (Ending::Void(VoidReason::Suspended), RoundState::Voided, Vec::new())
        } else {
            (Ending::Settle, state, voided)
        }
    }
}

fn outcome_of(round: &RoundEngine, seed: &Seed, bets: &RoundBets) -> Result<String, Failure> {
    let game = games::game(&round.game).ok_or(Failure::new(Code::GameUnknown))?;
    let roots = bets.as_slice().iter().map(|bets| (&bets.jurisdiction, bets.count, &bets.root));
    let context = round_context(&round.game, &round.params, round.id, roots);
    let mut draws = Draws::new(seed, context.as_bytes());
    game.outcome(&round.params, &mut draws).map_err(|error| Failure::because(error.code(), &error))
}

/// A round that has come to its end.
struct Ended<'a> {
    round: &'a RoundEngine,
    ending: Ending,
    seed: &'a Seed,
    outcome: Option<String>,
    bets: RoundBets,
    /// Where a settled round is voided all the same.
    voided: Vec<Jurisdiction>,
}

impl Ended<'_> {
    /// Pays out; voided stakes are no turnover.
    async fn pay(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Option<Turnover>, Halt> {
        let round = self.round;
        let Some(outcome) = &self.outcome else {
            tally::pay(engine, tx, round, &round.jurisdictions, |bet| Ok(bet.stake)).await?;
            return Ok(None);
        };
        let game = games::game(&round.game).ok_or(Failure::new(Code::GameUnknown))?;
        let internal = |error: GameError| Halt::Failed(Failure::because(Code::Internal, &error));
        let totals = tally::pay(engine, tx, round, &self.voided, |bet| {
            game.payout(&round.params, bet.stake, &bet.selection, outcome).map_err(internal)
        });
        let totals = totals.await?;
        let micro = |amount| Micro::new(amount).unwrap_or(Micro::MAX);
        let (staked, paid) = (micro(totals.staked_micro), micro(totals.paid_micro));
        Ok(Some(Turnover { game: round.game.clone(), staked, paid }))
    }

    fn leaf(
        &self,
        engine: &Engine,
        jurisdiction: Jurisdiction,
        commit_index: u64,
    ) -> Result<PendingLeaf, Failure> {
        let (round, seed, bets) = (self.round.id, *self.seed.as_bytes(), self.bets.clone());
        let here = if self.voided.contains(&jurisdiction) {
            Ending::Void(VoidReason::Suspended)
        } else {
            self.ending
        };
        let leaf = match (here, &self.outcome) {
            (Ending::Void(reason), _) => {
                Leaf::RoundVoid(RoundVoid { jurisdiction, round, commit_index, seed, reason, bets })
            }
            (Ending::Settle, outcome) => {
                let outcome = Text::parse(outcome.as_deref().unwrap_or_default())
                    .map_err(|error| Failure::because(Code::Internal, &error))?;
                Leaf::RoundSettle(RoundSettle {
                    jurisdiction,
                    round,
                    commit_index,
                    seed,
                    outcome,
                    bets,
                })
            }
        };
        Ok(PendingLeaf::new(engine.ids.uuid_v7(), round.0, &leaf))
    }

    fn answer(&self, state: RoundState) -> Value {
        let bets: Map<String, Value> = self
            .bets
            .as_slice()
            .iter()
            .map(|bets| {
                let facts = json!({ "count": bets.count, "root": hex::encode(&bets.root) });
                (bets.jurisdiction.to_string(), facts)
            })
            .collect();
        json!({
            "round": self.round.id,
            "state": state.as_str(),
            "outcome": self.outcome,
            "seed": self.seed.reveal_hex(),
            "bets": bets,
            "voided": self.voided,
        })
    }
}
