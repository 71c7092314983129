//! `checkpoint`, `slot` and `slots/drop`: what is prepared before the writer moves, and tidied after a reader left.
//!
//! Invariants: a member's slot keeps the write-ahead log from the moment it exists; only slots that belong to the named
//! reader are dropped. Deliberately absent: copying slots to a standby, which Postgres does.

use std::time::Duration;

use domicile_topology::agent_api::{
    CheckpointAnswer, DropSlotsAnswer, DropSlotsRequest, Role, SlotAnswer, SlotRequest, limits,
    subscription_name,
};
use domicile_topology::member::Member;
use domicile_topology::observed::NodeKind;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::settings::{DATABASE, MAINTENANCE_DATABASE};

/// Until a reader's stream has let go of its slot.
const RELEASE_TIMEOUT_MS: u64 = 10_000;
const POLL: Duration = Duration::from_millis(20);

impl Agent {
    /// Writes a checkpoint; on a standby, as far as its source's last one.
    pub async fn checkpoint(&self) -> Result<CheckpointAnswer, Error> {
        let _turn = self.turn().await?;
        let limit = Duration::from_millis(limits::OPERATION_TIMEOUT_MS);
        let server = self.open_limited(MAINTENANCE_DATABASE, limit).await?;
        server.run("checkpoint", "checkpoint").await?;
        let control = self.tools.control_data(&self.config.postgres.data_dir).await?;
        Ok(CheckpointAnswer { checkpoint_lsn: control.checkpoint_lsn })
    }

    /// Makes the slot that a future standby will stream from, unless it is there.
    pub async fn make_slot(&self, request: &SlotRequest) -> Result<SlotAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger || request.member.node == self.config.node {
            return Err(Error::State("a slot is made on a ledger node, for another".to_owned()));
        }
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let created = make_slot(&server, &request.member).await?;
        Ok(SlotAnswer { created })
    }

    /// Drops the slots of a reader's subscriptions.
    pub async fn drop_slots(&self, request: &DropSlotsRequest) -> Result<DropSlotsAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger || self.role() != Role::Primary {
            return Err(Error::State("readers' slots are dropped on the ledger's primary".into()));
        }
        let server = self.open(DATABASE).await?;
        let mut dropped = Vec::new();
        for jurisdiction in self.jurisdictions()? {
            let slot = subscription_name(&request.reader, &jurisdiction);
            if drop_subscription_slot(&server, &slot).await? {
                dropped.push(slot);
            }
        }
        tracing::info!(reader = %request.reader, ?dropped, "dropped slots");
        Ok(DropSlotsAnswer { dropped })
    }
}

/// Makes a member's slot; true if it was not there.
pub(crate) async fn make_slot(server: &Session, member: &Member) -> Result<bool, Error> {
    let present =
        format!("select true from pg_replication_slots where slot_name = '{}'", member.slot_name());
    let step = "make a member's slot";
    if server.optional::<bool>(step, &present).await?.is_some() {
        return Ok(false);
    }
    let sql = format!("select pg_create_physical_replication_slot('{}', true)", member.slot_name());
    server.run(step, &sql).await?;
    Ok(true)
}

async fn drop_subscription_slot(server: &Session, slot: &str) -> Result<bool, Error> {
    let step = "drop a reader's slot";
    let deadline = Instant::now() + Duration::from_millis(RELEASE_TIMEOUT_MS);
    let state = format!("select active from pg_replication_slots where slot_name = '{slot}'");
    loop {
        match server.optional::<bool>(step, &state).await? {
            None => return Ok(false),
            Some(false) => {
                let sql = format!("select pg_drop_replication_slot('{slot}')");
                server.run(step, &sql).await?;
                return Ok(true);
            }
            Some(true) => {}
        }
        if Instant::now() >= deadline {
            return Err(Error::Timeout { step, timeout_ms: RELEASE_TIMEOUT_MS });
        }
        let sql = format!(
            "select pg_terminate_backend(active_pid) from pg_replication_slots \
             where slot_name = '{slot}' and active_pid is not null"
        );
        server.run(step, &sql).await?;
        sleep(POLL).await;
    }
}
