//! Everything a plan's steps touch, as a trait: agents, control record, leases, writers.
//!
//! Implemented by [`crate::LiveWorld`] over the network, and by the simulated world of the tests.

use domicile_control::{Record, Versioned};
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_core::ids::NodeId;
use domicile_topology::Topology;
use domicile_topology::agent_api::{
    CheckpointAnswer, DemoteAnswer, DemoteRequest, DropSlotsAnswer, DropSlotsRequest,
    EpochOpenAnswer, EpochOpenRequest, PromoteAnswer, PromoteRequest, RejoinAnswer, SlotAnswer,
    SlotRequest, SubscriptionsAnswer, SubscriptionsRequest, SyncAnswer, SyncRequest,
    UndoDemoteAnswer, UndoDemoteRequest,
};
use domicile_topology::lease::WriterLease;
use domicile_topology::observed::NodeStatus;
use futures_util::future::BoxFuture;
use std::time::Duration;
use thiserror::Error;

/// A call into the world.
pub type Call<'a, T> = BoxFuture<'a, Result<T, WorldError>>;

/// How a call failed.
#[derive(Debug, Error)]
pub enum WorldError {
    /// Nothing was done: the node was not reached.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// Perhaps done: the answer was lost or late.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// The node refused, or failed and said so.
    #[error("{detail}")]
    Refused {
        /// Its code, where this version knows it.
        code: Option<Code>,
        /// Its words.
        detail: String,
    },
    /// The control plane.
    #[error(transparent)]
    Control(#[from] domicile_control::Error),
}

/// The world as an executor sees it. Every operation is idempotent; `within` bounds one attempt.
pub trait World: Send + Sync {
    /// The topology that this world was entered with.
    fn topology(&self) -> &Topology;

    /// The control record as a majority has it now.
    fn record(&self) -> Call<'_, Versioned<Record>>;

    /// The writers' leases.
    fn leases(&self) -> Call<'_, Vec<WriterLease>>;

    /// The epoch that a writer says it serves; `None` when it is not ready.
    fn writer_epoch<'a>(&'a self, writer: &'a NodeId) -> Call<'a, Option<Epoch>>;

    /// What a node's agent observes.
    fn status<'a>(&'a self, node: &'a NodeId) -> Call<'a, NodeStatus>;

    /// `POST /v1/checkpoint`.
    fn checkpoint<'a>(&'a self, node: &'a NodeId, within: Duration) -> Call<'a, CheckpointAnswer>;

    /// `POST /v1/slot`.
    fn slot<'a>(
        &'a self,
        node: &'a NodeId,
        request: SlotRequest,
        within: Duration,
    ) -> Call<'a, SlotAnswer>;

    /// `POST /v1/slots/drop`.
    fn drop_slots<'a>(
        &'a self,
        node: &'a NodeId,
        request: DropSlotsRequest,
        within: Duration,
    ) -> Call<'a, DropSlotsAnswer>;

    /// `POST /v1/demote`.
    fn demote<'a>(
        &'a self,
        node: &'a NodeId,
        request: DemoteRequest,
        within: Duration,
    ) -> Call<'a, DemoteAnswer>;

    /// `POST /v1/demote/undo`.
    fn undo_demote<'a>(
        &'a self,
        node: &'a NodeId,
        request: UndoDemoteRequest,
        within: Duration,
    ) -> Call<'a, UndoDemoteAnswer>;

    /// `POST /v1/promote`.
    fn promote<'a>(
        &'a self,
        node: &'a NodeId,
        request: PromoteRequest,
        within: Duration,
    ) -> Call<'a, PromoteAnswer>;

    /// `POST /v1/rejoin`.
    fn rejoin<'a>(&'a self, node: &'a NodeId, within: Duration) -> Call<'a, RejoinAnswer>;

    /// `POST /v1/sync`.
    fn sync<'a>(
        &'a self,
        node: &'a NodeId,
        request: SyncRequest,
        within: Duration,
    ) -> Call<'a, SyncAnswer>;

    /// `POST /v1/epoch/open`.
    fn open_epoch<'a>(
        &'a self,
        node: &'a NodeId,
        request: EpochOpenRequest,
        within: Duration,
    ) -> Call<'a, EpochOpenAnswer>;

    /// `POST /v1/subscriptions`.
    fn subscriptions<'a>(
        &'a self,
        node: &'a NodeId,
        request: SubscriptionsRequest,
        within: Duration,
    ) -> Call<'a, SubscriptionsAnswer>;
}
