//! The agent's HTTP interface: requests and answers of `POST /v1/*`, shared by the agent and its callers.
//!
//! Every operation is idempotent: repeated, it observes that the work is done and says so. Answers carry what was
//! observed *after* the operation, so that an executor can check its postcondition without a second request.
//! Errors are problem documents with a code; none of these types is used for them.
//! Deliberately absent: the answer of `GET /v1/status`, which is the node status of the observed facts.

use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{Jurisdiction, NodeId};
use serde::{Deserialize, Serialize};

use crate::member::Member;

mod moves;

pub use moves::{
    AliveAnswer, CheckpointAnswer, CheckpointRequest, DemoteAnswer, DemoteRequest, DropSlotsAnswer,
    DropSlotsRequest, ObserveAnswer, ObserveRequest, OrphanBet, OrphanBetAnswer, OrphanBetRequest,
    OrphanGround, OrphanRound, OrphanTail, OrphanTotal, OrphanWin, OrphanWinsAnswer,
    OrphanWinsRequest, OrphansAnswer, PromoteAnswer, PromoteRequest, RejoinAnswer, RejoinRequest,
    Rejoined, SlotAnswer, SlotRequest, UndoDemoteAnswer, UndoDemoteRequest,
};

/// Paths of the operations, all `POST` unless it says `GET`.
pub mod paths {
    /// `GET`: what the agent observes of its node.
    pub const STATUS: &str = "/v1/status";
    /// Makes an empty node a database and starts it.
    pub const INIT: &str = "/v1/init";
    /// Makes an empty ledger node a standby of another.
    pub const CLONE: &str = "/v1/clone";
    /// Starts Postgres, if the control record permits.
    pub const START: &str = "/v1/start";
    /// Stops Postgres and keeps it stopped.
    pub const STOP: &str = "/v1/stop";
    /// Names the standby that every commit waits for.
    pub const SYNC: &str = "/v1/sync";
    /// Applies migrations, roles and publications.
    pub const MIGRATE: &str = "/v1/migrate";
    /// Opens the writer's epoch.
    pub const EPOCH_OPEN: &str = "/v1/epoch/open";
    /// Creates and repairs a reader's subscriptions.
    pub const SUBSCRIPTIONS: &str = "/v1/subscriptions";
    /// Writes a checkpoint.
    pub const CHECKPOINT: &str = "/v1/checkpoint";
    /// Makes a future standby's slot.
    pub const SLOT: &str = "/v1/slot";
    /// Drops a reader's slots.
    pub const SLOTS_DROP: &str = "/v1/slots/drop";
    /// Stops the primary cleanly and makes it a standby in waiting.
    pub const DEMOTE: &str = "/v1/demote";
    /// Calls a demotion off.
    pub const DEMOTE_UNDO: &str = "/v1/demote/undo";
    /// Makes the standby primary.
    pub const PROMOTE: &str = "/v1/promote";
    /// Makes a returned node a standby again.
    pub const REJOIN: &str = "/v1/rejoin";
    /// `GET`: the kept tails of former primaries.
    pub const ORPHANS: &str = "/v1/orphans";
    /// One lost bet out of the kept tails.
    pub const ORPHAN_BET: &str = "/v1/orphans/bet";
    /// Wins out of the kept tails.
    pub const ORPHAN_WINS: &str = "/v1/orphans/wins";
    /// `GET`: the agent's own sign of life.
    pub const ALIVE: &str = "/v1/alive";
    /// Says what can be seen of another node from here.
    pub const OBSERVE: &str = "/v1/observe";
}

/// The longest an operation runs before it answers, in milliseconds. Clone copies the whole database.
pub mod limits {
    /// Waiting for the previous operation of the same agent.
    pub const OPERATION_QUEUE_WAIT_MS: u64 = 2_000;
    /// `init`, `start`, `stop`, `sync`, `migrate`, `epoch/open`, `subscriptions`.
    pub const OPERATION_TIMEOUT_MS: u64 = 60_000;
    /// `clone` and `rejoin`.
    pub const CLONE_TIMEOUT_MS: u64 = 3_600_000;
    /// A request body, in bytes.
    pub const MAX_BODY_BYTES: usize = 16 * 1024;
    /// Bets whose wins are asked for at a time.
    pub const MAX_WIN_BETS: usize = 256;
}

/// How a running Postgres takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Takes writes: the ledger's primary, or a reader's own database.
    Primary,
    /// Replays another node's write-ahead log.
    Standby,
}

/// `POST /v1/init`: no parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {}

/// What `init` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitAnswer {
    /// The database was made now; false: it was there.
    pub created: bool,
    /// The role Postgres runs in.
    pub role: Role,
    /// Postgres' system identifier, equal on a ledger node and its clones.
    pub system_identifier: String,
}

/// `POST /v1/clone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneRequest {
    /// The ledger node to copy and to follow.
    pub source_node: NodeId,
    /// Throw away what is in the data directory. Refused while Postgres runs as primary, and for the node that the
    /// control record names as the writer.
    #[serde(default)]
    pub discard_existing: bool,
}

/// What `clone` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneAnswer {
    /// The copy was made now; false: this node already is a standby of the source, under the member named here.
    pub cloned: bool,
    /// The node and its join id, for `sync` and for the control record.
    pub member: Member,
    /// Postgres' system identifier.
    pub system_identifier: String,
    /// How far the standby has replayed.
    pub replay_lsn: Option<Lsn>,
}

/// `POST /v1/start`: no parameters. As what, the data directory and the control record decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {}

/// What `start` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAnswer {
    /// Started now; false: it ran already.
    pub started: bool,
    /// The role Postgres runs in.
    pub role: Role,
}

/// How Postgres is told to stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopMode {
    /// Ends the sessions, writes a checkpoint, lets the standbys receive it.
    #[default]
    Fast,
    /// Ends at once; the next start recovers as after a crash.
    Immediate,
}

/// `POST /v1/stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// How.
    #[serde(default)]
    pub mode: StopMode,
}

/// What `stop` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    /// Stopped now; false: it did not run.
    pub stopped: bool,
    /// The control file says that the shutdown was clean.
    pub clean: bool,
    /// The control file's latest checkpoint: after a clean stop, the end of the write-ahead log.
    pub checkpoint_lsn: Lsn,
    /// The control file's timeline.
    pub timeline: u32,
}

/// `POST /v1/sync`: the member every commit waits for, or nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncRequest {
    /// `None` turns the wait off; refused while the control record says `two` or *promotable*.
    pub member: Option<Member>,
}

/// What `sync` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// The configuration was changed now.
    pub changed: bool,
    /// The member commits wait for.
    pub member: Option<Member>,
    /// A position written after the member became `sync` …
    pub current_lsn: Lsn,
    /// … and what it has confirmed on disk by now: at or beyond `current_lsn`. `None` without a member.
    pub confirmed_lsn: Option<Lsn>,
}

/// `POST /v1/migrate`: no parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrateRequest {}

/// What `migrate` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateAnswer {
    /// Migrations applied now.
    pub applied: u32,
    /// The schema's version afterwards.
    pub schema_version: u32,
    /// The jurisdictions that have publications (ledger only).
    pub published: Vec<Jurisdiction>,
}

/// `POST /v1/epoch/open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochOpenRequest {
    /// The epoch to open; it must be the control record's.
    pub epoch: Epoch,
}

/// What `epoch/open` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochOpenAnswer {
    /// Opened now; false: it was open.
    pub opened: bool,
    /// The open epoch.
    pub epoch: Epoch,
}

/// `POST /v1/subscriptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionsRequest {
    /// Jurisdictions to copy anew: their rows here are deleted first. Never done unasked, because after a forced
    /// failover this replica may be the only holder of what the new writer must prove its log against.
    #[serde(default)]
    pub reseed: Vec<Jurisdiction>,
}

/// What `subscriptions` observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionsAnswer {
    /// The ledger node the subscriptions follow.
    pub publisher: NodeId,
    /// One entry per jurisdiction of this reader.
    pub subscriptions: Vec<SubscriptionOutcome>,
}

/// One subscription after the operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionOutcome {
    /// The jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The subscription's and its slot's name.
    pub name: String,
    /// What was done.
    pub action: SubscriptionAction,
}

/// What was done to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SubscriptionAction {
    /// It was right.
    Unchanged,
    /// Made, with a copy of the published rows.
    Created,
    /// Pointed to another ledger node.
    Repointed,
    /// Switched on again.
    Enabled,
    /// Deleted with its rows and made anew.
    Reseeded,
    /// Its slot on the ledger node is missing or invalidated: ask for a reseed once the log gate has passed.
    NeedsReseed,
    /// Removed, because the topology no longer gives this reader the jurisdiction.
    Removed,
}

/// The name of a reader's subscription to a jurisdiction, and of its replication slot.
pub fn subscription_name(reader: &NodeId, jurisdiction: &Jurisdiction) -> String {
    format!("sub_{}_{}", reader.as_str().replace('-', "_"), jurisdiction.slug())
}
