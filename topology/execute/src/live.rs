//! The world over the network: agents and writers over mutual TLS, the control plane in etcd.

use crate::calls::AgentCalls;
use crate::world::{Call, World, WorldError};
use bytes::Bytes;
use domicile_control::{ControlClient, Leases, Record, Versioned, patiently};
use domicile_core::epoch::Epoch;
use domicile_core::ids::NodeId;
use domicile_service::client::HttpClient;
use domicile_topology::Topology;
use domicile_topology::address::ServiceUrl;
use domicile_topology::agent_api::{
    CheckpointAnswer, CheckpointRequest, DemoteAnswer, DemoteRequest, DropSlotsAnswer,
    DropSlotsRequest, EpochOpenAnswer, EpochOpenRequest, PromoteAnswer, PromoteRequest,
    RejoinAnswer, RejoinRequest, SlotAnswer, SlotRequest, SubscriptionsAnswer,
    SubscriptionsRequest, SyncAnswer, SyncRequest, UndoDemoteAnswer, UndoDemoteRequest, paths,
};
use domicile_topology::lease::WriterLease;
use domicile_topology::observed::NodeStatus;
use futures_util::FutureExt as _;
use http::{Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The longest look at a writer, milliseconds.
const WRITER_LOOK_TIMEOUT_MS: u64 = 1_000;

/// What a writer's `/readyz` says of itself: the epoch only while it is served.
#[derive(Deserialize)]
struct ReadyWriter {
    epoch: Option<Epoch>,
}

/// The real world.
#[derive(Debug, Clone)]
pub struct LiveWorld {
    topology: Arc<Topology>,
    agents: AgentCalls,
    control: ControlClient,
}

impl LiveWorld {
    /// The world of this topology, seen through these clients.
    pub fn new(topology: Arc<Topology>, client: HttpClient, control: ControlClient) -> Self {
        Self { topology, agents: AgentCalls::new(client), control }
    }

    fn agent(&self, node: &NodeId) -> Result<&ServiceUrl, WorldError> {
        let ledgers = self.topology.ledgers.iter().map(|ledger| (&ledger.node, &ledger.agent));
        let readers = self.topology.readers.iter().map(|reader| (&reader.node, &reader.agent));
        let found = ledgers.chain(readers).find(|(name, _)| *name == node);
        let missing = || WorldError::Unreachable(format!("{node} is not in the topology"));
        found.map(|(_, agent)| agent).ok_or_else(missing)
    }

    fn post<'a, A: DeserializeOwned + 'a>(
        &'a self,
        node: &'a NodeId,
        path: &'static str,
        request: impl Serialize + Send + Sync + 'a,
        within: Duration,
    ) -> Call<'a, A> {
        async move { Ok(self.agents.post(self.agent(node)?, path, &request, within).await?) }
            .boxed()
    }
}

impl World for LiveWorld {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn record(&self) -> Call<'_, Versioned<Record>> {
        let missing = || WorldError::Unreachable("there is no control record".to_owned());
        async move { patiently(|| self.control.record()).await?.ok_or_else(missing) }.boxed()
    }

    fn leases(&self) -> Call<'_, Vec<WriterLease>> {
        async move {
            let leases = Leases::new(&self.control);
            Ok(patiently(|| leases.list()).await?)
        }
        .boxed()
    }

    fn writer_epoch<'a>(&'a self, writer: &'a NodeId) -> Call<'a, Option<Epoch>> {
        async move {
            let node = self.topology.writers.iter().find(|node| &node.node == writer);
            let missing = || WorldError::Unreachable(format!("{writer} is not in the topology"));
            let url = format!("{}/readyz", node.ok_or_else(missing)?.endpoint);
            let request = Request::builder().method(Method::GET).uri(url).body(Bytes::new());
            let request = request.map_err(|error| WorldError::Unreachable(error.to_string()))?;
            let client = self.agents.client().within_ms(WRITER_LOOK_TIMEOUT_MS);
            let answer = client.send(request).await?;
            if answer.status() != StatusCode::OK {
                return Ok(None);
            }
            let report = serde_json::from_slice::<ReadyWriter>(answer.body());
            Ok(report.ok().and_then(|report| report.epoch))
        }
        .boxed()
    }

    fn status<'a>(&'a self, node: &'a NodeId) -> Call<'a, NodeStatus> {
        async move { Ok(self.agents.status(self.agent(node)?).await?) }.boxed()
    }

    fn checkpoint<'a>(&'a self, node: &'a NodeId, within: Duration) -> Call<'a, CheckpointAnswer> {
        self.post(node, paths::CHECKPOINT, CheckpointRequest {}, within)
    }

    fn slot<'a>(
        &'a self,
        node: &'a NodeId,
        request: SlotRequest,
        within: Duration,
    ) -> Call<'a, SlotAnswer> {
        self.post(node, paths::SLOT, request, within)
    }

    fn drop_slots<'a>(
        &'a self,
        node: &'a NodeId,
        request: DropSlotsRequest,
        within: Duration,
    ) -> Call<'a, DropSlotsAnswer> {
        self.post(node, paths::SLOTS_DROP, request, within)
    }

    fn demote<'a>(
        &'a self,
        node: &'a NodeId,
        request: DemoteRequest,
        within: Duration,
    ) -> Call<'a, DemoteAnswer> {
        self.post(node, paths::DEMOTE, request, within)
    }

    fn undo_demote<'a>(
        &'a self,
        node: &'a NodeId,
        request: UndoDemoteRequest,
        within: Duration,
    ) -> Call<'a, UndoDemoteAnswer> {
        self.post(node, paths::DEMOTE_UNDO, request, within)
    }

    fn promote<'a>(
        &'a self,
        node: &'a NodeId,
        request: PromoteRequest,
        within: Duration,
    ) -> Call<'a, PromoteAnswer> {
        self.post(node, paths::PROMOTE, request, within)
    }

    fn rejoin<'a>(&'a self, node: &'a NodeId, within: Duration) -> Call<'a, RejoinAnswer> {
        self.post(node, paths::REJOIN, RejoinRequest {}, within)
    }

    fn sync<'a>(
        &'a self,
        node: &'a NodeId,
        request: SyncRequest,
        within: Duration,
    ) -> Call<'a, SyncAnswer> {
        self.post(node, paths::SYNC, request, within)
    }

    fn open_epoch<'a>(
        &'a self,
        node: &'a NodeId,
        request: EpochOpenRequest,
        within: Duration,
    ) -> Call<'a, EpochOpenAnswer> {
        self.post(node, paths::EPOCH_OPEN, request, within)
    }

    fn subscriptions<'a>(
        &'a self,
        node: &'a NodeId,
        request: SubscriptionsRequest,
        within: Duration,
    ) -> Call<'a, SubscriptionsAnswer> {
        self.post(node, paths::SUBSCRIPTIONS, request, within)
    }
}
