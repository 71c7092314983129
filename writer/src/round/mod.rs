//! Shared rounds: opened, closed, settled or voided by their operator, or by the engine of their schedule.

mod close;
mod end;
mod open;
mod read;
mod tally;

pub use close::CloseRound;
pub use end::{EndRound, Ending};
pub use open::{OpenRound, OpenRoundBody};
pub use read::ReadRound;

use crate::answer::Failure;
use crate::change::Halt;
use crate::ledger::rounds::{self, RoundEngine};
use crate::round_state::{RoundCommand, RoundState};
use domicile_core::error::Code;
use domicile_core::ids::{OperatorId, RoundId};
use domicile_postgres::Tx;

/// Locks an operator's round and says where `command` leads from its present state.
async fn lock_for(
    tx: &Tx<'_>,
    operator: &OperatorId,
    round: RoundId,
    command: RoundCommand,
) -> Result<(RoundEngine, RoundState), Halt> {
    let found = rounds::lock(tx, operator, round).await?;
    let round = found.ok_or(Halt::Refused(Failure::new(Code::RoundNotFound)))?;
    let Some(state) = round.state.after(command) else {
        let detail = format!("the round is {}", round.state);
        return Err(Halt::Refused(Failure::with(Code::RoundState, detail)));
    };
    Ok((round, state))
}
