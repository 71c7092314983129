//! Gives the chains of ended sessions, and rounds that a forced move has cut off, their terminal leaf: every commitment
//! gets one.
//!
//! A chain whose session was revoked or has expired is closed once its commitment is sequenced. The sweep
//! takes the session's turn, so it never meets a play; the chain's row decides anyway.

use crate::admin::suspension;
use crate::answer::Failure;
use crate::chain::{self, CloseError};
use crate::engine::Engine;
use crate::floor;
use crate::ledger::WriteError;
use crate::ledger::chains::{self, EndedSession};
use crate::limits;
use domicile_core::error::Code;
use domicile_core::leaf::CloseReason;
use std::sync::Weak;

/// Sweeps until the engine is gone.
pub async fn run(engine: Weak<Engine>) {
    loop {
        tokio::time::sleep(limits::SWEEP_PAUSE).await;
        let Some(engine) = engine.upgrade() else { return };
        if let Err(failure) = sweep(&engine).await {
            tracing::warn!(code = %failure.code, "the sweep for ended sessions was cut short");
        }
        if let Err(failure) = suspension::sweep(&engine).await {
            tracing::warn!(code = %failure.code, "the sweep for suspended games was cut short");
        }
        if let Err(failure) = floor::void_cut(&engine).await {
            tracing::warn!(code = %failure.code, "the sweep for rounds that were cut off was cut short");
        }
    }
}

/// Closes the chains of some ended sessions; says how many sessions.
pub async fn sweep(engine: &Engine) -> Result<usize, Failure> {
    let session = engine.hands.session().await?;
    let before = engine.clock.now_unix_s().saturating_sub(limits::SESSION_CLOSE_MARGIN_S);
    let ended = chains::ended_sessions(&session, before, limits::SWEEP_CHAINS).await?;
    drop(session);
    let mut closed = 0;
    for session in &ended {
        // One chain that cannot be closed must not keep the others open.
        match close(engine, session).await {
            Ok(()) => closed += 1,
            Err(failure) => {
                tracing::warn!(session = %session.id, code = %failure.code, "a chain was not closed");
            }
        }
    }
    Ok(closed)
}

async fn close(engine: &Engine, ended: &EndedSession) -> Result<(), Failure> {
    let turn = engine.sessions.exclusive(&ended.id).await;
    let _turn = turn.map_err(|_crowded| Failure::new(Code::WriterOverloaded))?;
    let reason = if ended.revoked { CloseReason::Revoked } else { CloseReason::Expired };
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let of = (&ended.jurisdiction, ended.id);
    let secrets = (&*engine.keys, &engine.ids);
    match chain::close_of_session(&tx, engine.epoch, of, reason, secrets).await {
        Ok(0) => {}
        Ok(_) => {
            tx.commit(limits::COMMIT_WAIT).await?;
            engine.wake([&ended.jurisdiction]);
        }
        Err(CloseError::Write(WriteError::Shortfall)) => {
            return Err(Failure::new(Code::EpochFenced));
        }
        Err(CloseError::Write(WriteError::Database(error))) => return Err(error.into()),
        Err(CloseError::Seed(failure)) => return Err(failure),
    }
    Ok(())
}
