//! Opening a round: a fresh seed, sealed; its commitment on the way into every enabled jurisdiction's log.

use crate::answer::{Failure, Reply};
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::keys::SeedOf;
use crate::ledger::operators::Operator;
use crate::ledger::rounds::{self, RoundEngine, RoundFacts, Slot};
use crate::meters::Entered;
use crate::pending::{self, PendingLeaf};
use crate::round_state::RoundState;
use crate::terms::GameTerms;
use domicile_core::error::Code;
use domicile_core::games;
use domicile_core::hex;
use domicile_core::ids::{GameCode, Jurisdiction, RequestKey, RoundId};
use domicile_core::leaf::{Leaf, RoundCommit};
use domicile_core::limits::ROUND_JURISDICTIONS_MAX;
use domicile_core::lines::Text;
use domicile_core::money::Currency;
use domicile_core::seed::Seed;
use domicile_postgres::Tx;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The request's body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRoundBody {
    /// Makes the request repeatable.
    pub request_id: Option<RequestKey>,
    /// The game.
    pub game: GameCode,
    /// The game's parameters; the game's own when absent.
    pub params: Option<String>,
    /// The currency of its bets.
    pub currency: Currency,
    /// Where bets are taken.
    pub jurisdictions: BTreeSet<Jurisdiction>,
}

/// An operator opens a round.
#[derive(Debug)]
pub struct OpenRound {
    /// Who asks.
    pub operator: Arc<Operator>,
    /// For what.
    pub body: OpenRoundBody,
    /// Its place in the line of its schedule, for a timed round.
    pub slot: Option<Slot>,
}

impl OpenRound {
    /// Refuses what the operator may not have, before anything is written.
    pub fn check(&self, engine: &Engine) -> Result<(), Failure> {
        let body = &self.body;
        if !(1..=ROUND_JURISDICTIONS_MAX).contains(&body.jurisdictions.len()) {
            return Err(Failure::with(Code::MalformedBody, "jurisdictions must be 1-64"));
        }
        for jurisdiction in &body.jurisdictions {
            engine.check_writable(jurisdiction)?;
            if !self.operator.jurisdictions.contains(jurisdiction) {
                let detail = format!("the operator is not registered for {jurisdiction}");
                return Err(Failure::with(Code::OperatorForbidden, detail));
            }
        }
        let game = games::game(&body.game).ok_or(Failure::new(Code::GameUnknown))?;
        if !self.operator.games.contains(&body.game) {
            let detail = "the operator does not offer this game";
            return Err(Failure::with(Code::OperatorForbidden, detail));
        }
        if let Some(params) = &body.params {
            let refuse = |error: games::GameError| Failure::with(error.code(), error.to_string());
            game.check_params(params).map_err(refuse)?;
        }
        Ok(())
    }

    fn draw(&self, engine: &Engine, terms: &GameTerms) -> Result<RoundEngine, Failure> {
        let body = &self.body;
        let params = body.params.as_deref().unwrap_or(&terms.params);
        let id = RoundId(engine.ids.uuid_v7());
        let seed = Seed::new(engine.ids.bytes());
        Ok(RoundEngine {
            id,
            operator: self.operator.id.clone(),
            game: body.game.clone(),
            params: params.to_owned(),
            currency: body.currency.clone(),
            jurisdictions: body.jurisdictions.iter().cloned().collect(),
            commitment: seed.commitment(),
            seed_sealed: engine.keys.seal_seed(SeedOf::Round(id), &seed)?,
            state: RoundState::Open,
            cut: false,
            slot: self.slot,
        })
    }
}

impl Change for OpenRound {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let terms = GameTerms::read(tx, &self.operator.id, &self.body.game).await?;
        terms.check_offered().map_err(Halt::Refused)?;
        let round = self.draw(engine, &terms)?;
        let params =
            Text::parse(&round.params).map_err(|error| Failure::because(Code::Internal, &error))?;
        let leaf = |jurisdiction: &Jurisdiction| {
            let leaf = Leaf::RoundCommit(RoundCommit {
                jurisdiction: jurisdiction.clone(),
                round: round.id,
                game: round.game.clone(),
                params: params.clone(),
                commitment: round.commitment,
            });
            PendingLeaf::new(engine.ids.uuid_v7(), round.id.0, &leaf)
        };
        let leaves: Vec<_> = round.jurisdictions.iter().map(leaf).collect();
        let facts: Vec<_> = round.jurisdictions.iter().map(|j| facts_of(&round, j)).collect();
        rounds::insert_engine(tx, engine.epoch, &round).await?;
        rounds::insert(tx, engine.epoch, facts.iter()).await?;
        pending::enqueue(tx, engine.epoch, &leaves).await?;
        let answer = json!({
            "round": round.id,
            "game": round.game,
            "params": round.params,
            "commitment": hex::encode(&round.commitment),
            "jurisdictions": round.jurisdictions,
            "state": RoundState::Open.as_str(),
        });
        let applied = Applied::quiet(Reply::json(201, &answer)?);
        let entered = Entered { game: round.game, from: None, to: RoundState::Open };
        Ok(Applied { leaves_for: round.jurisdictions, entered: Some(entered), ..applied })
    }
}

fn facts_of(round: &RoundEngine, jurisdiction: &Jurisdiction) -> RoundFacts {
    RoundFacts {
        jurisdiction: jurisdiction.clone(),
        id: round.id,
        kind: "round",
        operator: round.operator.clone(),
        game: round.game.clone(),
        params: round.params.clone(),
        currency: round.currency.clone(),
        commitment: round.commitment,
        state: RoundState::Open,
        outcome: None,
    }
}
