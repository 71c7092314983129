//! An engine: looks, decides, does one step, and looks again.
//!
//! Invariants: what is done follows from a look at the ledger and is decided once more under the round's lock; a step
//! whose outcome is unknown is followed by a look; between two steps nothing is held but the table.

use super::end;
use super::plan::{Action, Facts, decide};
use crate::answer::Failure;
use crate::change;
use crate::engine::Engine;
use crate::ledger::WriteError;
use crate::ledger::floor::{self, Latest, Schedule, Table};
use crate::ledger::rounds::Slot;
use crate::limits;
use crate::round::{CloseRound, Ending, OpenRound, OpenRoundBody};
use crate::round_state::RoundState;
use domicile_core::error::Code;
use domicile_core::leaf::VoidReason;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// When the table has to be given up, if it has to.
pub(super) type Leaving = Option<Instant>;

/// What follows a step.
enum Next {
    /// Another look, after a pause.
    Look(Duration),
    /// Nothing: the table is given up.
    Done,
}

/// Runs a table until it is told to leave or the engine's epoch ends.
pub(super) async fn run(engine: Weak<Engine>, table: Table, mut leaving: watch::Receiver<Leaving>) {
    let mut is_first = true;
    loop {
        let until = *leaving.borrow_and_update();
        let Some(here) = engine.upgrade() else { return };
        let next = step(&here, &table, until, &mut is_first).await;
        drop(here);
        let pause = match next {
            Ok(Next::Done) => return,
            Ok(Next::Look(pause)) => pause,
            Err(failure) if failure.code == Code::EpochFenced => return,
            // Somebody else did the step: the next look shows it.
            Err(failure) if failure.code == Code::RoundState => Duration::ZERO,
            Err(failure) => {
                tracing::warn!(%table, code = %failure.code, "a step of a table was not done");
                limits::FLOOR_RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = leaving.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

async fn step(
    engine: &Engine,
    table: &Table,
    until: Leaving,
    is_first: &mut bool,
) -> Result<Next, Failure> {
    let looked = Instant::now();
    let session = engine.hands.session().await?;
    let Some((schedule, latest)) = floor::facts(&*session, table).await? else {
        return Ok(Next::Done);
    };
    drop(session);
    let leaving = until.map(|until| until.saturating_duration_since(Instant::now()));
    let facts = Facts { schedule, latest, age: looked.elapsed(), leaving };
    let action = decide(&facts);
    if let Some(latest) = facts.latest.as_ref().filter(|_| std::mem::take(is_first))
        && !latest.state.is_terminal()
    {
        engine.recovery.found(table, latest, action, engine.clock.now_unix_ms());
    }
    match (action, &facts.latest) {
        (Action::Open(ordinal), _) => open(engine, &facts.schedule, ordinal).await,
        (Action::Cover, Some(latest)) => cover(engine, latest).await,
        (Action::Close, Some(latest)) => close(engine, table, latest).await,
        (Action::Settle, Some(latest)) => finish(engine, table, latest, Ending::Settle).await,
        (Action::Void(reason), Some(latest)) => void(engine, table, latest, reason).await,
        (Action::Wait(pause), _) => Ok(Next::Look(pause.min(limits::FLOOR_LOOK))),
        (Action::Leave, _) => Ok(Next::Done),
        _ => Ok(Next::Look(limits::FLOOR_LOOK)),
    }
}

/// Opens a round where bets may be taken now.
async fn open(engine: &Engine, schedule: &Schedule, ordinal: i64) -> Result<Next, Failure> {
    let Table { operator, game, currency } = schedule.table.clone();
    let operator = match engine.directory.operator(&operator).await {
        Ok(operator) => operator,
        Err(failure) if failure.code == Code::OperatorForbidden => {
            return Ok(Next::Look(limits::FLOOR_LOOK));
        }
        Err(failure) => return Err(failure),
    };
    let terms = engine.directory.game(&operator.id, &game).await?;
    if terms.check_offered().is_err() {
        return Ok(Next::Look(limits::FLOOR_LOOK));
    }
    let here = schedule.jurisdictions.iter().filter(|code| {
        operator.jurisdictions.contains(code) && engine.check_writable(code).is_ok()
    });
    let body = OpenRoundBody {
        request_id: None,
        game,
        params: schedule.params.clone(),
        currency,
        jurisdictions: here.cloned().collect(),
    };
    if body.jurisdictions.is_empty() {
        return Ok(Next::Look(limits::FLOOR_LOOK));
    }
    let slot = Some(Slot { ordinal, betting_ms: schedule.betting_ms });
    let change = OpenRound { operator, body, slot };
    change.check(engine)?;
    change::perform(engine, &change).await?;
    Ok(Next::Look(Duration::ZERO))
}

/// Waits, bounded, until the commitment is covered wherever bets may be taken; then bets are.
async fn cover(engine: &Engine, latest: &Latest) -> Result<Next, Failure> {
    for jurisdiction in latest.jurisdictions.iter().filter(|code| !engine.is_suspended(code)) {
        match engine.covering(jurisdiction, latest.round.0).await {
            Ok(_covered) => {}
            Err(failure) if failure.code == Code::CommitmentNotPublished => {
                return Ok(Next::Look(limits::FLOOR_RETRY));
            }
            Err(failure) => return Err(failure),
        }
    }
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    match floor::begin_betting(&tx, engine.epoch, latest.round).await {
        Ok(()) => drop(tx.commit(limits::COMMIT_WAIT).await?),
        Err(WriteError::Shortfall) => tx.rollback().await?,
        Err(WriteError::Database(error)) => return Err(error.into()),
    }
    Ok(Next::Look(Duration::ZERO))
}

async fn close(engine: &Engine, table: &Table, latest: &Latest) -> Result<Next, Failure> {
    let turn = engine.rounds.exclusive(&latest.round).await;
    let _turn = turn.map_err(|_crowded| Failure::new(Code::WriterOverloaded))?;
    let change = CloseRound { operator: table.operator.clone(), round: latest.round };
    change::perform(engine, &change).await?;
    Ok(Next::Look(Duration::ZERO))
}

async fn void(
    engine: &Engine,
    table: &Table,
    latest: &Latest,
    reason: VoidReason,
) -> Result<Next, Failure> {
    finish(engine, table, latest, Ending::Void(reason)).await
}

async fn finish(
    engine: &Engine,
    table: &Table,
    latest: &Latest,
    ending: Ending,
) -> Result<Next, Failure> {
    match end(engine, &table.operator, latest.round, ending).await {
        Ok(()) => {}
        // The logs are still about to say where the commitment stands.
        Err(failure) if failure.code == Code::CommitmentNotPublished => {
            return Ok(Next::Look(limits::FLOOR_RETRY));
        }
        Err(failure) => return Err(failure),
    }
    let (state, refunds) = match ending {
        Ending::Settle => (RoundState::Settled, (0, 0)),
        Ending::Void(_) => {
            let session = engine.hands.session().await?;
            let refunds = floor::stakes(&*session, latest.round, &latest.jurisdictions).await?;
            (RoundState::Voided, refunds)
        }
    };
    engine.recovery.ended(latest.round, state, refunds);
    Ok(Next::Look(Duration::ZERO))
}
