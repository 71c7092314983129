//! `demote` and its undoing: the primary ends its term cleanly and waits as a standby that is not started.
//!
//! Invariants: only while a fresh record names this node at this epoch with writes closing; nothing is changed before
//! the writers have finished, or said nothing for a second and had their sessions ended; the end of the term is remembered before the data directory becomes a standby's, so that a
//! crash in between leaves a node that starts as nothing; a stop that is not clean is no demotion.
//! Deliberately absent: starting again, which is the new epoch's affair.

use std::collections::BTreeSet;

use domicile_topology::agent_api::{
    DemoteAnswer, DemoteRequest, Role, StopMode, UndoDemoteAnswer, UndoDemoteRequest,
};
use domicile_topology::observed::NodeKind;

use crate::access::Writer;
use crate::agent::Agent;
use crate::database::Session;
use crate::decide::Disk;
use crate::error::Error;
use crate::memory::{self, Demoted, Joined};
use crate::postmaster::Presence;
use crate::sessions;
use crate::settings::{MAINTENANCE_DATABASE, SyncTarget};
use crate::transfer::{may_demote, recorded_wait};

impl Agent {
    /// Ends this node's term as primary.
    pub async fn demote(&self, request: &DemoteRequest) -> Result<DemoteAnswer, Error> {
        let _turn = self.turn().await?;
        if self.config.kind != NodeKind::Ledger || request.source == self.config.node {
            return Err(Error::State("only a ledger node gives way, and to another".to_owned()));
        }
        let ended = self.memory().demoted.filter(|demoted| demoted.epoch == request.epoch);
        if let Some(ended) = ended {
            self.wait_as_standby(request, ended.clone())?;
            return Ok(answer(false, &ended, BTreeSet::new()));
        }
        may_demote(&self.config.node, request.epoch, self.control.ask().await)?;
        if self.role() != Role::Primary {
            return Err(Error::State("this node is a standby".to_owned()));
        }
        let mut silent = BTreeSet::new();
        if self.postmaster.presence() != Presence::Down {
            silent = self.finish_and_stop(request.drain_timeout_ms).await?;
        }
        let control = self.tools.control_data(&self.config.postgres.data_dir).await?;
        if !control.clean {
            self.start_permitted().await?;
            return Err(Error::State("postgres did not stop cleanly: it is primary again".into()));
        }
        let ended = Demoted {
            epoch: request.epoch,
            end_lsn: control.checkpoint_lsn,
            timeline: control.timeline,
        };
        self.wait_as_standby(request, ended.clone())?;
        tracing::info!(epoch = request.epoch.0, end_lsn = %ended.end_lsn, "demoted");
        Ok(answer(true, &ended, silent))
    }

    /// Makes this node primary again of the epoch that goes on.
    pub async fn undo_demote(
        &self,
        request: &UndoDemoteRequest,
    ) -> Result<UndoDemoteAnswer, Error> {
        let _turn = self.turn().await?;
        let record = self.named_for(request.epoch).await?;
        let waiting = self.memory().demoted.is_some();
        if !waiting && self.role() != Role::Primary {
            return Err(Error::State("this node was not demoted".to_owned()));
        }
        if waiting {
            self.postmaster.stop(StopMode::Fast).await?;
            self.unmark_standby()?;
            self.remember(|memory| {
                memory.demoted = None;
                memory.joined = None;
                memory.sync = recorded_wait(&record);
            })?;
        }
        let restored = self.start_permitted().await?;
        tracing::info!(epoch = request.epoch.0, restored, "the demotion is called off");
        Ok(UndoDemoteAnswer { restored })
    }

    // A request in the writer is several transactions, and between two of them no session is busy. A writer that closes
    // ends its sessions when the last request has ended.
    async fn finish_and_stop(&self, drain_timeout_ms: u64) -> Result<BTreeSet<String>, Error> {
        let server = self.open(MAINTENANCE_DATABASE).await?;
        let silent = sessions::until_finished(&server, drain_timeout_ms).await?;
        self.write_access_for(Writer::Refused)?;
        self.postmaster.reload();
        let senders = end_logical_senders(&server).await?;
        drop(server);
        self.postmaster.stop_cleanly(&senders).await?;
        Ok(silent)
    }

    fn wait_as_standby(&self, request: &DemoteRequest, ended: Demoted) -> Result<(), Error> {
        let joined = Joined { source: request.source.clone(), member: request.member.clone() };
        self.remember(|memory| {
            memory.joined = Some(joined);
            memory.demoted = Some(ended);
            memory.sync = SyncTarget::Closed;
        })?;
        self.mark_standby()
    }

    /// Makes the data directory a standby's, unless it is.
    pub(crate) fn mark_standby(&self) -> Result<(), Error> {
        if self.postmaster.disk() == Disk::Standby {
            return Ok(());
        }
        let marked = memory::replace(&self.postmaster.standby_signal(), b"");
        marked.map_err(|error| Error::step("make the data directory a standby's", error))
    }

    /// Makes the data directory a primary's, unless it is.
    pub(crate) fn unmark_standby(&self) -> Result<(), Error> {
        match std::fs::remove_file(self.postmaster.standby_signal()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::step("make the data directory a primary's", error))
            }
            _ => Ok(()),
        }
    }
}

fn answer(demoted: bool, ended: &Demoted, silent_writers: BTreeSet<String>) -> DemoteAnswer {
    let Demoted { end_lsn, timeline, .. } = *ended;
    DemoteAnswer { demoted, end_lsn, timeline, silent_writers }
}

// A reader that does not read would hold the stop up for as long as the server believes in it.
async fn end_logical_senders(server: &Session) -> Result<Vec<i32>, Error> {
    let sql = "select coalesce(json_agg(active_pid), '[]') from (select active_pid, \
               pg_terminate_backend(active_pid) from pg_replication_slots \
               where slot_type = 'logical' and active_pid is not null) s";
    Ok(server.json("end the readers' streams", sql).await?.unwrap_or_default())
}
