//! Carries out wins and rollbacks, and rolls back bets that were left alone.
//!
//! Takes what is due, per operator no more than its wallet has places, and asks each wallet side by side. Invariants:
//! the taking is durable before a wallet is asked, and moves the due time on, so that a process that ends leaves its
//! transactions to be taken again; a wallet whose breaker is open is left alone until its probe; when the engine
//! closes nothing new is taken and calls under way are dropped – whoever comes next makes them again.

use super::line::{Line, Places};
use crate::answer::Failure;
use crate::engine::Engine;
use crate::lane::JobError;
use crate::ledger::wallet_jobs::{self, Claimed, End};
use crate::limits;
use domicile_core::error::Code;
use domicile_core::ids::OperatorId;
use domicile_core::wallet::Call;
use domicile_core::wallet::answer::Answer;
use domicile_core::wallet::job::{JobState, Next, next};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Works until the engine closes or is gone.
pub async fn run(engine: Weak<Engine>) {
    let (mut recovered, mut read, mut shown) = (false, Instant::now(), None::<Instant>);
    loop {
        let Some(here) = engine.upgrade() else { return };
        let more = async {
            if !recovered {
                recover(&here).await?;
                recovered = true;
            }
            if read.elapsed() >= limits::WALLETS_MAX_AGE {
                refresh(&here).await?;
                read = Instant::now();
            }
            if shown.is_none_or(|shown| shown.elapsed() >= limits::WALLET_SHOW_PAUSE) {
                show(&here).await?;
                shown = Some(Instant::now());
            }
            round(&here).await
        };
        let more = match here.unless_closing(more).await {
            None => return,
            Some(Ok(more)) => more,
            Some(Err(failure)) => {
                tracing::warn!(code = %failure.code, "due wallet transactions were not taken");
                false
            }
        };
        if !more {
            let pause = tokio::time::sleep(limits::WALLET_POLL);
            let rest = async {
                tokio::select! { () = pause => {}, () = here.money.woken() => {} }
            };
            if here.unless_closing(rest).await.is_none() {
                return;
            }
        }
    }
}

async fn recover(engine: &Engine) -> Result<(), Failure> {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let left = wallet_jobs::recover(&tx, engine.epoch).await?;
    tx.commit(limits::COMMIT_WAIT).await?;
    engine.recovery.wallet_jobs(left);
    tracing::info!(epoch = %engine.epoch, left, "wins and rollbacks of earlier processes are taken up");
    Ok(())
}

async fn refresh(engine: &Engine) -> Result<(), Failure> {
    let session = engine.hands.session().await?;
    let read = engine.money.book.refresh(&*session).await;
    read.map_err(|error| Failure::because(Code::Internal, &error))
}

/// Shows what waits, and where the breakers stand.
async fn show(engine: &Engine) -> Result<(), Failure> {
    let session = engine.hands.session().await?;
    let waiting = wallet_jobs::waiting(&*session).await?;
    drop(session);
    for line in engine.money.book.lines() {
        line.show();
        for call in Call::ALL {
            let operator = line.settings.operator.as_str();
            let of = |state: &str| {
                let mine = waiting.iter().find(|row| {
                    row.operator == operator && row.call == call.as_str() && row.state == state
                });
                mine.map_or((0, 0), |row| (row.count, row.oldest_s))
            };
            let labels =
                [("endpoint", call.as_str().to_owned()), ("operator", operator.to_owned())];
            let ((pending, oldest_s), (dead, _)) = (of("pending"), of("dead"));
            metrics::gauge!("pending_wallet_jobs", &labels).set(gauge(pending));
            metrics::gauge!("domicile_writer_wallet_oldest_seconds", &labels).set(gauge(oldest_s));
            metrics::gauge!("domicile_writer_wallet_dead_jobs", &labels).set(gauge(dead));
        }
    }
    Ok(())
}

fn gauge(count: i64) -> f64 {
    f64::from(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Takes what is due and begins it; says whether there may be more.
async fn round(engine: &Arc<Engine>) -> Result<bool, Failure> {
    let lines = engine.money.book.lines();
    let places: Vec<(OperatorId, usize)> = lines
        .iter()
        .map(|line| (line.settings.operator.clone(), line.free_places()))
        .filter(|(_, places)| *places > 0)
        .collect();
    if places.is_empty() {
        return Ok(false);
    }
    let longest = lines.iter().map(|line| line.lease()).max().unwrap_or_default();
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let claimed = wallet_jobs::claim(&tx, engine.epoch, &places, longest).await?;
    if claimed.is_empty() {
        tx.rollback().await?;
        return Ok(false);
    }
    tx.commit(limits::COMMIT_WAIT).await?;
    drop(session);
    let free: usize = places.iter().map(|(_, places)| places).sum();
    let more = claimed.len() >= free;
    for claimed in claimed {
        let Some(line) =
            lines.iter().find(|line| line.settings.operator == claimed.transaction.operator)
        else {
            continue;
        };
        tokio::spawn(carry_out(Arc::clone(engine), Arc::clone(line), claimed));
    }
    Ok(more)
}

async fn carry_out(engine: Arc<Engine>, line: Arc<Line>, claimed: Claimed) {
    let id = claimed.transaction.id;
    let Some(Some(end)) = engine.unless_closing(attempt(&engine, &line, &claimed)).await else {
        return;
    };
    let dead = end.state == JobState::Dead;
    match engine.money.end(end).await {
        Ok(_durable) => {
            if dead {
                let call = claimed.transaction.call.as_str();
                tracing::error!(%id, call, answer = end.answer, "a wallet transaction needs a person");
            }
            engine.money.wake();
        }
        // Another process was faster, or the outcome is unknown: either way the row says how it goes on.
        Err(JobError::Raced) => {}
        Err(JobError::Failed(failure)) => {
            tracing::warn!(%id, code = %failure.code, "a wallet's answer was not recorded; it is asked for again");
        }
    }
}

/// One call, or for a bet that was left alone its end; `None` where the wallet takes no call now.
async fn attempt(engine: &Engine, line: &Line, claimed: &Claimed) -> Option<End> {
    let transaction = &claimed.transaction;
    let end = |state, answer: Answer, pause| End {
        id: transaction.id,
        state,
        answer: answer.as_str(),
        pause,
    };
    if transaction.call == Call::Bet {
        return Some(end(JobState::Undone, Answer::None, Duration::ZERO));
    }
    let admission = line.admit(Places::Jobs).await?;
    let (answer, meaning) = line.ask(admission, transaction).await;
    let random = u64::from_be_bytes(engine.ids.bytes());
    let so_far = (claimed.attempts, claimed.age);
    Some(match next(transaction.call, meaning, line.retry(), so_far, random) {
        Next::End(state) => end(state, answer, Duration::ZERO),
        Next::Undo => end(JobState::Undone, answer, Duration::ZERO),
        Next::Again(pause) => end(JobState::Pending, answer, pause),
    })
}
