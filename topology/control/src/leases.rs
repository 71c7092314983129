//! The writers' leases: kept alive by each writer, listed by whoever waits for their end.
//!
//! Invariants: a lease's key is put only while the control record still is the one its writer has seen; a lease
//! runs from when its last good keep-alive was *sent*, on the holder's own clock; a key that cannot be read is
//! an error, never an absent lease. Deliberately absent: deciding when an answer may still leave.

use crate::client::ControlClient;
use crate::error::Error;
use crate::etcd::{Change, Condition, Entry, Lease, LeaseId, Revision, Transaction};
use domicile_topology::lease::{KEY_FOLDER, WriterLease};
use std::sync::{Mutex, PoisonError};

/// A lease that was granted or kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal<T> {
    /// The lease.
    pub lease: LeaseId,
    /// When the request that was answered was sent, on the caller's clock.
    pub sent: T,
    /// How long the lease runs from then, seconds.
    pub ttl_s: i64,
}

/// The leases of one cluster's writers; clones share connections.
#[derive(Debug, Clone)]
pub struct Leases {
    control: ControlClient,
}

impl Leases {
    /// The leases that this client reaches.
    pub fn new(control: &ControlClient) -> Self {
        Self { control: control.clone() }
    }

    /// Asks for a lease of `ttl_s` seconds; `now` is read just before.
    pub async fn grant<T>(&self, ttl_s: i64, now: impl Fn() -> T) -> Result<Renewal<T>, Error> {
        let sent = now();
        let Lease { id, ttl_s } = self.control.etcd().lease_grant(ttl_s).await?;
        Ok(Renewal { lease: id, sent, ttl_s })
    }

    /// Keeps a lease alive; `now` is read just before each attempt, and the answered one counts.
    pub async fn keep_alive<T>(
        &self,
        lease: LeaseId,
        now: impl Fn() -> T,
    ) -> Result<Renewal<T>, Error> {
        let sent = Mutex::new(now());
        let note = || *sent.lock().unwrap_or_else(PoisonError::into_inner) = now();
        let ttl_s = self.control.etcd().lease_keep_alive_noting(lease, note).await?;
        let sent = sent.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Renewal { lease, sent, ttl_s })
    }

    /// Puts the writer's key on its lease, if the control record still stands at `record_revision`; else
    /// [`Error::RecordConflict`]. Repeating it is safe.
    pub async fn put(
        &self,
        value: &WriterLease,
        lease: LeaseId,
        record_revision: Revision,
    ) -> Result<Revision, Error> {
        let key = self.control.key(&format!("{KEY_FOLDER}/{}", value.node));
        let malformed = |error: serde_json::Error| Error::Malformed {
            key: key.clone(),
            cause: error.to_string(),
        };
        let bytes = serde_json::to_vec(value).map_err(malformed)?;
        let condition = Condition::Unchanged(self.control.record_key(), record_revision);
        let change = Change::Put { key, value: bytes, lease: Some(lease) };
        match self.control.etcd().transact(&[condition], vec![change]).await? {
            Transaction::Done(revision) => Ok(revision),
            Transaction::Refused(found) => Err(self.control.record_conflict(found)?),
        }
    }

    /// Every lease there is, by node.
    pub async fn list(&self) -> Result<Vec<WriterLease>, Error> {
        let entries =
            self.control.etcd().list(&self.control.key(&format!("{KEY_FOLDER}/"))).await?;
        entries.iter().map(decode).collect()
    }

    /// Ends a lease: its holder answers nothing under it any more.
    pub async fn give_back(&self, lease: LeaseId) -> Result<(), Error> {
        self.control.etcd().lease_revoke(lease).await
    }
}

fn decode(entry: &Entry) -> Result<WriterLease, Error> {
    serde_json::from_slice(&entry.value)
        .map_err(|error| Error::Malformed { key: entry.key.clone(), cause: error.to_string() })
}
