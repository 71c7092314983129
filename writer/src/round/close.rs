//! Closing a round: no bet is accepted any more; the seed stays sealed.

use super::lock_for;
use crate::answer::Reply;
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::ledger::rounds;
use crate::meters::Entered;
use crate::round_state::RoundCommand;
use domicile_core::ids::{OperatorId, RoundId};
use domicile_postgres::Tx;
use serde_json::json;

/// A round is closed.
#[derive(Debug)]
pub struct CloseRound {
    /// Whose it is.
    pub operator: OperatorId,
    /// Which round.
    pub round: RoundId,
}

impl Change for CloseRound {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let (round, state) = lock_for(tx, &self.operator, self.round, RoundCommand::Close).await?;
        rounds::move_to(tx, engine.epoch, &round, (state, None), &[]).await?;
        let reply = Reply::json(200, &json!({ "round": round.id, "state": state.as_str() }))?;
        let entered = Entered { game: round.game, from: Some(round.state), to: state };
        Ok(Applied { entered: Some(entered), ..Applied::quiet(reply) })
    }
}
