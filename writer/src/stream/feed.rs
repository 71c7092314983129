//! Looks at the ledger for those who watch, and tells them what is new.
//!
//! Invariants: a look that found something new is followed by one inside a transaction whose commit waits for the second
//! region, and what that one saw is told; while the engine does not serve, nothing is, and when it ends every stream
//! ends with it, so that clients come back to whoever writes now.

use super::events::{self, Event};
use super::hub::Hub;
use crate::answer::Failure;
use crate::engine::Engine;
use crate::ledger::rounds_seen::{self, RoundSeen, Timed, View};
use crate::limits;
use crate::service::Service;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// What was told last.
type Told = HashMap<View, Vec<RoundSeen>>;

/// Feeds those who watch until the engine closes or is gone.
pub async fn run(service: Arc<Service>, engine: Weak<Engine>) {
    let hub = &service.streams;
    let (mut told, mut beat, mut checked) = (Told::new(), Instant::now(), Instant::now());
    loop {
        let Some(here) = engine.upgrade() else { break };
        let look = async {
            if beat.elapsed() >= limits::STREAM_BEAT {
                hub.beat();
                beat = Instant::now();
            }
            if checked.elapsed() >= limits::STREAM_CHECK {
                check(hub, &here).await?;
                checked = Instant::now();
            }
            look(hub, &here, &mut told).await
        };
        match here.unless_closing(look).await {
            None => break,
            Some(Ok(())) => {}
            Some(Err(failure)) => {
                tracing::warn!(code = %failure.code, "streams were not fed");
            }
        }
        let pause = if hub.views().is_empty() { limits::STREAM_BEAT } else { limits::STREAM_LOOK };
        let rest = async {
            tokio::select! { () = hub.came() => {}, () = tokio::time::sleep(pause) => {} }
        };
        if here.unless_closing(rest).await.is_none() {
            break;
        }
    }
    hub.end_all("writer-moved");
}

/// Ends streams that may no longer be.
async fn check(hub: &Hub, engine: &Engine) -> Result<(), Failure> {
    let sessions = hub.sessions();
    if sessions.is_empty() {
        return Ok(());
    }
    let session = engine.hands.session().await?;
    let revoked = rounds_seen::revoked(&*session, &sessions).await?;
    hub.end_revoked(&revoked, engine.clock.now_unix_s());
    Ok(())
}

/// Tells what is new.
async fn look(hub: &Hub, engine: &Engine, told: &mut Told) -> Result<(), Failure> {
    let views = hub.views();
    told.retain(|view, _| views.contains(view));
    if views.is_empty() {
        return Ok(());
    }
    let newest = limits::STREAM_HISTORY_ROUNDS;
    let mut session = engine.hands.session().await?;
    let seen = rounds_seen::seen(&*session, &views, newest, &engine.keys).await?;
    let is_new = |view: &View, rounds: &[Timed]| {
        let before = told.get(view).map_or(&[][..], Vec::as_slice);
        !rounds.iter().map(|(round, _)| round).eq(before)
    };
    // Who has come since is told what the others know already.
    if !hub.is_unfed() && !views.iter().zip(&seen).any(|(view, rounds)| is_new(view, rounds)) {
        return Ok(());
    }
    let tx = session.begin().await?;
    let seen = rounds_seen::seen(&tx, &views, newest, &engine.keys).await?;
    tx.commit(limits::COMMIT_WAIT).await?;
    if !engine.tenure.holds() {
        return Ok(());
    }
    for (view, rounds) in views.into_iter().zip(seen) {
        let news: Vec<Event> = rounds.iter().flat_map(events::of_round).collect();
        let first = rounds.last().map_or(0, |(round, _)| events::before(round.ordinal));
        hub.tell(&view, first, &news);
        told.insert(view, rounds.into_iter().map(|(round, _)| round).collect());
    }
    Ok(())
}
