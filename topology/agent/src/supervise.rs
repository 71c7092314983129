//! Keeping Postgres running: a killed server is started again, if it still may be.
//!
//! Invariants: a restart asks the control record like every start; attempts are spaced by a growing delay, and never
//! run beside an operation. Deliberately absent: database connections, which could hang.

use std::sync::Arc;
use std::time::Duration;

use domicile_service::drain::Drain;
use domicile_topology::agent_api::StopMode;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::postmaster::Presence;

/// How often the server is looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// Delay after the first failed attempt; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// The longest delay between attempts.
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Supervises until the process leaves.
pub async fn run(agent: Arc<Agent>, drain: Drain) {
    let mut backoff = Backoff::default();
    while !drain.has_begun() {
        let memory = agent.memory();
        let wanted = memory.wanted && memory.hold().is_none();
        if wanted && agent.postmaster.presence() == Presence::Down && backoff.due() {
            backoff.attempted(agent.restart().await);
        }
        sleep(PERIOD).await;
    }
}

/// Stops Postgres at the agent's end, if configured; the next agent starts it again.
pub async fn leave(agent: &Agent) {
    if !agent.config.postgres.stop_on_exit {
        tracing::info!("leaving postgres running");
        return;
    }
    // A running operation gets its bounded chance to end first.
    let _turn = agent.turn().await;
    match agent.postmaster.stop(StopMode::Fast).await {
        Ok(true) => tracing::info!("postgres stopped"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "postgres does not stop"),
    }
}

impl Agent {
    // True when there is nothing more to do for now.
    async fn restart(&self) -> bool {
        let Some(_turn) = self.idle_turn() else { return true };
        let memory = self.memory();
        if !memory.wanted || memory.hold().is_some() || self.postmaster.presence() != Presence::Down
        {
            return true;
        }
        let crashed = self.seen_up();
        match self.start_permitted().await {
            Ok(_) => {
                if crashed {
                    self.count_restart();
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "postgres is down and stays down for now");
                false
            }
        }
    }
}

#[derive(Debug, Default)]
struct Backoff {
    delay: Option<Duration>,
    not_before: Option<Instant>,
}

impl Backoff {
    fn due(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    fn attempted(&mut self, done: bool) {
        if done {
            *self = Self::default();
            return;
        }
        let delay = self.delay.map_or(FIRST_DELAY, |delay| (delay * 2).min(LONGEST_DELAY));
        *self = Self { delay: Some(delay), not_before: Some(Instant::now() + delay) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_and_bounded() {
        let mut backoff = Backoff::default();
        assert!(backoff.due());
        let mut waited = Vec::new();
        for _ in 0..8 {
            backoff.attempted(false);
            let begun = Instant::now();
            while !backoff.due() {
                sleep(Duration::from_millis(10)).await;
            }
            waited.push(begun.elapsed());
        }
        assert!(waited.is_sorted() && waited[0] >= FIRST_DELAY && waited[7] <= LONGEST_DELAY);
        backoff.attempted(true);
        assert!(backoff.due());
    }
}
