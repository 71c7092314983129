//! Voids the rounds of suspended games: stakes go back.
//!
//! The suspension itself is a revision of the game's terms; from then on nothing begins and no bet is taken. What was in
//! flight is found by its state and voided one by one, right after the suspension and again with every sweep, so that a
//! round that slipped through, a writer that died half-way and a commitment that is not sequenced yet change nothing.
//! Invariant: each round is voided by the same path as at its operator's request, once.

use crate::answer::Failure;
use crate::engine::Engine;
use crate::floor;
use crate::ledger::games;
use crate::limits;
use crate::round::Ending;
use domicile_core::error::Code;
use domicile_core::ids::{OperatorId, RoundId};
use domicile_core::leaf::VoidReason;

/// What a pass came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Voided {
    /// Rounds voided now.
    pub voided: u64,
    /// Rounds that are still to be voided: the next sweep tries again.
    pub left: u64,
}

/// Voids what is in flight in suspended games, as much as one pass may.
pub async fn sweep(engine: &Engine) -> Result<Voided, Failure> {
    let session = engine.hands.session().await?;
    let rounds = games::to_void(&*session, limits::SUSPENSION_ROUNDS).await?;
    drop(session);
    let mut passed = Voided::default();
    for (round, operator) in rounds {
        match void(engine, round, &operator).await {
            Ok(()) => passed.voided += 1,
            Err(failure) => {
                passed.left += 1;
                tracing::info!(%round, code = %failure.code, "a round of a suspended game is not voided yet");
            }
        }
    }
    metrics::counter!("domicile_writer_suspension_voids_total").increment(passed.voided);
    Ok(passed)
}

async fn void(engine: &Engine, round: RoundId, operator: &OperatorId) -> Result<(), Failure> {
    match floor::end(engine, operator, round, Ending::Void(VoidReason::Suspended)).await {
        // Somebody else ended it.
        Err(failure) if failure.code == Code::RoundState => Ok(()),
        ended => ended,
    }
}
