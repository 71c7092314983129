//! What an operator sees of a round.

use crate::answer::{Failure, Reply};
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::keys::SeedOf;
use crate::ledger::operators::Operator;
use crate::ledger::rounds;
use domicile_core::error::Code;
use domicile_core::hex;
use domicile_core::ids::RoundId;
use domicile_postgres::Tx;
use serde_json::json;
use std::sync::Arc;

/// An operator reads a round. The signature is used up like any other, so the read ends in a commit.
#[derive(Debug)]
pub struct ReadRound {
    /// Who asks.
    pub operator: Arc<Operator>,
    /// Which round.
    pub round: RoundId,
}

impl Change for ReadRound {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let found = rounds::read(tx, &self.operator.id, self.round).await?;
        let missing = Halt::Refused(Failure::new(Code::RoundNotFound));
        let (round, outcome) = found.ok_or(missing)?;
        let seed = if round.state.is_terminal() {
            let seed = engine.keys.open_seed(SeedOf::Round(round.id), &round.seed_sealed)?;
            Some(seed.reveal_hex())
        } else {
            None
        };
        let answer = json!({
            "round": round.id,
            "game": round.game,
            "params": round.params,
            "currency": round.currency,
            "commitment": hex::encode(&round.commitment),
            "jurisdictions": round.jurisdictions,
            "state": round.state.as_str(),
            "outcome": outcome,
            "seed": seed,
        });
        Ok(Applied::quiet(Reply::json(200, &answer)?))
    }
}
