//! The beat: a primary that lives writes something to its log four times a second.
//!
//! Silence of the stream then means something: without the beat an idle primary and a dead one look the same to those
//! who follow it, for as long as nobody writes. And the agent knows of its own Postgres: one that is frozen, or whose disk
//! hangs, answers no beat, while it would wait for no standby. Invariants: a beat commits nothing and waits for nobody; one
//! that hangs is left alone, and no second one starts beside it.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use domicile_topology::agent_api::Role;
use domicile_topology::observed::NodeKind;
use tokio::time::{Instant, MissedTickBehavior, interval};

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
        agent.await_beat();
        if !agent.leads() {
            session = None;
            continue;
        }
        match beat(&agent, session.take()).await {
            Ok(kept) => {
                agent.note_beat(Some(Instant::now()));
                session = Some(kept);
            }
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

impl Agent {
    fn note_beat(&self, at: Option<Instant>) {
        *self.beaten.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    // Whether this node's Postgres is to be primary now, as far as its agent is concerned.
    fn is_to_beat(&self) -> bool {
        let memory = self.memory();
        self.config.kind == NodeKind::Ledger
            && self.role() == Role::Primary
            && memory.wanted
            && memory.hold().is_none()
    }

    // The time without a beat counts from when there should be some.
    fn await_beat(&self) {
        let mut beaten = self.beaten.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_to_beat() {
            beaten.get_or_insert_with(Instant::now);
        } else {
            *beaten = None;
        }
    }

    /// How long Postgres, which is to be primary, has answered no beat, milliseconds.
    pub(crate) fn quiet_ms(&self) -> Option<u64> {
        let at = (*self.beaten.lock().unwrap_or_else(PoisonError::into_inner))?;
        let quiet = self.is_to_beat().then(|| at.elapsed());
        quiet.map(|quiet| u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX))
    }
}
