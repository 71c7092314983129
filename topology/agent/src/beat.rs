//! The beat: a primary that lives writes something to its log four times a second.
//!
//! Silence of the stream then means something: without the beat an idle primary and a dead one look the same to those
//! who follow it, for as long as nobody writes. Invariants: a beat commits nothing and waits for nobody; one that hangs
//! is left alone, and no second one starts beside it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::settings::MAINTENANCE_DATABASE;

/// Time between beats: silence is judged after a few of them.
const PERIOD: Duration = Duration::from_millis(250);
/// How long a hanging beat is left alone before its connection is given up.
const LEFT_ALONE: Duration = Duration::from_hours(24);
/// Not transactional and flushed: on its way to every follower at once.
const BEAT: &str = "select pg_logical_emit_message(false, 'domicile.beat', '', true)";

/// Beats for as long as the agent lives.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = None;
    loop {
        tick.tick().await;
        if !agent.leads() {
            session = None;
            continue;
        }
        match beat(&agent, session.take()).await {
            Ok(kept) => session = Some(kept),
            Err(error) => tracing::debug!(%error, "no beat"),
        }
    }
}

async fn beat(agent: &Agent, session: Option<Session>) -> Result<Session, Error> {
    let session = match session.filter(Session::is_open) {
        Some(session) => session,
        None => agent.open_limited(MAINTENANCE_DATABASE, LEFT_ALONE).await?,
    };
    session.run("beat", BEAT).await?;
    Ok(session)
}
