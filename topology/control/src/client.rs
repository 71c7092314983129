//! The control record and the topology, by name instead of by key.

use crate::Versioned;
use crate::cache::CacheFile;
use crate::config::ControlConfig;
use crate::error::Error;
use crate::etcd::{Change, Condition, Entry, Etcd, Revision, Transaction};
use crate::follow::{self, Stored};
use crate::watch::Watch;
use domicile_core::ids::ClusterId;
use domicile_topology::document::Succession;
use domicile_topology::{Record, Topology};
use std::path::PathBuf;

/// What publishing a topology did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is in force now, at this revision.
    Applied(Revision),
    /// It was in force already.
    Unchanged,
}

/// The control plane of one cluster; clones share its connections.
#[derive(Debug, Clone)]
pub struct ControlClient {
    etcd: Etcd,
    cluster: ClusterId,
    topology_cache: PathBuf,
}

impl ControlClient {
    /// A client that connects when it is first used, so that a service starts while etcd is away.
    pub fn new(config: &ControlConfig) -> Self {
        Self {
            etcd: Etcd::new(config),
            cluster: config.cluster.clone(),
            topology_cache: config.topology_cache.clone(),
        }
    }

    /// The store underneath, for what has no name here.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    pub(crate) fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// The full key of a name in this cluster: `/domicile/<cluster>/<name>`.
    pub fn key(&self, name: &str) -> String {
        format!("/domicile/{}/{name}", self.cluster)
    }

    /// The control record, as a majority has it now; `None` when there is none yet.
    pub async fn record(&self) -> Result<Option<Versioned<Record>>, Error> {
        self.read().await
    }

    /// The topology, as a majority has it now; `None` when there is none yet.
    pub async fn topology(&self) -> Result<Option<Versioned<Topology>>, Error> {
        self.read().await
    }

    /// Creates the control record of a new cluster.
    pub async fn create_record(&self, record: &Record) -> Result<Revision, Error> {
        record.check()?;
        let key = self.record_key();
        self.store_record(Condition::Absent(key), record).await
    }

    /// Changes the control record, if it still is as it was at `revision` and allows the change.
    pub async fn compare_and_set_record(
        &self,
        record: &Record,
        revision: Revision,
    ) -> Result<Revision, Error> {
        match self.record().await? {
            Some(current) if current.revision == revision => current.value.allows(record)?,
            current => return Err(Error::RecordConflict { current: current.map(Box::new) }),
        }
        let key = self.record_key();
        self.store_record(Condition::Unchanged(key, revision), record).await
    }

    /// Puts a topology in force, if it may follow the present one.
    pub async fn publish_topology(&self, topology: &Topology) -> Result<Published, Error> {
        let key = self.key(Topology::NAME);
        let malformed = |cause: String| Error::Malformed { key: key.clone(), cause };
        let value = topology.to_json().map_err(|error| malformed(error.to_string()))?;
        // What was changed in memory since it was read is checked as every reader will check it.
        Topology::decode(&self.cluster, &value).map_err(malformed)?;
        let condition = match self.topology().await? {
            None => Condition::Absent(key.clone()),
            Some(present) => match topology.succeeds(&present.value)? {
                Succession::Same => return Ok(Published::Unchanged),
                Succession::Newer => Condition::Unchanged(key.clone(), present.revision),
            },
        };
        let change = Change::Put { key: key.clone(), value, lease: None };
        match self.etcd.transact(&[condition], vec![change]).await? {
            Transaction::Done(revision) => Ok(Published::Applied(revision)),
            Transaction::Refused(_) => Err(Error::TopologyConflict),
        }
    }

    /// Follows the control record; needs a running tokio runtime, like every call here.
    pub fn watch_record(&self) -> Watch<Record> {
        self.watch(self.topology_cache.with_extension("record.json"))
    }

    /// Follows the topology.
    pub fn watch_topology(&self) -> Watch<Topology> {
        self.watch(self.topology_cache.clone())
    }

    fn watch<T: Stored>(&self, cache: PathBuf) -> Watch<T> {
        let key = self.key(T::NAME);
        follow::start(self.etcd.clone(), self.cluster.clone(), key, CacheFile::new(cache))
    }

    async fn read<T: Stored>(&self) -> Result<Option<Versioned<T>>, Error> {
        let (entry, _) = self.etcd.get(&self.key(T::NAME)).await?;
        entry.map(|entry| self.decode(&entry)).transpose()
    }

    fn decode<T: Stored>(&self, entry: &Entry) -> Result<Versioned<T>, Error> {
        let malformed = |cause| Error::Malformed { key: entry.key.clone(), cause };
        let value = T::decode(&self.cluster, &entry.value).map_err(malformed)?;
        Ok(Versioned { value, revision: entry.modified })
    }

    async fn store_record(&self, condition: Condition, record: &Record) -> Result<Revision, Error> {
        let key = self.record_key();
        let malformed = |error: serde_json::Error| Error::Malformed {
            key: key.clone(),
            cause: error.to_string(),
        };
        let value = serde_json::to_vec(record).map_err(malformed)?;
        let change = Change::Put { key: key.clone(), value, lease: None };
        match self.etcd.transact(&[condition], vec![change]).await? {
            Transaction::Done(revision) => Ok(revision),
            Transaction::Refused(found) => Err(self.record_conflict(found)?),
        }
    }

    pub(crate) fn record_key(&self) -> String {
        self.key(Record::NAME)
    }

    /// The refusal of a transaction whose first condition was about the record.
    pub(crate) fn record_conflict(&self, found: Vec<Option<Entry>>) -> Result<Error, Error> {
        let current = found.into_iter().next().flatten();
        let current = current.map(|entry| self.decode(&entry)).transpose()?;
        Ok(Error::RecordConflict { current: current.map(Box::new) })
    }
}
