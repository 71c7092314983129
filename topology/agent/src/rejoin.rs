//! `rejoin`: a ledger node that the record does not name becomes a standby of the one it does.
//!
//! Invariants: only on a fresh record that names another node; a node that handed over starts as it is, one that went
//! another way is compared first; each step that must not be repeated is remembered before it begins; slots of the
//! former role are gone before copies of the new primary's slots are taken.
//! Deliberately absent: making the standby synchronous, which is its source's affair.

use std::time::Duration;

use domicile_core::ids::NodeId;
use domicile_topology::agent_api::{CloneRequest, OrphanTail, RejoinAnswer, Rejoined, StopMode};
use domicile_topology::member::{JoinId, Member};
use domicile_topology::observed::NodeKind;
use domicile_topology::record::Record;
use tokio::time::{Instant, sleep};

use crate::agent::Agent;
use crate::decide::{Authority, Disk};
use crate::error::Error;
use crate::memory::{Joined, Returning};
use crate::postmaster::Presence;
use crate::settings::{MAINTENANCE_DATABASE, SyncTarget};
use crate::slots::make_slot;
use crate::transfer::{Manner, TransferRefusal, manner};

/// Until a started standby streams.
const STREAM_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

impl Agent {
    /// Makes this node a standby of the writer's node, unless it is.
    pub async fn rejoin(&self) -> Result<RejoinAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger {
            return Err(Error::State("a reader follows by its subscriptions".to_owned()));
        }
        let record = match self.control.ask().await {
            Authority::Answered(Some(record)) => record,
            Authority::Answered(None) => return Err(TransferRefusal::NoRecord.into()),
            Authority::Away(_) => return Err(TransferRefusal::Away.into()),
        };
        if record.writer_node == self.config.node {
            let (epoch, node) = (record.epoch, record.writer_node);
            return Err(TransferRefusal::NotNamed { epoch, node }.into());
        }
        self.remember(|memory| memory.wanted = true)?;
        self.return_to(&record).await
    }

    /// Comes back as a standby of the node that the record names. Call with the turn held.
    pub(crate) async fn return_to(&self, record: &Record) -> Result<RejoinAnswer, Error> {
        let source = &record.writer_node;
        match manner(self.postmaster.disk(), &self.memory(), record) {
            Manner::Follow => self.follow_as_joined(source).await,
            Manner::Refollow => {
                self.join_anew(source).await?;
                self.postmaster.stop(StopMode::Fast).await?;
                self.follow_as_joined(source).await
            }
            Manner::Compare => Box::pin(self.compare_and_return(record)).await,
            Manner::Clone => self.copy_and_follow(source, None).await,
        }
    }

    /// Starts under the joining that is remembered, and waits until it streams.
    pub(crate) async fn follow_as_joined(&self, source: &NodeId) -> Result<RejoinAnswer, Error> {
        let memory = self.memory();
        let running = matches!(self.postmaster.presence(), Presence::Up(_));
        let settled = memory.demoted.is_none() && memory.returning.is_none();
        if settled && running && self.streams().await? {
            return self.returned(Rejoined::Unchanged, None);
        }
        if !settled {
            self.remember(|memory| {
                memory.demoted = None;
                memory.returning = Some(Returning::Settling);
            })?;
        }
        self.mark_standby()?;
        self.start_permitted().await?;
        if !self.until_streaming().await? {
            return self.without_stream(source).await;
        }
        self.settle().await?;
        self.returned(Rejoined::Started, None)
    }

    // A standby whose slot the source does not have, or no longer serves, can never stream again. Anything else passes.
    async fn without_stream(&self, source: &NodeId) -> Result<RejoinAnswer, Error> {
        let joined = self.memory().joined;
        let joined = joined.ok_or_else(|| Error::State("this node has joined nobody".into()))?;
        let usable = format!(
            "select invalidation_reason is null and wal_status is distinct from 'lost' \
             from pg_replication_slots where slot_name = '{}'",
            joined.member.slot_name()
        );
        let server = self.open_ledger(source).await?;
        if server.optional::<bool>("look for the slot", &usable).await?.unwrap_or(false) {
            let message = format!("postgres runs and does not stream from {source}");
            return Err(Error::State(message));
        }
        tracing::warn!(%source, "the source keeps no log for this joining: copying anew");
        Box::pin(self.copy_and_follow(source, None)).await
    }

    /// Copies the source anew, whatever is here, and follows it.
    pub(crate) async fn copy_and_follow(
        &self,
        source: &NodeId,
        orphans: Option<OrphanTail>,
    ) -> Result<RejoinAnswer, Error> {
        self.remember(|memory| memory.returning = Some(Returning::Cloning))?;
        let request = CloneRequest { source_node: source.clone(), discard_existing: true };
        self.copy_anew(&request).await?;
        self.remember(|memory| {
            memory.demoted = None;
            memory.returning = Some(Returning::Settling);
        })?;
        let answer = self.follow_as_joined(source).await?;
        Ok(RejoinAnswer { how: Rejoined::Cloned, orphans, ..answer })
    }

    /// Makes a new joining: its slot at the source first, then the memory of it.
    pub(crate) async fn join_anew(&self, source: &NodeId) -> Result<Member, Error> {
        let join_id = JoinId::from_random(u64::from_be_bytes(self.ids.bytes()));
        let member = Member { node: self.config.node.clone(), join_id };
        make_slot(&self.open_ledger(source).await?, &member).await?;
        let joined = Joined { source: source.clone(), member: member.clone() };
        self.remember(|memory| {
            memory.joined = Some(joined);
            memory.sync = SyncTarget::Closed;
            memory.returning = Some(Returning::Settling);
        })?;
        Ok(member)
    }

    pub(crate) fn returned(
        &self,
        how: Rejoined,
        orphans: Option<OrphanTail>,
    ) -> Result<RejoinAnswer, Error> {
        let joined = self.memory().joined.filter(|_| self.postmaster.disk() == Disk::Standby);
        let joined = joined.ok_or_else(|| Error::State("this node has joined nobody".into()))?;
        tracing::info!(?how, source = %joined.source, "rejoined");
        Ok(RejoinAnswer { how, source: joined.source, member: joined.member, orphans })
    }

    async fn streams(&self) -> Result<bool, Error> {
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let sql = "select exists (select from pg_stat_wal_receiver where status = 'streaming')";
        Ok(server.optional("look at the stream", sql).await?.unwrap_or(false))
    }

    /// Waits until the standby streams; false when it does not.
    pub(crate) async fn until_streaming(&self) -> Result<bool, Error> {
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let sql = "select exists (select from pg_stat_wal_receiver where status = 'streaming')";
        let deadline = Instant::now() + STREAM_TIMEOUT;
        while Instant::now() < deadline {
            if server.optional::<bool>("look at the stream", sql).await?.unwrap_or(false) {
                return Ok(true);
            }
            sleep(POLL).await;
        }
        Ok(false)
    }

    // The worker that copies slots refuses all as long as one of the same name was made here; slots of standbys that
    // followed this node would keep its write-ahead log for nobody.
    async fn settle(&self) -> Result<(), Error> {
        if self.memory().returning.is_none() {
            return Ok(());
        }
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
                   where not active and ((slot_type = 'logical' and not synced) \
                   or (slot_type = 'physical' and starts_with(slot_name, 'phys_')))";
        server.run("drop slots of the former role", sql).await?;
        self.remember(|memory| memory.returning = None)?;
        if self.write_role(true)? {
            self.postmaster.reload();
        }
        Ok(())
    }
}
