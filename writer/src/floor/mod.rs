//! Timed shared rounds: each table – operator, game, currency – is run by one engine at a time, which opens its rounds,
//! takes bets for a window, closes, settles, pauses and opens the next.
//!
//! `plan` says what comes next, pure; `run` does it, step by step; `owner` holds the tables of this process, so that
//! engines spread over the processes of the writer's region and another one takes over when one dies; `recovery` notes what
//! became of rounds that were found under way.
//! Invariants: whoever believes to own a table, the ledger lets one round of it be under way and each step happen once, so
//! two owners at once are harmless; every step starts from what the ledger says, so it does not matter who did the one
//! before. Deliberately absent: rounds that operators run themselves, but for ending them.

mod owner;
pub mod plan;
pub mod recovery;
mod run;

pub use owner::Floor;
pub use recovery::Recovery;

use crate::answer::Failure;
use crate::change;
use crate::engine::Engine;
use crate::ledger::floor;
use crate::limits;
use crate::round::{EndRound, Ending};
use domicile_core::error::Code;
use domicile_core::ids::{OperatorId, RoundId};
use domicile_core::leaf::VoidReason;

/// Voids rounds that a forced move of the writer has cut off; says how many.
pub async fn void_cut(engine: &Engine) -> Result<usize, Failure> {
    let session = engine.hands.session().await?;
    let rounds = floor::cut_in_flight(&*session, limits::FLOOR_VOIDS).await?;
    drop(session);
    let mut voided = 0;
    for (round, operator) in rounds {
        // One whose log is suspended must not keep the others.
        match end(engine, &operator, round, Ending::Void(VoidReason::Expired)).await {
            Ok(()) => {
                tracing::warn!(%round, "a round that a forced move has cut off is voided");
                engine.recovery.cut();
                voided += 1;
            }
            Err(failure) if failure.code == Code::RoundState => {}
            Err(failure) => {
                tracing::warn!(%round, code = %failure.code, "a round that was cut off is not voided yet");
            }
        }
    }
    Ok(voided)
}

/// Ends a round in its turn.
pub(crate) async fn end(
    engine: &Engine,
    operator: &OperatorId,
    round: RoundId,
    ending: Ending,
) -> Result<(), Failure> {
    let turn = engine.rounds.exclusive(&round).await;
    let _turn = turn.map_err(|_crowded| Failure::new(Code::WriterOverloaded))?;
    let change = EndRound { operator: operator.clone(), round, ending };
    change::perform(engine, &change).await.map(drop)
}
