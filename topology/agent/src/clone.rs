//! `clone`: an empty ledger node becomes a standby of another.
//!
//! Invariants: every copy is a new joining with a new name and a new slot, so it acknowledges nothing until `sync`
//! names it; a data directory is thrown away only when told so, never on the node that the record names as writer and
//! never without asking the record; the joining is remembered before the copy takes its place.
//! Deliberately absent: making the clone synchronous, which is its source's affair.

use std::path::Path;
use std::time::Duration;

use domicile_core::epoch::Lsn;
use domicile_core::ids::NodeId;
use domicile_topology::agent_api::{CloneAnswer, CloneRequest, StopMode, limits};
use domicile_topology::member::{JoinId, Member};
use domicile_topology::observed::NodeKind;

use crate::agent::Agent;
use crate::decide::{Authority, Disk};
use crate::error::Error;
use crate::memory::Joined;
use crate::settings::{self, Login, MAINTENANCE_DATABASE, SyncTarget};

impl Agent {
    /// Makes this node a standby of the source, unless it is one.
    pub async fn copy_from(&self, request: &CloneRequest) -> Result<CloneAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger {
            return Err(Error::State("a reader is not cloned: init it".to_owned()));
        }
        if request.source_node == self.config.node {
            return Err(Error::State("a node cannot be cloned from itself".to_owned()));
        }
        let joined = self.memory().joined.filter(|_| self.postmaster.disk() == Disk::Standby);
        let present = joined
            .filter(|joined| joined.source == request.source_node && !request.discard_existing);
        let cloned = present.is_none();
        let member = match present {
            Some(joined) => joined.member,
            None => self.copy_anew(request).await?,
        };
        self.remember(|memory| memory.wanted = true)?;
        self.start_permitted().await?;
        let control = self.tools.control_data(&self.config.postgres.data_dir).await?;
        let system_identifier = control.system_identifier.to_string();
        let replay_lsn = self.replay_lsn().await?;
        Ok(CloneAnswer { cloned, member, system_identifier, replay_lsn })
    }

    /// Copies the source and makes the copy the data directory, under a new joining.
    pub(crate) async fn copy_anew(&self, request: &CloneRequest) -> Result<Member, Error> {
        let occupied = self.postmaster.disk() != Disk::Absent;
        if occupied {
            self.may_discard(request).await?;
        }
        let join_id = JoinId::from_random(u64::from_be_bytes(self.ids.bytes()));
        let member = Member { node: self.config.node.clone(), join_id };
        self.write_configuration()?;
        let draft = self.draft_folder()?;
        if let Err(error) = self.base_backup(&request.source_node, &member, &draft).await {
            self.drop_slot_at(&request.source_node, &member).await;
            return Err(error);
        }
        let failed = |error| Error::step("put the data directory in place", error);
        std::fs::write(draft.join("standby.signal"), "").map_err(failed)?;
        if occupied {
            self.postmaster.stop(StopMode::Fast).await?;
            std::fs::remove_dir_all(&self.config.postgres.data_dir).map_err(failed)?;
        }
        let joined = Joined { source: request.source_node.clone(), member: member.clone() };
        self.remember(|memory| {
            memory.joined = Some(joined);
            memory.sync = SyncTarget::Closed;
            memory.primary_in = None;
        })?;
        self.adopt_draft(&draft)?;
        tracing::info!(source = %request.source_node, member = member.replication_name(), "cloned");
        Ok(member)
    }

    async fn may_discard(&self, request: &CloneRequest) -> Result<(), Error> {
        if !request.discard_existing {
            return Err(Error::State(format!(
                "the data directory is not a standby of {}: ask with discard_existing to replace it",
                request.source_node
            )));
        }
        match self.control.ask().await {
            Authority::Answered(Some(record)) if record.writer_node != self.config.node => Ok(()),
            Authority::Answered(_) => Err(Error::State(
                "the control record does not name another node as the writer".to_owned(),
            )),
            Authority::Away(_) => Err(Error::ControlAway("a database is not discarded without it")),
        }
    }

    async fn base_backup(&self, source: &NodeId, member: &Member, to: &Path) -> Result<(), Error> {
        let address = self.ledger_address(source)?;
        let tls = self.config.postgres.tls.as_ref();
        let name = member.replication_name();
        let login = Login::replication(&address, Some(&name));
        let conninfo = settings::conninfo(&login, &self.files.passfile, tls);
        let slot = member.slot_name();
        let args = [
            "--dbname".as_ref(),
            conninfo.as_ref(),
            "--pgdata".as_ref(),
            to.as_os_str(),
            "--create-slot".as_ref(),
            "--slot".as_ref(),
            slot.as_ref(),
            "--wal-method=stream".as_ref(),
            "--checkpoint=fast".as_ref(),
            "--no-password".as_ref(),
        ];
        let timeout = Duration::from_millis(limits::CLONE_TIMEOUT_MS);
        self.tools.run("pg_basebackup", args, timeout).await.map(drop)
    }

    // Left behind, the slot would hold the source's write-ahead log for ever.
    async fn drop_slot_at(&self, source: &NodeId, member: &Member) {
        let slot = member.slot_name();
        let sql = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
             where slot_name = '{slot}' and not active"
        );
        let dropped = async {
            let server = self.open_ledger(source).await?;
            server.run("drop the slot of a failed clone", &sql).await
        };
        if let Err(error) = dropped.await {
            tracing::warn!(slot, %source, %error, "a failed clone may have left its slot");
        }
    }

    async fn replay_lsn(&self) -> Result<Option<Lsn>, Error> {
        let step = "read the replay position";
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let sql = "select pg_last_wal_replay_lsn()::text";
        let text: Option<String> = server.optional::<Option<String>>(step, sql).await?.flatten();
        Ok(text.and_then(|text| Lsn::parse(&text).ok()))
    }
}
