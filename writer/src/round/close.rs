//! Closing a round: no bet is accepted any more; the seed stays sealed.

use super::lock_for;
use crate::answer::Reply;
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::ledger::operators::Operator;
use crate::ledger::rounds;
use crate::round_state::RoundCommand;
use domicile_core::ids::RoundId;
use domicile_postgres::Tx;
use serde_json::json;
use std::sync::Arc;

/// An operator closes a round.
#[derive(Debug)]
pub struct CloseRound {
    /// Who asks.
    pub operator: Arc<Operator>,
    /// Which round.
    pub round: RoundId,
}

impl Change for CloseRound {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let (round, state) =
            lock_for(tx, &self.operator.id, self.round, RoundCommand::Close).await?;
        rounds::move_to(tx, engine.epoch, &round, (state, None), &[]).await?;
        let reply = Reply::json(200, &json!({ "round": round.id, "state": state.as_str() }))?;
        Ok(Applied { entered: Some(state), ..Applied::quiet(reply) })
    }
}
