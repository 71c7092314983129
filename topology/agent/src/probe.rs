//! The write probe: once a second a real write on the primary, to see what a writer would see.
//!
//! Invariants: a probe that takes too long is reported as failed and left alone – never cancelled, and no second one
//! starts beside it; it has a connection and a table of its own, and blocks nothing but itself.
//! A hung disk and a missing sync standby both show here, where a `select 1` stays green.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use domicile_topology::observed::Probe;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::settings::DATABASE;

/// Time between probes.
const PERIOD: Duration = Duration::from_secs(1);
/// A probe that is not acknowledged by then has failed.
pub(crate) const DEADLINE: Duration = Duration::from_millis(900);
/// How long an unacknowledged probe is left alone before its connection is given up. A new one each time would fill
/// the server with sessions that wait.
const LEFT_ALONE: Duration = Duration::from_hours(24);

// Rows are keyed by the server process, so that a probe stuck in the wait for the standby locks no other's row;
// rows of dead processes are removed when a new connection is made, unless somebody still holds them.
const PREPARE: &str = "
    create schema if not exists agent;
    create table if not exists agent.probe (pid int primary key, at timestamptz not null) with (fillfactor = 50);
    delete from agent.probe where pid in (
        select pid from agent.probe p where not exists (select from pg_stat_activity a where a.pid = p.pid)
        for update skip locked)";
const WRITE: &str = "insert into agent.probe (pid, at) values (pg_backend_pid(), clock_timestamp()) \
                     on conflict (pid) do update set at = excluded.at";

/// Probes for as long as the agent lives.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = None;
    loop {
        tick.tick().await;
        if !agent.leads() {
            session = None;
            agent.note_probe(None);
            continue;
        }
        let begun = Instant::now();
        let mut write = std::pin::pin!(write(&agent, session.take()));
        let result = match timeout(DEADLINE, &mut write).await {
            Ok(result) => result,
            Err(_elapsed) => {
                agent.note_probe(Some(measured(false, begun)));
                write.await
            }
        };
        let in_time = begun.elapsed() <= DEADLINE;
        match result {
            Ok(kept) => {
                agent.note_probe(Some(measured(in_time, begun)));
                session = Some(kept);
            }
            Err(error) => {
                tracing::debug!(%error, "the write probe failed");
                agent.note_probe(Some(measured(false, begun)));
            }
        }
    }
}

async fn write(agent: &Agent, session: Option<Session>) -> Result<Session, Error> {
    let session = match session {
        Some(session) if session.is_open() => session,
        _ => {
            let session = agent.open_limited(DATABASE, LEFT_ALONE).await?;
            session.run("prepare the probe", PREPARE).await?;
            session
        }
    };
    session.run("probe", WRITE).await?;
    Ok(session)
}

fn measured(ok: bool, begun: Instant) -> Probe {
    Probe { ok, latency_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

impl Agent {
    fn note_probe(&self, probe: Option<Probe>) {
        if let Some(probe) = probe {
            metrics::gauge!("domicile_agent_probe_ok").set(if probe.ok { 1.0 } else { 0.0 });
            let seconds = Duration::from_millis(probe.latency_ms).as_secs_f64();
            metrics::histogram!("domicile_agent_probe_seconds").record(seconds);
        }
        *self.probe.lock().unwrap_or_else(PoisonError::into_inner) = probe;
    }
}
