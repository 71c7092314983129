//! Following the control plane: what a node does by itself when the record or the topology changes.
//!
//! Invariants: a primary that a fresh record no longer names stops, and comes back as a standby; a reader's existing subscriptions point to the
//! node the record names; access rules follow the topology. Nothing here makes or deletes data.

use std::sync::Arc;
use std::time::Duration;

use domicile_topology::agent_api::Role;
use domicile_topology::observed::NodeKind;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::comeback::Attempts;
use crate::decide::{Authority, must_yield};
use crate::error::Error;
use crate::postmaster::{Presence, YIELD_TIMEOUT};

/// The longest time between two looks, should a change go unnoticed.
const PERIOD: Duration = Duration::from_secs(2);

/// Follows for as long as the agent lives.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut attempts = Attempts::default();
    loop {
        // Elapsed or changed: both mean to look again.
        drop(timeout(PERIOD, agent.control.changed()).await);
        if matches!(agent.postmaster.presence(), Presence::Up(_))
            && let Err(error) = agent.follow().await
        {
            tracing::warn!(%error, "cannot follow the control plane for now");
        }
        agent.come_back(&mut attempts).await;
    }
}

impl Agent {
    async fn follow(&self) -> Result<(), Error> {
        let Some(turn) = self.idle_turn() else { return Ok(()) };
        let rules = self.write_access()?;
        let role = self.write_role(true)?;
        if rules || role {
            self.postmaster.reload();
        }
        match (self.config.kind, self.role()) {
            (NodeKind::Ledger, Role::Primary) => self.stay_or_yield().await,
            (NodeKind::Ledger, Role::Standby) => Ok(()),
            (NodeKind::Reader, _) => {
                let followed = self.follow_publisher().await;
                drop(turn);
                followed
            }
        }
    }

    async fn stay_or_yield(&self) -> Result<(), Error> {
        let authority = self.control.ask().await;
        if must_yield(&self.config.node, &authority) {
            tracing::warn!("the control record names another writer: stopping postgres");
            return self.postmaster.stop_within(YIELD_TIMEOUT).await.map(drop);
        }
        match authority {
            Authority::Answered(Some(record)) => {
                self.remember(|memory| memory.primary_in = Some(record.epoch))
            }
            Authority::Answered(None) | Authority::Away(_) => Ok(()),
        }
    }
}
