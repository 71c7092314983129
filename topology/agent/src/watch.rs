//! Looking at the node once a second: metrics, readiness, warnings, renewed certificates, and nudging slots towards
//! readiness.
//!
//! A slot copied to a standby becomes usable only after the primary has logged its running transactions and the
//! standby's copying worker has looked again; left alone that takes a minute, and a failover meanwhile loses the
//! slot. So the primary logs them each second for a while after a standby or a reader came or went, and the
//! standby restarts its worker.
//! Invariant: what is seen is reported, never repaired by force – but for the one walsender that every commit waits for,
//! which has a watchdog of its own.

use std::sync::Arc;
use std::time::Duration;

use domicile_service::health::Check;
use domicile_topology::observed::{NodeKind, NodeStatus, PostgresState, SlotStatus};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::agent::Agent;
use crate::certificates::Certificates;
use crate::error::Error;
use crate::settings::DATABASE;
use crate::watchdog::Watchdog;

const PERIOD: Duration = Duration::from_secs(1);
/// Postgres starts its copying worker at most once in 10 s: asking more often is useless.
const EAGER_NUDGE: Duration = Duration::from_secs(11);
/// Eager restarts of the worker before it is left to itself more: a slot whose reader is away never gets ready.
const EAGER_NUDGES: u32 = 10;
/// Time between the later restarts.
const LATER_NUDGE: Duration = Duration::from_mins(5);
/// How long the primary logs running transactions each second after a standby or a reader came or went; later
/// Postgres' own pace suffices.
const SNAPSHOTS_FOR: Duration = Duration::from_mins(2);
/// How long copying is switched off for the worker to notice.
const WORKER_PAUSE: Duration = Duration::from_millis(300);

/// Watches for as long as the agent lives.
pub(crate) async fn run(agent: Arc<Agent>, check: Check) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut nudge, mut company) = (Nudge::default(), Company::default());
    let mut certificates = Certificates::new(agent.config.postgres.tls.clone());
    let mut watchdog = Watchdog::default();
    let mut stalled_before = 0;
    loop {
        tick.tick().await;
        if certificates.renewed() {
            agent.postmaster.reload();
            tracing::info!("postgres takes the renewed certificates");
        }
        let status = agent.status().await;
        report(&status, &check);
        let stalled = status.postgres.stalled.len();
        if stalled > stalled_before {
            tracing::warn!(processes = ?status.postgres.stalled, "stopped processes of postgres");
        }
        stalled_before = stalled;
        if let Err(error) = agent.guard_stream(&status, &mut watchdog).await {
            tracing::debug!(%error, "the standby's stream is not looked at now");
        }
        if let Err(error) = agent.help_slots(&status, &mut nudge, &mut company).await {
            tracing::debug!(%error, "slots are not nudged now");
        }
    }
}

fn report(status: &NodeStatus, check: &Check) {
    let up = matches!(status.postgres.state, PostgresState::Primary | PostgresState::Standby);
    if up {
        check.pass("postgres answers");
    } else {
        let reason = status.postgres.refusal.as_deref().unwrap_or("see the status");
        check.fail(format!("postgres is {:?}: {reason}", status.postgres.state));
    }
    let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
    let primary = status.postgres.state == PostgresState::Primary;
    let synchronous = status.replication.iter().filter(|standby| standby.is_synchronous()).count();
    let unready = status.slots.iter().filter(|slot| !slot.ready).count();
    metrics::gauge!("domicile_agent_postgres_up").set(flag(up));
    metrics::gauge!("domicile_agent_postgres_primary").set(flag(primary));
    metrics::gauge!("domicile_agent_sync_standbys").set(gauge(synchronous));
    metrics::gauge!("domicile_agent_slots_unready").set(gauge(unready));
    metrics::gauge!("domicile_agent_stalled_processes").set(gauge(status.postgres.stalled.len()));
    for standby in &status.replication {
        if let (Some(member), Some(lag_bytes)) = (&standby.member, standby.lag_bytes) {
            let node = member.node.to_string();
            metrics::gauge!("domicile_agent_standby_lag_bytes", "standby" => node)
                .set(gauge(lag_bytes));
        }
    }
    for slot in status.slots.iter().filter(|slot| is_subscription(slot)) {
        if let Some(lag_bytes) = slot.lag_bytes {
            let name = slot.name.clone();
            metrics::gauge!("domicile_agent_slot_lag_bytes", "slot" => name).set(gauge(lag_bytes));
        }
    }
    for subscription in &status.subscriptions {
        let name = subscription.name.clone();
        metrics::gauge!("domicile_agent_subscription_apply_errors", "subscription" => name)
            .set(gauge(subscription.apply_errors));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; beyond 8 PiB nobody counts bytes"
)]
fn gauge(number: impl TryInto<u64>) -> f64 {
    number.try_into().unwrap_or(u64::MAX) as f64
}

/// Who is connected to a primary, and since when it is the same.
#[derive(Debug, Default)]
struct Company {
    slots: Vec<(String, bool)>,
    since: Option<Instant>,
}

impl Company {
    // True for a while after a slot came, went, or was taken up or left by its standby or reader.
    fn is_new(&mut self, status: &NodeStatus) -> bool {
        let slots: Vec<_> =
            status.slots.iter().map(|slot| (slot.name.clone(), slot.active)).collect();
        if slots != self.slots {
            *self = Self { slots, since: Some(Instant::now()) };
        }
        let recent = self.since.is_some_and(|since| since.elapsed() < SNAPSHOTS_FOR);
        recent && status.slots.iter().any(is_subscription)
    }
}

/// When the copying worker is restarted next.
#[derive(Debug, Default)]
struct Nudge {
    waiting_since: Option<Instant>,
    made: u32,
}

impl Nudge {
    // True when it is time; readiness starts the count anew.
    fn due(&mut self, unready: bool) -> bool {
        if !unready {
            *self = Self::default();
            return false;
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let delay = if self.made < EAGER_NUDGES { EAGER_NUDGE } else { LATER_NUDGE };
        let due = since.elapsed() >= delay;
        if due {
            *self = Self { waiting_since: Some(Instant::now()), made: self.made + 1 };
        }
        due
    }
}

impl Agent {
    async fn help_slots(
        &self,
        status: &NodeStatus,
        nudge: &mut Nudge,
        company: &mut Company,
    ) -> Result<(), Error> {
        if self.config.kind != NodeKind::Ledger {
            return Ok(());
        }
        match status.postgres.state {
            PostgresState::Primary if company.is_new(status) => {
                let server = self.open(DATABASE).await?;
                server.run("log running transactions", "select pg_log_standby_snapshot()").await
            }
            PostgresState::Standby => {
                let unready = |slot: &SlotStatus| is_subscription(slot) && !slot.ready;
                if nudge.due(status.slots.iter().any(unready)) {
                    self.restart_slot_worker().await?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn restart_slot_worker(&self) -> Result<(), Error> {
        let Some(_turn) = self.idle_turn() else { return Ok(()) };
        self.write_role(false)?;
        self.postmaster.reload();
        sleep(WORKER_PAUSE).await;
        self.write_role(true)?;
        self.postmaster.reload();
        tracing::info!("restarted the worker that copies slots");
        Ok(())
    }
}

fn is_subscription(slot: &SlotStatus) -> bool {
    slot.confirmed_flush_lsn.is_some() || slot.synced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nudges_get_rarer_until_the_slots_are_ready() {
        let mut nudge = Nudge::default();
        let mut at = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(500) {
            if nudge.due(true) {
                at.push(begun.elapsed().as_secs());
            }
            sleep(PERIOD).await;
        }
        assert_eq!(at, [11, 22, 33, 44, 55, 66, 77, 88, 99, 110, 410]);
        assert!(!nudge.due(false));
        sleep(EAGER_NUDGE).await;
        assert!(!nudge.due(true), "counted anew");
    }
}
