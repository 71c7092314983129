//! What the agent needs of the control plane, as a trait: tests stand in for etcd.
//!
//! Invariant: [`ControlPlane::ask`] tells "no record" from "no answer", and never passes off a remembered record as
//! an answer. Deliberately absent: writing. The agent changes its own node, never the record.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use domicile_control::{ControlClient, Leases, Watch};
use domicile_topology::Topology;
use domicile_topology::lease::WriterLease;
use domicile_topology::record::Record;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::decide::Authority;

/// The longest wait for the control plane's answer.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A boxed future, so that the trait can be used behind a pointer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The control plane, read-only.
pub trait ControlPlane: Send + Sync {
    /// The record as a majority of the control plane has it now, or the last one known.
    fn ask(&self) -> Answer<'_, Authority>;
    /// The writers' leases as a majority of the control plane has them now; `None` without an answer.
    fn leases(&self) -> Answer<'_, Option<Vec<WriterLease>>>;
    /// The last known record.
    fn last_record(&self) -> Option<Record>;
    /// The last known topology.
    fn topology(&self) -> Option<Arc<Topology>>;
    /// Returns when the record or the topology may have changed.
    fn changed(&self) -> Answer<'_, ()>;
}

/// The control plane in etcd.
pub struct EtcdControl {
    client: ControlClient,
    record: Watch<Record>,
    topology: Watch<Topology>,
    unseen: Mutex<(Watch<Record>, Watch<Topology>)>,
}

impl EtcdControl {
    /// Follows the record and the topology from now on; starts with what is on disk. Needs a runtime.
    pub fn new(client: ControlClient) -> Self {
        let (record, topology) = (client.watch_record(), client.watch_topology());
        let unseen = Mutex::new((record.clone(), topology.clone()));
        Self { client, record, topology, unseen }
    }

    async fn ask_etcd(&self) -> Authority {
        match timeout(ASK_TIMEOUT, self.client.record()).await {
            Ok(Ok(record)) => Authority::Answered(record.map(|record| record.value)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the control plane does not answer");
                Authority::Away(self.last_record())
            }
            Err(_elapsed) => Authority::Away(self.last_record()),
        }
    }
}

impl ControlPlane for EtcdControl {
    fn ask(&self) -> Answer<'_, Authority> {
        Box::pin(self.ask_etcd())
    }

    fn leases(&self) -> Answer<'_, Option<Vec<WriterLease>>> {
        Box::pin(async {
            let leases = Leases::new(&self.client);
            let answer = timeout(ASK_TIMEOUT, leases.list()).await.ok()?;
            answer.inspect_err(|error| tracing::warn!(%error, "no leases are read")).ok()
        })
    }

    fn last_record(&self) -> Option<Record> {
        self.record.value().map(|record| Record::clone(&record))
    }

    fn topology(&self) -> Option<Arc<Topology>> {
        self.topology.value()
    }

    fn changed(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let mut unseen = self.unseen.lock().await;
            let (record, topology) = &mut *unseen;
            tokio::select! {
                _ = record.changed() => {}
                _ = topology.changed() => {}
            }
        })
    }
}
