//! A client of etcd's v3 API over mutual TLS: reads, changes, transactions, leases, watches.
//!
//! Invariants: reads are linearizable – a majority has confirmed them; a transaction is sent once, to an endpoint that
//! has just shown that it is alive, and a lost answer is [`Error::OutcomeUnknown`].
//! Deliberately absent: passwords – who somebody is says their certificate – and everything the control plane does not use.

pub(crate) mod auth;
mod endpoints;
mod lease;
mod member;
mod messages;
mod stream;

pub use lease::{Lease, LeaseId};
pub use member::{MemberId, MemberStatus};
pub(crate) use stream::Event;

use crate::config::{ControlConfig, limits};
use crate::error::Error;
use crate::roles;
use endpoints::{Attempts, Endpoints, Method, method};
use messages::{
    COMPARE_CREATE, COMPARE_EQUAL, COMPARE_MOD, CompareWith, DeleteRangeRequest,
    DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestKind, RequestOp, ResponseHeader, ResponseKind, TxnRequest, TxnResponse,
};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

const RANGE: Method = method("range", "/etcdserverpb.KV/Range");
const PUT: Method = method("put", "/etcdserverpb.KV/Put");
const DELETE: Method = method("delete", "/etcdserverpb.KV/DeleteRange");
const TXN: Method = method("txn", "/etcdserverpb.KV/Txn");

/// A point in etcd's history; each change of the store has the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// When the key came into being.
    pub created: Revision,
    /// When the value was last changed.
    pub modified: Revision,
    /// The lease it ends with.
    pub lease: Option<LeaseId>,
}

/// What must hold for a transaction to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent(String),
    /// The key exists and was last changed at this revision.
    Unchanged(String, Revision),
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets the value; with a lease, the key ends with it.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The lease it ends with.
        lease: Option<LeaseId>,
    },
    /// Removes the key, if it is there.
    Delete {
        /// The key.
        key: String,
    },
    /// Removes every key that begins so.
    DeletePrefix {
        /// With what they begin.
        prefix: String,
    },
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transaction {
    /// Every condition held; the changes have this revision.
    Done(Revision),
    /// A condition did not hold; these are the conditions' keys as they stand.
    Refused(Vec<Option<Entry>>),
}

/// A client of one etcd cluster; clones share its connections.
#[derive(Debug, Clone)]
pub struct Etcd(Arc<Endpoints>);

impl Etcd {
    /// A client that connects when it is first used.
    pub fn new(config: &ControlConfig) -> Self {
        Self(Arc::new(Endpoints::new(config)))
    }

    /// The key's value and the revision the answer is true at.
    pub async fn get(&self, key: &str) -> Result<(Option<Entry>, Revision), Error> {
        let answer: RangeResponse =
            self.0.call(RANGE, range(key, Vec::new(), 1), Attempts::Repeatable).await?;
        let revision = revision(answer.header.as_ref());
        Ok((answer.kvs.into_iter().next().map(Entry::from), revision))
    }

    /// Every key that begins with `prefix`, in the order of the keys.
    ///
    /// More than [`limits::MAX_RANGE_ITEMS`] of them is an error, never a silent cut.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        self.list_range(range(prefix, prefix_end(prefix), limits::MAX_RANGE_ITEMS)).await
    }

    /// The same without the values.
    pub async fn list_keys(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let whole = range(prefix, prefix_end(prefix), limits::MAX_RANGE_ITEMS);
        self.list_range(RangeRequest { keys_only: true, ..whole }).await
    }

    async fn list_range(&self, request: RangeRequest) -> Result<Vec<Entry>, Error> {
        let prefix = String::from_utf8_lossy(&request.key).into_owned();
        let answer: RangeResponse = self.0.call(RANGE, request, Attempts::Repeatable).await?;
        if answer.more {
            let cause = format!("more than {} keys under {prefix}", limits::MAX_RANGE_ITEMS);
            return Err(Error::Refused { operation: RANGE.name, cause });
        }
        Ok(answer.kvs.into_iter().map(Entry::from).collect())
    }

    /// Sets a key's value, whatever it was.
    pub async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        lease: Option<LeaseId>,
    ) -> Result<Revision, Error> {
        check_size(key, &value)?;
        self.find_live_endpoint(key).await?;
        let answer: PutResponse =
            self.change(PUT, put_request(key, value, lease), &[key.to_owned()]).await?;
        Ok(revision(answer.header.as_ref()))
    }

    /// Removes a key; whether it was there.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.find_live_endpoint(key).await?;
        let request = DeleteRangeRequest { key: key.into(), range_end: Vec::new() };
        let answer: DeleteRangeResponse = self.change(DELETE, request, &[key.to_owned()]).await?;
        Ok(answer.deleted > 0)
    }

    /// Carries out all changes if every condition holds, none otherwise.
    pub async fn transact(
        &self,
        conditions: &[Condition],
        changes: Vec<Change>,
    ) -> Result<Transaction, Error> {
        for change in &changes {
            if let Change::Put { key, value, .. } = change {
                check_size(key, value)?;
            }
        }
        let to_change: Vec<_> = changes.iter().map(|change| change.key().to_owned()).collect();
        let keys = conditions.iter().map(Condition::key);
        let reads = keys.map(|key| RequestKind::Range(range(key, Vec::new(), 1)));
        let request = TxnRequest {
            compare: conditions.iter().map(Condition::compare).collect(),
            success: changes.into_iter().map(|change| operation(change.request())).collect(),
            failure: reads.map(operation).collect(),
        };
        self.find_live_endpoint(conditions.first().map_or("/", Condition::key)).await?;
        let answer: TxnResponse = self.change(TXN, request, &to_change).await?;
        if answer.succeeded {
            return Ok(Transaction::Done(revision(answer.header.as_ref())));
        }
        let found = answer.responses.into_iter().map(|response| match response.response {
            Some(ResponseKind::Range(range)) => range.kvs.into_iter().next().map(Entry::from),
            Some(ResponseKind::Put(_) | ResponseKind::Delete(_)) | None => None,
        });
        Ok(Transaction::Refused(found.collect()))
    }

    /// Asks for a change of these keys, once; a refusal says who may.
    async fn change<Q, R>(&self, method: Method, request: Q, keys: &[String]) -> Result<R, Error>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.0.call(method, request, Attempts::Once).await.map_err(|error| match error {
            Error::RoleInsufficient { operation, .. } => {
                Error::RoleInsufficient { operation, needed: roles::who_changes(keys) }
            }
            other => other,
        })
    }

    /// Turns to an endpoint that answers, so that a change sent once is sent to a live one. One that answered just
    /// now need not show it again: a plan's steps follow one another within milliseconds.
    async fn find_live_endpoint(&self, key: &str) -> Result<(), Error> {
        if self.0.answered_within(Duration::from_millis(limits::LIVE_FOR_MS)) {
            return Ok(());
        }
        self.get(key).await.map(drop)
    }

    /// The endpoint that answered last, by number.
    pub(crate) fn current_endpoint(&self) -> usize {
        self.0.current()
    }
}

impl Condition {
    fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) => key,
        }
    }

    fn compare(&self) -> messages::Compare {
        let (target, with) = match self {
            Self::Absent(_) => (COMPARE_CREATE, CompareWith::CreateRevision(0)),
            Self::Unchanged(_, revision) => (COMPARE_MOD, CompareWith::ModRevision(revision.0)),
        };
        let key = self.key().into();
        messages::Compare { result: COMPARE_EQUAL, target, key, with: Some(with) }
    }
}

impl Change {
    fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
            Self::DeletePrefix { prefix } => prefix,
        }
    }

    fn request(self) -> RequestKind {
        match self {
            Self::Put { key, value, lease } => RequestKind::Put(put_request(&key, value, lease)),
            Self::Delete { key } => {
                let range_end = Vec::new();
                RequestKind::Delete(DeleteRangeRequest { key: key.into(), range_end })
            }
            Self::DeletePrefix { prefix } => {
                let range_end = prefix_end(&prefix);
                RequestKind::Delete(DeleteRangeRequest { key: prefix.into(), range_end })
            }
        }
    }
}

impl From<KeyValue> for Entry {
    fn from(kv: KeyValue) -> Self {
        Self {
            key: String::from_utf8_lossy(&kv.key).into_owned(),
            value: kv.value,
            created: Revision(kv.create_revision),
            modified: Revision(kv.mod_revision),
            lease: (kv.lease != 0).then_some(LeaseId(kv.lease)),
        }
    }
}

fn range(key: &str, range_end: Vec<u8>, limit: i64) -> RangeRequest {
    RangeRequest { key: key.into(), range_end, limit, keys_only: false }
}

fn put_request(key: &str, value: Vec<u8>, lease: Option<LeaseId>) -> PutRequest {
    PutRequest { key: key.into(), value, lease: lease.map_or(0, |lease| lease.0) }
}

fn operation(request: RequestKind) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn revision(header: Option<&ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}

fn check_size(key: &str, value: &[u8]) -> Result<(), Error> {
    if value.len() > limits::MAX_VALUE_BYTES {
        return Err(Error::TooLarge { key: key.to_owned(), bytes: value.len() });
    }
    Ok(())
}

/// The first key after all that begin with `prefix`; etcd's "to the end" if there is none.
pub(crate) fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key() {
        assert_eq!(prefix_end("/a/"), b"/a0");
        assert_eq!(prefix_end(""), [0]);
    }
}
