//! The steps of plans: the only things an executor can do.
//!
//! Every step is idempotent: run again, it observes that its work is done. What a step learns (a join id, a position)
//! is in its journal entry, where later steps find it. Steps that touch a node go through that node's agent.

use crate::document::Durability;
use crate::member::Member;
use crate::record::{Beginning, DegradedBy, Record, Writes};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
    /// What the executor does when it fails or takes too long.
    pub on_failure: Undo,
}

/// What follows a step's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// The plan stops there; run again, it goes on from this step.
    Stop,
    /// The move is called off: a demotion is undone, writes are opened again, the plan ends as refused.
    CallOff,
    /// The failure is noted and the plan goes on: the step serves one reader, or speed.
    GoOn,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// A checkpoint on the node, so that what follows is short. `POST /v1/checkpoint`
    Checkpoint {
        /// Where.
        node: NodeId,
    },
    /// The slot that `member` will stream from, made on `node`. `POST /v1/slot`
    Slot {
        /// Where.
        node: NodeId,
        /// For whom.
        member: Member,
    },
    /// A change of the control record, by compare-and-set.
    Record {
        /// Which.
        change: RecordChange,
    },
    /// The primary drains, stops cleanly and waits as a standby. `POST /v1/demote`
    Demote {
        /// Which.
        node: NodeId,
        /// The epoch that ends.
        epoch: Epoch,
        /// Whom it will follow.
        source: NodeId,
        /// As what.
        member: Member,
        /// How long the writer may take to finish, milliseconds.
        drain_timeout_ms: u64,
    },
    /// `node` has replayed the end position that the demotion of `demoted` answered. `GET /v1/status`
    AwaitReplay {
        /// Which.
        node: NodeId,
        /// Whose end position.
        demoted: NodeId,
    },
    /// Every lease of a writer of an epoch before this one has ended, by time or because it was given back.
    AwaitLeaseEnd {
        /// The new epoch.
        epoch: Epoch,
    },
    /// The writers of the region that hold leases answer under them only, in this epoch.
    AwaitLeaseEnforced {
        /// The writer's region.
        region: RegionId,
        /// The epoch.
        epoch: Epoch,
    },
    /// The standby becomes primary. `POST /v1/promote`
    Promote {
        /// Which.
        node: NodeId,
        /// Of which epoch.
        epoch: Epoch,
    },
    /// The node becomes a standby of the writer's node. `POST /v1/rejoin`
    Rejoin {
        /// Which.
        node: NodeId,
    },
    /// Every commit on `node` waits for `standby`, under the member that standby states now. `POST /v1/sync`
    Sync {
        /// The primary.
        node: NodeId,
        /// Whom it waits for.
        standby: NodeId,
    },
    /// Commits on `node` wait for nobody; sessions of writers without a lease are ended before. `POST /v1/sync`
    SyncOff {
        /// The primary.
        node: NodeId,
    },
    /// The epoch is open in the ledger and the writer may log in. `POST /v1/epoch/open`
    OpenEpoch {
        /// The primary.
        node: NodeId,
        /// Which epoch.
        epoch: Epoch,
    },
    /// The writer of the region says that it serves the epoch.
    AwaitWriter {
        /// Where.
        region: RegionId,
        /// Which epoch.
        epoch: Epoch,
    },
    /// Copies of these readers' slots on the standby are ready to go on from after a promotion.
    AwaitSlots {
        /// The standby.
        standby: NodeId,
        /// The readers.
        readers: BTreeSet<NodeId>,
    },
    /// The reader's subscriptions follow the record; those named are copied anew. `POST /v1/subscriptions`
    Subscriptions {
        /// The reader.
        node: NodeId,
        /// To copy anew.
        reseed: BTreeSet<Jurisdiction>,
    },
    /// The reader's slots are dropped on the writer's node, and so hold up nobody. `POST /v1/slots/drop`
    DropSlots {
        /// The writer's node.
        node: NodeId,
        /// Whose slots.
        reader: NodeId,
    },
}

/// A change of the control record; each is one compare-and-set against the record the change before left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "set", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RecordChange {
    /// The writer takes no more work.
    CloseWrites,
    /// The writer takes work again: the move was called off.
    OpenWrites,
    /// The standby is no longer promotable.
    ClearPromotable,
    /// The standby is promotable: sync under its current joining, replaying, confirmed.
    SetPromotable,
    /// The log gate of this epoch need not hear a reader: a person waives it.
    WaiveReader {
        /// Which.
        reader: NodeId,
    },
    /// How many regions confirm, and who. The member is the one that the sync step before observed. Within an epoch one
    /// copy is always a person's choice; what a failover leaves comes with the new epoch.
    SetDurability {
        /// How many.
        durability: Durability,
        /// Who; `None` with `one`.
        standby: Option<NodeId>,
    },
    /// The writer moves.
    NewEpoch {
        /// The new epoch.
        epoch: Epoch,
        /// Where.
        region: RegionId,
        /// On which node.
        node: NodeId,
        /// How.
        beginning: Beginning,
        /// Who confirms from the start: the demoted node, after a switchover; nobody else can be ready.
        sync_member: Option<Member>,
        /// Readers that the log gate need not hear.
        waived_readers: BTreeSet<NodeId>,
    },
}

impl RecordChange {
    /// The record after this change. `joined` is the member that the sync step before observed, for `two`.
    pub fn apply(&self, present: &Record, joined: Option<Member>) -> Record {
        let record = present.clone();
        match self {
            Self::CloseWrites => Record { writes: Writes::Closing, ..record },
            Self::OpenWrites => Record { writes: Writes::Open, ..record },
            Self::ClearPromotable => Record { promotable: false, ..record },
            Self::SetPromotable => Record { promotable: true, ..record },
            Self::SetDurability { durability: Durability::One, .. } => {
                let degraded_by = DegradedBy::Person;
                Record { durability: Durability::One, sync_member: None, degraded_by, ..record }
            }
            Self::SetDurability { durability: Durability::Two, .. } => {
                let degraded_by = DegradedBy::Course;
                Record { durability: Durability::Two, sync_member: joined, degraded_by, ..record }
            }
            Self::WaiveReader { reader } => {
                let mut waived_readers = record.waived_readers.clone();
                waived_readers.insert(reader.clone());
                Record { waived_readers, ..record }
            }
            Self::NewEpoch { epoch, region, node, beginning, sync_member, waived_readers } => {
                Record {
                    epoch: *epoch,
                    writer_region: region.clone(),
                    writer_node: node.clone(),
                    durability: if sync_member.is_some() {
                        Durability::Two
                    } else {
                        Durability::One
                    },
                    sync_member: sync_member.clone(),
                    promotable: false,
                    writes: Writes::Open,
                    beginning: *beginning,
                    waived_readers: waived_readers.clone(),
                    degraded_by: DegradedBy::Course,
                    ..record
                }
            }
        }
    }
}

/// What a plan may lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "may_lose", rename_all = "kebab-case")]
pub enum LostWrites {
    /// Nothing that was acknowledged.
    None,
    /// What was acknowledged with one copy and has not arrived at the new primary: at most this much of the log, as last
    /// observed; `None` when not even that is known.
    Tail {
        /// Bytes of write-ahead log.
        at_most_bytes: Option<u64>,
    },
}
