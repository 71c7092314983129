//! The world as the executor reaches it: every call takes time, and may go wrong.

use crate::agents::{Outcome, refusal};
use crate::cluster::Cluster;
use crate::faults::{Fault, Faults};
use domicile_control::{Record, Versioned};
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::error::Code;
use domicile_core::ids::NodeId;
use domicile_execute::{Call, World, WorldError};
use domicile_topology::Topology;
use domicile_topology::agent_api::{
    CheckpointAnswer, DemoteAnswer, DemoteRequest, DropSlotsAnswer, DropSlotsRequest,
    EpochOpenAnswer, EpochOpenRequest, PromoteAnswer, PromoteRequest, RejoinAnswer, SlotAnswer,
    SlotRequest, SubscriptionsAnswer, SubscriptionsRequest, SyncAnswer, SyncRequest,
    UndoDemoteAnswer, UndoDemoteRequest,
};
use domicile_topology::lease::WriterLease;
use domicile_topology::observed::NodeStatus;
use futures_util::FutureExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often an operation that waits looks again, milliseconds of virtual time.
const LOOK_EVERY_MS: u64 = 10;
/// How long it waits before it gives up, milliseconds.
const GIVE_UP_MS: u64 = 60_000;
/// How late a late effect is, milliseconds: after every step's time but a copy's.
const LATE_MS: u64 = 90_000;

#[derive(Clone)]
pub(crate) struct SimulatedWorld {
    pub(crate) topology: Arc<Topology>,
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    pub(crate) faults: Faults,
}

impl SimulatedWorld {
    /// An operation of an agent. It goes on to its end when its caller leaves.
    fn operate<'a, T: Send + 'static>(
        &'a self,
        node: &'a NodeId,
        name: &'static str,
        takes_ms: u64,
        effect: impl Fn(&mut Cluster) -> Outcome<T> + Send + 'static,
    ) -> Call<'a, T> {
        async move {
            let fault = self.faults.next(name).await;
            if fault == Some(Fault::Refused) {
                return Err(refusal(Code::StepTimeout, "simulated"));
            }
            if fault == Some(Fault::Silent) {
                return std::future::pending().await;
            }
            let delay = if fault == Some(Fault::Late) { LATE_MS } else { takes_ms };
            let (cluster, node) = (Arc::clone(&self.cluster), node.clone());
            let work = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                for _ in 0..GIVE_UP_MS / LOOK_EVERY_MS {
                    let outcome = {
                        let mut cluster = cluster.lock().unwrap();
                        cluster.tick();
                        if cluster.is_cut(&node) {
                            return Err(WorldError::Unreachable(format!("{node} is cut off")));
                        }
                        effect(&mut cluster)
                    };
                    if let Some(outcome) = outcome {
                        return outcome;
                    }
                    tokio::time::sleep(Duration::from_millis(LOOK_EVERY_MS)).await;
                }
                Err(refusal(Code::StepTimeout, "waited in vain"))
            });
            let outcome = work.await.unwrap();
            self.faults.after(fault).await;
            if fault == Some(Fault::AnswerLost) {
                return Err(WorldError::Unanswered("simulated".to_owned()));
            }
            outcome
        }
        .boxed()
    }

    /// A look at something, that changes nothing.
    fn look<'a, T: Send + 'a>(
        &'a self,
        name: &'static str,
        look: impl FnOnce(&Cluster) -> Result<T, WorldError> + Send + 'a,
    ) -> Call<'a, T> {
        async move {
            let fault = self.faults.next(name).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let outcome = {
                let mut cluster = self.cluster.lock().unwrap();
                cluster.tick();
                look(&cluster)
            };
            self.faults.after(fault).await;
            match fault {
                Some(Fault::Silent | Fault::Late) => std::future::pending().await,
                Some(Fault::Refused | Fault::AnswerLost) => {
                    Err(WorldError::Unanswered("simulated".to_owned()))
                }
                _ => outcome,
            }
        }
        .boxed()
    }
}

impl World for SimulatedWorld {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn record(&self) -> Call<'_, Versioned<Record>> {
        self.look("record", |cluster| Ok(cluster.plane.present()))
    }

    fn leases(&self) -> Call<'_, Vec<WriterLease>> {
        self.look("leases", |cluster| Ok(cluster.leases.values().cloned().collect()))
    }

    fn writer_epoch<'a>(&'a self, writer: &'a NodeId) -> Call<'a, Option<Epoch>> {
        self.look("writer", move |cluster| {
            if cluster.is_cut(writer) {
                return Err(WorldError::Unreachable(format!("{writer} is cut off")));
            }
            let region = cluster.topology.writers.iter().find(|node| &node.node == writer);
            let region = &region.unwrap().region;
            let ledger = cluster.ledgers.iter().find(|(_, ledger)| &ledger.region == region);
            Ok(cluster.served(ledger.unwrap().0))
        })
    }

    fn status<'a>(&'a self, node: &'a NodeId) -> Call<'a, NodeStatus> {
        self.look("status", move |cluster| {
            if cluster.is_cut(node) {
                return Err(WorldError::Unreachable(format!("{node} is cut off")));
            }
            Ok(cluster.status(node))
        })
    }

    fn checkpoint<'a>(&'a self, node: &'a NodeId, _: Duration) -> Call<'a, CheckpointAnswer> {
        let done = |_: &mut Cluster| Some(Ok(CheckpointAnswer { checkpoint_lsn: Lsn(0) }));
        self.operate(node, "checkpoint", 30, done)
    }

    fn slot<'a>(&'a self, node: &'a NodeId, _: SlotRequest, _: Duration) -> Call<'a, SlotAnswer> {
        self.operate(node, "slot", 5, |_| Some(Ok(SlotAnswer { created: true })))
    }

    fn drop_slots<'a>(
        &'a self,
        node: &'a NodeId,
        _: DropSlotsRequest,
        _: Duration,
    ) -> Call<'a, DropSlotsAnswer> {
        let done = |_: &mut Cluster| Some(Ok(DropSlotsAnswer { dropped: Vec::new() }));
        self.operate(node, "drop-slots", 5, done)
    }

    fn demote<'a>(
        &'a self,
        node: &'a NodeId,
        request: DemoteRequest,
        _: Duration,
    ) -> Call<'a, DemoteAnswer> {
        let name = node.clone();
        self.operate(node, "demote", 80, move |cluster| cluster.demote(&name, &request))
    }

    fn undo_demote<'a>(
        &'a self,
        node: &'a NodeId,
        request: UndoDemoteRequest,
        _: Duration,
    ) -> Call<'a, UndoDemoteAnswer> {
        let name = node.clone();
        self.operate(node, "undo", 80, move |cluster| cluster.undo_demote(&name, request.epoch))
    }

    fn promote<'a>(
        &'a self,
        node: &'a NodeId,
        request: PromoteRequest,
        _: Duration,
    ) -> Call<'a, PromoteAnswer> {
        let name = node.clone();
        self.operate(node, "promote", 60, move |cluster| cluster.promote(&name, request.epoch))
    }

    fn rejoin<'a>(&'a self, node: &'a NodeId, _: Duration) -> Call<'a, RejoinAnswer> {
        let name = node.clone();
        self.operate(node, "rejoin", 40, move |cluster| cluster.rejoin(&name))
    }

    fn sync<'a>(
        &'a self,
        node: &'a NodeId,
        request: SyncRequest,
        _: Duration,
    ) -> Call<'a, SyncAnswer> {
        let name = node.clone();
        self.operate(node, "sync", 10, move |cluster| cluster.sync(&name, request.member.clone()))
    }

    fn open_epoch<'a>(
        &'a self,
        node: &'a NodeId,
        request: EpochOpenRequest,
        _: Duration,
    ) -> Call<'a, EpochOpenAnswer> {
        let name = node.clone();
        self.operate(node, "open", 10, move |cluster| cluster.open_epoch(&name, request.epoch))
    }

    fn subscriptions<'a>(
        &'a self,
        node: &'a NodeId,
        _: SubscriptionsRequest,
        _: Duration,
    ) -> Call<'a, SubscriptionsAnswer> {
        let name = node.clone();
        self.operate(node, "subscriptions", 20, move |cluster| cluster.follow(&name))
    }
}
