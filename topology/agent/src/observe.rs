//! The node's status: what `GET /v1/status` answers, and what metrics and readiness are made of.
//!
//! Invariants: a server that does not answer in time is *unreachable*, and everything only it could tell is absent;
//! callers share one observation, so that many of them cost no more than one, but none sees one that began before the
//! last operation ended. Positions and the server's own intervals
//! only: no clock of one machine is compared with another's.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::Jurisdiction;
use domicile_topology::agent_api::Role;
use domicile_topology::member::Member;
use domicile_topology::observed::{
    LogStatus, NodeKind, NodeStatus, PostgresState, PostgresStatus, SlotStatus, StalledProcess,
    StandbyStatus, SubscriptionStatus,
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::database::Session;
use crate::decide::Disk;
use crate::error::Error;
use crate::postmaster::Presence;
use crate::process;
use crate::settings::{DATABASE, SyncTarget};

/// A statement of an observation.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one observation serves further callers.
const SHARED_FOR: Duration = Duration::from_millis(20);

/// Observations: the connection they are made on, and the latest.
#[derive(Default)]
pub(crate) struct Observer {
    session: Option<Session>,
    latest: Option<(Instant, u64, NodeStatus)>,
}

const SERVER: &str = "
select json_build_object(
  'in_recovery', r.recovering,
  'version', split_part(current_setting('server_version'), ' ', 1),
  'system_identifier', (select system_identifier::text from pg_control_system()),
  'timeline', case when r.recovering
    then coalesce((select received_tli from pg_stat_wal_receiver), (select timeline_id from pg_control_checkpoint()))
    else ('x' || substr(pg_walfile_name(r.position), 1, 8))::bit(32)::int end,
  'lsn', r.position::text,
  'replay_lsn', case when r.recovering then pg_last_wal_replay_lsn()::text end,
  'receiving', case when r.recovering
    then exists (select from pg_stat_wal_receiver where status = 'streaming') end,
  'sync_waiters', case when not r.recovering
    then (select count(*) from pg_stat_activity where wait_event = 'SyncRep') end,
  'writer_sessions', case when not r.recovering
    then (select count(*) from pg_stat_activity where usename = 'domicile_writer' and state is distinct from 'idle') end,
  'has_schema', exists (select from pg_tables where schemaname = 'log' and tablename = 'checkpoint'),
  'replication', (select coalesce(json_agg(s), '[]') from (
    select application_name as name, state, sync_state, flush_lsn::text as flush_lsn,
      greatest(pg_wal_lsn_diff(r.position, flush_lsn), 0)::bigint as lag_bytes,
      (extract(epoch from flush_lag) * 1000)::bigint as lag_ms
    from pg_stat_replication where not r.recovering
      and pid not in (select active_pid from pg_replication_slots where slot_type = 'logical' and active_pid is not null)
    order by application_name) s),
  'slots', (select coalesce(json_agg(s), '[]') from (
    select slot_name as name, coalesce(synced, false) as synced, temporary, invalidation_reason, active,
      confirmed_flush_lsn::text as confirmed_flush_lsn,
      greatest(pg_wal_lsn_diff(r.position, coalesce(confirmed_flush_lsn, restart_lsn)), 0)::bigint as lag_bytes,
      invalidation_reason is null and case when r.recovering
        then coalesce(failover and synced and not temporary, false) else active end as ready
    from pg_replication_slots order by slot_name) s),
  'subscriptions', (select coalesce(json_agg(s), '[]') from (
    select sub.subname as name, sub.subenabled as enabled, st.received_lsn::text as received_lsn,
      st.latest_end_lsn::text as latest_end_lsn,
      greatest(extract(epoch from clock_timestamp() - st.last_msg_receipt_time) * 1000, 0)::bigint as lag_ms,
      not exists (select from pg_subscription_rel rel where rel.srsubid = sub.oid and rel.srsubstate <> 'r')
        as tables_ready,
      coalesce(stats.apply_error_count, 0) as apply_errors
    from pg_subscription sub
    left join pg_stat_subscription st on st.subid = sub.oid and st.worker_type = 'apply'
    left join pg_stat_subscription_stats stats on stats.subid = sub.oid
    where sub.subdbid = (select oid from pg_database where datname = current_database())
    order by sub.subname) s))
from (select recovering, case when recovering then coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
        else pg_current_wal_lsn() end as position
      from (select pg_is_in_recovery() as recovering) q) r";

#[derive(Debug, Deserialize)]
struct Server {
    in_recovery: bool,
    version: String,
    system_identifier: String,
    timeline: Option<u32>,
    lsn: Option<Lsn>,
    replay_lsn: Option<Lsn>,
    receiving: Option<bool>,
    sync_waiters: Option<u32>,
    writer_sessions: Option<u32>,
    has_schema: bool,
    replication: Vec<Standby>,
    slots: Vec<SlotStatus>,
    subscriptions: Vec<SubscriptionStatus>,
}

#[derive(Debug, Deserialize)]
struct Standby {
    name: String,
    state: String,
    sync_state: String,
    flush_lsn: Option<Lsn>,
    lag_bytes: Option<u64>,
    lag_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Ledger {
    epoch_open: Option<Epoch>,
    log: BTreeMap<Jurisdiction, LogStatus>,
    schema_version: Option<u32>,
}

impl Agent {
    /// What can be observed of the node now.
    pub async fn status(&self) -> NodeStatus {
        let mut observer = self.observer.lock().await;
        let operations = self.operations.load(Ordering::Acquire);
        if let Some((at, seen_after, status)) = &observer.latest
            && (at.elapsed() < SHARED_FOR && *seen_after == operations)
        {
            return status.clone();
        }
        let status = self.observe(&mut observer.session).await;
        observer.latest = Some((Instant::now(), operations, status.clone()));
        status
    }

    async fn observe(&self, session: &mut Option<Session>) -> NodeStatus {
        let mut status = self.outside_view();
        if !matches!(self.postmaster.presence(), Presence::Up(_)) {
            *session = None;
            return status;
        }
        match self.ask_server(session.take()).await {
            Ok((kept, server, ledger)) => {
                *session = Some(kept);
                fill(&mut status, server, ledger);
            }
            Err(error) => {
                tracing::debug!(%error, "postgres does not answer");
                status.postgres.state = PostgresState::Unreachable;
            }
        }
        status
    }

    // What can be told without the server.
    fn outside_view(&self) -> NodeStatus {
        let memory = self.memory();
        let standby = self.role() == Role::Standby;
        let state = match (self.postmaster.disk(), self.postmaster.presence()) {
            (Disk::Absent, _) => PostgresState::Absent,
            (_, Presence::Down) => PostgresState::Stopped,
            (_, Presence::Busy(_) | Presence::Up(_)) => PostgresState::Starting,
        };
        let joined = memory.joined.filter(|_| standby);
        let postgres = PostgresStatus {
            state,
            version: None,
            system_identifier: None,
            timeline: None,
            lsn: None,
            replay_lsn: None,
            receiving: None,
            source: joined.clone().map(|joined| joined.source),
            silence_ms: self.silence_ms().filter(|_| standby),
            writer_sessions: None,
            member: joined.map(|joined| joined.member),
            sync_member: match memory.sync {
                SyncTarget::Member(member) if !standby => Some(member),
                _ => None,
            },
            sync_waiters: None,
            restarts: self.restarts.load(Ordering::Relaxed),
            refusal: self.trouble().or_else(|| self.refusal().map(|refusal| refusal.to_string())),
            stalled: self.stalled(),
        };
        NodeStatus {
            node: self.config.node.clone(),
            region: self.config.region.clone(),
            kind: self.config.kind,
            postgres,
            replication: Vec::new(),
            slots: Vec::new(),
            subscriptions: Vec::new(),
            epoch_open: None,
            probe: *self.probe.lock().unwrap_or_else(PoisonError::into_inner),
            log: BTreeMap::new(),
            schema_version: None,
        }
    }

    fn stalled(&self) -> Vec<StalledProcess> {
        let stalled = self.postmaster.stalled().into_iter().map(|process| StalledProcess {
            process: process::title(process.pid),
            pid: process.pid.as_raw_nonzero().get().unsigned_abs(),
        });
        stalled.collect()
    }

    async fn ask_server(
        &self,
        session: Option<Session>,
    ) -> Result<(Session, Server, Ledger), Error> {
        let step = "observe postgres";
        let session = match session.filter(Session::is_open) {
            Some(session) => session,
            None => self.open_limited(DATABASE, OBSERVE_TIMEOUT).await?,
        };
        let server: Option<Server> = session.json(step, SERVER).await?;
        let server = server.ok_or_else(|| Error::step(step, "no answer"))?;
        let ledger = if server.has_schema {
            session.json(step, &self.ledger_query()).await?.unwrap_or_default()
        } else {
            Ledger::default()
        };
        Ok((session, server, ledger))
    }

    // By jurisdiction, each through the primary key: counting leaves would read them all.
    fn ledger_query(&self) -> String {
        let codes = self.jurisdictions().unwrap_or_default();
        let codes: Vec<String> = codes.iter().map(|code| format!("'{code}'")).collect();
        let epoch = match self.config.kind {
            NodeKind::Ledger => "(select max(epoch) from ledger.epoch)",
            NodeKind::Reader => "null::bigint",
        };
        format!(
            "select json_build_object(
               'epoch_open', {epoch},
               'schema_version', {SCHEMA_VERSION},
               'log', (select coalesce(json_object_agg(j.code, json_build_object(
                   'log_epoch', l.log_epoch, 'size', l.size, 'checkpoint_size', coalesce(c.size, 0))), '{{}}')
                 from unnest(array[{codes}]::text[]) as j(code)
                 cross join lateral (select log_epoch, idx + 1 as size from log.leaf
                   where jurisdiction = j.code order by log_epoch desc, idx desc limit 1) l
                 left join lateral (select size from log.checkpoint
                   where jurisdiction = j.code and log_epoch = l.log_epoch order by size desc limit 1) c on true))",
            codes = codes.join(",")
        )
    }
}

const SCHEMA_VERSION: &str = domicile_migrations::VERSION_SQL;

fn fill(status: &mut NodeStatus, server: Server, ledger: Ledger) {
    let postgres = &mut status.postgres;
    postgres.state =
        if server.in_recovery { PostgresState::Standby } else { PostgresState::Primary };
    postgres.version = Some(server.version);
    postgres.system_identifier = Some(server.system_identifier);
    postgres.timeline = server.timeline;
    postgres.lsn = server.lsn;
    postgres.replay_lsn = server.replay_lsn;
    postgres.receiving = server.receiving;
    postgres.sync_waiters = server.sync_waiters;
    postgres.writer_sessions = server.writer_sessions;
    status.replication = server.replication.into_iter().map(standby).collect();
    status.slots = server.slots;
    status.subscriptions = server.subscriptions;
    status.epoch_open = ledger.epoch_open;
    status.log = ledger.log;
    status.schema_version = ledger.schema_version;
}

fn standby(seen: Standby) -> StandbyStatus {
    StandbyStatus {
        member: Member::from_replication_name(&seen.name),
        name: seen.name,
        state: seen.state,
        sync_state: seen.sync_state,
        flush_lsn: seen.flush_lsn,
        lag_bytes: seen.lag_bytes,
        lag_ms: seen.lag_ms,
    }
}
