//! A world whose record is in etcd and whose only agent says nothing until it is let.

use domicile_control::{ControlClient, Record, Topology, Versioned};
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::NodeId;
use domicile_execute::{Call, World, WorldError};
use domicile_topology::agent_api::{
    CheckpointAnswer, DemoteAnswer, DemoteRequest, DropSlotsAnswer, DropSlotsRequest,
    EpochOpenAnswer, EpochOpenRequest, PromoteAnswer, PromoteRequest, RejoinAnswer, SlotAnswer,
    SlotRequest, SubscriptionsAnswer, SubscriptionsRequest, SyncAnswer, SyncRequest,
    UndoDemoteAnswer, UndoDemoteRequest,
};
use domicile_topology::lease::WriterLease;
use domicile_topology::observed::NodeStatus;
use futures_util::FutureExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) struct HangingWorld {
    topology: Topology,
    control: ControlClient,
    asked: AtomicBool,
    answers: AtomicBool,
}

impl HangingWorld {
    pub(crate) fn new(topology: Topology, control: ControlClient) -> Self {
        let (asked, answers) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { topology, control, asked, answers }
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn answer(&self) {
        self.answers.store(true, Ordering::Relaxed);
    }
}

/// What this test's plan does not do.
fn unasked<T: Send + 'static>() -> Call<'static, T> {
    std::future::ready(Err(WorldError::Unreachable("not part of this test".to_owned()))).boxed()
}

impl World for HangingWorld {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn record(&self) -> Call<'_, Versioned<Record>> {
        async { Ok(self.control.record().await?.unwrap()) }.boxed()
    }

    fn sync<'a>(&'a self, _: &'a NodeId, _: SyncRequest, _: Duration) -> Call<'a, SyncAnswer> {
        async {
            self.asked.store(true, Ordering::Relaxed);
            if !self.answers.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let current_lsn = Lsn(1);
            Ok(SyncAnswer { changed: true, member: None, current_lsn, confirmed_lsn: None })
        }
        .boxed()
    }

    fn leases(&self) -> Call<'_, Vec<WriterLease>> {
        unasked()
    }

    fn writer_epoch<'a>(&'a self, _: &'a NodeId) -> Call<'a, Option<Epoch>> {
        unasked()
    }

    fn status<'a>(&'a self, _: &'a NodeId) -> Call<'a, NodeStatus> {
        unasked()
    }

    fn checkpoint<'a>(&'a self, _: &'a NodeId, _: Duration) -> Call<'a, CheckpointAnswer> {
        unasked()
    }

    fn slot<'a>(&'a self, _: &'a NodeId, _: SlotRequest, _: Duration) -> Call<'a, SlotAnswer> {
        unasked()
    }

    fn drop_slots<'a>(
        &'a self,
        _: &'a NodeId,
        _: DropSlotsRequest,
        _: Duration,
    ) -> Call<'a, DropSlotsAnswer> {
        unasked()
    }

    fn demote<'a>(
        &'a self,
        _: &'a NodeId,
        _: DemoteRequest,
        _: Duration,
    ) -> Call<'a, DemoteAnswer> {
        unasked()
    }

    fn undo_demote<'a>(
        &'a self,
        _: &'a NodeId,
        _: UndoDemoteRequest,
        _: Duration,
    ) -> Call<'a, UndoDemoteAnswer> {
        unasked()
    }

    fn promote<'a>(
        &'a self,
        _: &'a NodeId,
        _: PromoteRequest,
        _: Duration,
    ) -> Call<'a, PromoteAnswer> {
        unasked()
    }

    fn rejoin<'a>(&'a self, _: &'a NodeId, _: Duration) -> Call<'a, RejoinAnswer> {
        unasked()
    }

    fn open_epoch<'a>(
        &'a self,
        _: &'a NodeId,
        _: EpochOpenRequest,
        _: Duration,
    ) -> Call<'a, EpochOpenAnswer> {
        unasked()
    }

    fn subscriptions<'a>(
        &'a self,
        _: &'a NodeId,
        _: SubscriptionsRequest,
        _: Duration,
    ) -> Call<'a, SubscriptionsAnswer> {
        unasked()
    }
}
