//! `start` and `stop`.
//!
//! Invariant: after `stop` Postgres stays down, also across the agent's restarts, until somebody starts it.

use domicile_topology::agent_api::{StartAnswer, StopAnswer, StopRequest};

use crate::agent::Agent;
use crate::decide::{Disk, Refusal};
use crate::error::Error;

impl Agent {
    /// Starts Postgres, if the control record permits.
    pub async fn start(&self) -> Result<StartAnswer, Error> {
        let _turn = self.turn().await?;
        let started = self.start_permitted().await?;
        self.remember(|memory| memory.wanted = true)?;
        Ok(StartAnswer { started, role: self.role() })
    }

    /// Stops Postgres and keeps it stopped.
    pub async fn stop(&self, request: &StopRequest) -> Result<StopAnswer, Error> {
        let _turn = self.turn().await?;
        if self.postmaster.disk() == Disk::Absent {
            return Err(Refusal::NoData.into());
        }
        self.remember(|memory| memory.wanted = false)?;
        let stopped = self.postmaster.stop(request.mode).await?;
        let control = self.tools.control_data(&self.config.postgres.data_dir).await?;
        tracing::info!(stopped, clean = control.clean, "postgres is down on request");
        Ok(StopAnswer {
            stopped,
            clean: control.clean,
            checkpoint_lsn: control.checkpoint_lsn,
            timeline: control.timeline,
        })
    }
}
