//! What a node's agent reports about its Postgres: facts, without judgement.
//!
//! Invariants: what could not be observed is `None` or absent, never a default that looks like a fact;
//! positions order things, no wall clock does.
//! Deliberately absent: personal data and secrets. A status is shown to operators and kept in reports.

use crate::member::Member;
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything one agent knows about its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its region.
    pub region: RegionId,
    /// What kind of database it runs.
    pub kind: NodeKind,
    /// The database server.
    pub postgres: PostgresStatus,
    /// Standbys connected to this server, if it is a primary.
    pub replication: Vec<StandbyStatus>,
    /// Replication slots on this server.
    pub slots: Vec<SlotStatus>,
    /// Subscriptions of this server, if it is a reader.
    pub subscriptions: Vec<SubscriptionStatus>,
    /// The highest epoch opened here.
    pub epoch_open: Option<Epoch>,
    /// The last write probe of a primary.
    pub probe: Option<Probe>,
    /// The logs held here, by jurisdiction.
    pub log: BTreeMap<Jurisdiction, LogStatus>,
    /// The applied schema version.
    pub schema_version: Option<u32>,
}

/// What kind of database a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// The global ledger: primary or standby.
    Ledger,
    /// A reader database.
    Reader,
}

/// The state of one Postgres server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresStatus {
    /// Running or not, and as what.
    pub state: PostgresState,
    /// Server version, such as `18.4`.
    pub version: Option<String>,
    /// The cluster's system identifier; equal for a primary and its clones only.
    pub system_identifier: Option<String>,
    /// The timeline it is on.
    pub timeline: Option<u32>,
    /// Primary: the current write position. Standby: the last position received and flushed.
    pub lsn: Option<Lsn>,
    /// Standby: the last position replayed.
    pub replay_lsn: Option<Lsn>,
    /// Standby: whether its WAL receiver is streaming.
    pub receiving: Option<bool>,
    /// Standby: the member it presents itself as to its upstream.
    pub member: Option<Member>,
    /// Standby: the node it is configured to follow.
    pub source: Option<NodeId>,
    /// Standby: time since anything arrived from its upstream, milliseconds on the agent's own clock.
    pub silence_ms: Option<u64>,
    /// Primary: sessions of the writer's role that are not idle.
    pub writer_sessions: Option<u32>,
    /// Primary: the member named in `synchronous_standby_names`.
    pub sync_member: Option<Member>,
    /// Primary: sessions that wait for the sync member's confirmation.
    pub sync_waiters: Option<u32>,
    /// How often the agent restarted it after a crash.
    pub restarts: u64,
    /// Why the agent does not start it.
    pub refusal: Option<String>,
    /// Replication processes that exist and do not run.
    pub stalled: Vec<StalledProcess>,
}

/// A replication process that was stopped, not ended: it holds its connection open and moves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StalledProcess {
    /// What it calls itself: `walsender …`, `walreceiver …`, a session.
    pub process: String,
    /// Its process id.
    pub pid: u32,
}

/// Whether Postgres runs, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostgresState {
    /// There is no data directory.
    Absent,
    /// There is one, and no server runs on it.
    Stopped,
    /// The server runs and does not take connections yet.
    Starting,
    /// Runs, not in recovery.
    Primary,
    /// Runs in recovery.
    Standby,
    /// A server process exists but does not answer in time.
    Unreachable,
}

/// A standby as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyStatus {
    /// Its replication name.
    pub name: String,
    /// The member that name means, if it is one.
    pub member: Option<Member>,
    /// `startup`, `catchup`, `streaming`, `backup` or `stopping`.
    pub state: String,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: String,
    /// The last position it confirmed as flushed.
    pub flush_lsn: Option<Lsn>,
    /// Distance from the primary's write position to `flush_lsn`, bytes.
    pub lag_bytes: Option<u64>,
    /// Flush lag as the primary measured it, milliseconds; `None` when idle.
    pub lag_ms: Option<u64>,
}

/// A replication slot.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, as Postgres reports them")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// The slot's name.
    pub name: String,
    /// On a standby: copied from the primary.
    pub synced: bool,
    /// A copy that is not safe to use yet.
    pub temporary: bool,
    /// Why the slot can no longer be used.
    pub invalidation_reason: Option<String>,
    /// Whether somebody streams from it.
    pub active: bool,
    /// What the subscriber confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// Distance from the server's position to `confirmed_flush_lsn`, bytes.
    pub lag_bytes: Option<u64>,
    /// Synced, not temporary, not invalidated: fit to go on from after a promotion.
    pub ready: bool,
}

/// A subscription of a reader database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionStatus {
    /// The subscription's name.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The last position received.
    pub received_lsn: Option<Lsn>,
    /// The last position reported back to the publisher.
    pub latest_end_lsn: Option<Lsn>,
    /// Time since the publisher was last heard, milliseconds.
    pub lag_ms: Option<u64>,
    /// Whether every table has finished its initial copy.
    pub tables_ready: bool,
    /// How often applying failed since the statistics were reset.
    pub apply_errors: u64,
}

/// The outcome of a real write on a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Whether it was acknowledged in time.
    pub ok: bool,
    /// How long it took, or the deadline when it failed, milliseconds.
    pub latency_ms: u64,
}

/// How far a jurisdiction's log reaches on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Which of its log epochs.
    pub log_epoch: u32,
    /// Number of leaves.
    pub size: u64,
    /// Size of the latest checkpoint.
    pub checkpoint_size: u64,
}

impl NodeStatus {
    /// The standby with this identity, if it is connected.
    pub fn standby(&self, member: &Member) -> Option<&StandbyStatus> {
        self.replication.iter().find(|standby| standby.member.as_ref() == Some(member))
    }
}

impl StandbyStatus {
    /// Whether the primary waits for this standby's flush before it acknowledges.
    pub fn is_synchronous(&self) -> bool {
        self.state == "streaming" && self.sync_state == "sync"
    }
}
