//! Bringing a diverged node back: compare histories, keep what only it has, rewind once, else copy anew.
//!
//! `pg_rewind` must never run twice on the same data: the second run would make a node that looks like a standby and
//! never replays. Invariants: nothing is thrown away before the tail is kept; the rewind is remembered before it begins,
//! and one found unfinished is not repeated; the node counts as back only when it streams.

use std::time::Duration;

use domicile_core::epoch::Epoch;
use domicile_core::ids::NodeId;
use domicile_topology::agent_api::{OrphanTail, RejoinAnswer, Rejoined, limits};
use domicile_topology::record::Record;
use serde::Deserialize;

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::history::History;
use crate::init::strip_configuration;
use crate::memory::Returning;
use crate::postmaster::YIELD_TIMEOUT;
use crate::settings::{Login, REWIND_ROLE, conninfo};

#[derive(Debug, Deserialize)]
struct Present {
    timeline: u32,
    history: String,
}

impl Agent {
    /// Comes back with a history that may have parted from the new primary's. Call with the turn held.
    pub(crate) async fn compare_and_return(&self, record: &Record) -> Result<RejoinAnswer, Error> {
        let source = &record.writer_node;
        let history = self.source_history(source).await?;
        self.postmaster.stop_within(YIELD_TIMEOUT).await?;
        let own = self.tools.control_data(&self.config.postgres.data_dir).await?;
        let fork = history.fork_of(own.timeline);
        let touched = self.memory().returning == Some(Returning::Apart);
        if own.clean && !touched && fork.is_some_and(|fork| own.checkpoint_lsn < fork) {
            tracing::info!(end_lsn = %own.checkpoint_lsn, "nothing here that the new primary lacks");
            self.join_anew(source).await?;
            return self.follow_as_joined(source).await;
        }
        let apart = self.start_apart().await?;
        let epoch = self.memory().primary_in.unwrap_or(Epoch(0));
        let remote = self.to_compare_with(source).await;
        let kept = match &remote {
            Ok((remote, private)) => {
                let others = (remote, private.as_ref());
                self.keep_orphans(&apart.session, others, epoch, fork).await
            }
            Err(_) => Ok(None),
        };
        apart.stop().await?;
        drop(remote?);
        self.replace(source, fork.is_some(), kept?).await
    }

    // A primary of an earlier build admits nobody to what is not published; what it keeps back is named in the tail. One
    // that only does not answer now is asked again: what is not compared is gone with the data.
    async fn to_compare_with(&self, source: &NodeId) -> Result<(Session, Option<Session>), Error> {
        let remote = self.open_ledger(source).await?;
        match self.open_private(source).await {
            Ok(private) => Ok((remote, Some(private))),
            Err(error) if grants_keys(&remote).await? => Err(error),
            Err(error) => {
                tracing::warn!(%error, "compared in part only");
                Ok((remote, None))
            }
        }
    }

    async fn replace(
        &self,
        source: &NodeId,
        rewindable: bool,
        orphans: Option<OrphanTail>,
    ) -> Result<RejoinAnswer, Error> {
        if rewindable {
            let rewound = async {
                self.rewind(source).await?;
                self.follow_as_joined(source).await
            };
            match rewound.await {
                Ok(answer) => {
                    return Ok(RejoinAnswer { how: Rejoined::Rewound, orphans, ..answer });
                }
                Err(error) => tracing::warn!(%error, "the rewind did not help: copying anew"),
            }
        }
        self.copy_and_follow(source, orphans).await
    }

    async fn rewind(&self, source: &NodeId) -> Result<(), Error> {
        self.join_anew(source).await?;
        let address = self.ledger_address(source)?;
        let tls = self.config.postgres.tls.as_ref();
        self.write_configuration()?;
        let from = conninfo(&Login::rewind(&address), &self.files.passfile, tls);
        let data = &self.config.postgres.data_dir;
        let args = [
            "--target-pgdata".as_ref(),
            data.as_os_str(),
            "--source-server".as_ref(),
            from.as_ref(),
            // It was stopped cleanly; if not, a rewind of its own making is the wrong remedy.
            "--no-ensure-shutdown".as_ref(),
        ];
        self.remember(|memory| memory.returning = Some(Returning::Rewinding))?;
        let timeout = Duration::from_millis(limits::CLONE_TIMEOUT_MS);
        self.tools.run("pg_rewind", args, timeout).await?;
        let failed = |error| Error::step("strip the rewound data of settings", error);
        strip_configuration(data).map_err(failed)?;
        self.mark_standby()?;
        self.remember(|memory| {
            memory.demoted = None;
            memory.primary_in = None;
            memory.returning = Some(Returning::Settling);
        })
    }

    async fn source_history(&self, source: &NodeId) -> Result<History, Error> {
        let server = self.open_rewind_source(source).await?;
        let recovering = "select pg_is_in_recovery()";
        if server.optional("look at the new primary", recovering).await?.unwrap_or(true) {
            return Err(Error::State(format!("{source} is not primary yet")));
        }
        Ok(read_timeline(&server).await?.1)
    }
}

// Whether the ledger's schema lets the rewind's role read the keys of what is not published.
async fn grants_keys(remote: &Session) -> Result<bool, Error> {
    let sql = format!(
        "select coalesce(has_any_column_privilege(to_regrole('{REWIND_ROLE}')::oid, \
         to_regclass('ledger.request')::oid, 'select'), false)"
    );
    Ok(remote.optional("look who may compare", &sql).await?.unwrap_or(false))
}

/// A primary's timeline and its history.
pub(crate) async fn read_timeline(server: &Session) -> Result<(u32, History), Error> {
    let step = "read the timeline";
    let sql = "select json_build_object('timeline', ('x' || t)::bit(32)::int, 'history', \
               case when t = '00000001' then '' else \
               convert_from(pg_read_binary_file('pg_wal/' || t || '.history'), 'UTF8') end) \
               from (select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as t) w";
    let present: Option<Present> = server.json(step, sql).await?;
    let present = present.ok_or_else(|| Error::step(step, "no answer"))?;
    let history = History::parse(&present.history);
    let history = history.ok_or_else(|| Error::step(step, "its history is unreadable"))?;
    Ok((present.timeline, history))
}
