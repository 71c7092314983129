//! The lock, and everything that may be written while it is held.

use super::{LOCK_TTL_S, MAX_JOURNAL_ENTRIES, MAX_KEPT_PLANS, MAX_PLAN_ID_CHARS, SETTLE_FOR_MS};
use super::{Plans, keys, malformed, text};
use crate::client::ControlClient;
use crate::error::Error;
use crate::etcd::{Change, Condition, Entry, LeaseId, Revision, Transaction};
use crate::patience::patiently;
use crate::{Record, Versioned};
use domicile_topology::plan::Plan;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Time between two keep-alives, milliseconds.
const KEEP_ALIVE_EVERY_MS: u64 = 2_500;
/// Time between two attempts to learn what became of a change, milliseconds.
const SETTLE_EVERY_MS: u64 = 50;

/// The lock, held. Dropped without [`PlanLock::release`] it ends by itself after [`LOCK_TTL_S`].
#[derive(Debug)]
pub struct PlanLock {
    control: ControlClient,
    lease: LeaseId,
    taken: Revision,
    lost: Arc<AtomicBool>,
    keeper: JoinHandle<()>,
}

/// A change of the control record that is written together with journal entries.
#[derive(Debug, Clone, Copy)]
pub struct RecordStep<'a> {
    /// The record as it stands.
    pub from: &'a Versioned<Record>,
    /// What follows it.
    pub to: &'a Record,
}

/// The last entry of a plan that a new one supersedes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The plan under way.
    pub id: String,
    /// The number of its last entry.
    pub number: u32,
    /// What that says.
    pub value: Vec<u8>,
}

impl PlanLock {
    pub(super) async fn take(control: &ControlClient, owner: &str) -> Result<Self, Error> {
        let sent = Instant::now();
        let lease = patiently(|| control.etcd().lease_grant(LOCK_TTL_S)).await?.id;
        let key = keys::lock(control);
        let condition = Condition::Absent(key.clone());
        let change =
            Change::Put { key: key.clone(), value: owner.as_bytes().to_vec(), lease: Some(lease) };
        let is_ours = |entry: &Entry| entry.lease == Some(lease);
        let taken = match settle(control, &[condition], &[change], &key, is_ours).await? {
            Transaction::Done(revision) => revision,
            Transaction::Refused(found) => {
                control.etcd().lease_revoke(lease).await.ok();
                let owner = found.into_iter().next().flatten().map(|entry| text(&entry));
                return Err(Error::LockHeld { owner: owner.unwrap_or_default() });
            }
        };
        let lost = Arc::new(AtomicBool::new(false));
        let keeper = tokio::spawn(keep(control.clone(), lease, sent, Arc::clone(&lost)));
        Ok(Self { control: control.clone(), lease, taken, lost, keeper })
    }

    /// Whether the lock is known to be lost. False promises nothing: only a transaction knows.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Begins a plan: there is no other under way, but for a superseded one, and the record is as the plan knows it.
    pub async fn begin(&self, plan: &Plan, superseded: Option<&Superseded>) -> Result<(), Error> {
        check_id(&plan.id)?;
        let key = keys::plan(&self.control, &plan.id);
        let value = serde_json::to_vec(plan).map_err(|error| malformed(&key, error.to_string()))?;
        let record = Revision(plan.record_revision);
        let mut conditions =
            vec![Condition::Unchanged(self.control.record_key(), record), self.held()];
        let current = keys::current(&self.control);
        let mut changes = vec![
            Change::Put { key: key.clone(), value: value.clone(), lease: None },
            Change::Put { key: current.clone(), value: plan.id.clone().into(), lease: None },
        ];
        conditions.push(Condition::Absent(key.clone()));
        if let Some(old) = superseded {
            let entry = self.entry_key(&old.id, old.number)?;
            conditions.push(Condition::Absent(entry.clone()));
            changes.push(Change::Put { key: entry, value: old.value.clone(), lease: None });
        } else {
            conditions.push(Condition::Absent(current));
        }
        self.commit(&conditions, &changes, &key, &value).await.map(drop)
    }

    /// Writes entries of a plan's journal, the first with number `first`, and changes the record with them.
    pub async fn write(
        &self,
        id: &str,
        first: u32,
        values: &[Vec<u8>],
        record: Option<RecordStep<'_>>,
    ) -> Result<Revision, Error> {
        self.append(id, first, values, record, Vec::new()).await
    }

    /// Writes a plan's last entries, and changes the record with them; no plan is under way any more.
    pub async fn finish(
        &self,
        id: &str,
        first: u32,
        values: &[Vec<u8>],
        record: Option<RecordStep<'_>>,
    ) -> Result<Revision, Error> {
        let current = Change::Delete { key: keys::current(&self.control) };
        self.append(id, first, values, record, vec![current]).await
    }

    /// Removes the oldest plans beyond [`MAX_KEPT_PLANS`]; how many.
    pub async fn prune(&self) -> Result<usize, Error> {
        self.prune_to(MAX_KEPT_PLANS).await
    }

    /// The same with another limit.
    pub async fn prune_to(&self, kept: usize) -> Result<usize, Error> {
        let plans = Plans::new(&self.control);
        let (ids, current) = (plans.ids().await?, plans.current_id().await?);
        let excess = ids.len().saturating_sub(kept);
        let old = ids.into_iter().take(excess).filter(|id| Some(id) != current.as_ref());
        let mut removed = 0;
        for id in old {
            let prefix = keys::folder(&self.control, &id);
            let change = Change::DeletePrefix { prefix };
            match self.control.etcd().transact(&[self.held()], vec![change]).await? {
                Transaction::Done(_) => removed += 1,
                Transaction::Refused(_) => return Err(Error::LockLost),
            }
        }
        Ok(removed)
    }

    /// Gives the lock back at once.
    pub async fn release(self) -> Result<(), Error> {
        self.keeper.abort();
        self.control.etcd().lease_revoke(self.lease).await
    }

    async fn append(
        &self,
        id: &str,
        first: u32,
        values: &[Vec<u8>],
        record: Option<RecordStep<'_>>,
        mut changes: Vec<Change>,
    ) -> Result<Revision, Error> {
        let mut conditions = Vec::new();
        if let Some(RecordStep { from, to }) = record {
            from.value.allows(to)?;
            let key = self.control.record_key();
            let value =
                serde_json::to_vec(to).map_err(|error| malformed(&key, error.to_string()))?;
            conditions.push(Condition::Unchanged(key.clone(), from.revision));
            changes.push(Change::Put { key, value, lease: None });
        }
        conditions.push(self.held());
        let mut proof = None;
        for (number, value) in (first..).zip(values) {
            let key = self.entry_key(id, number)?;
            conditions.push(Condition::Absent(key.clone()));
            changes.push(Change::Put { key: key.clone(), value: value.clone(), lease: None });
            proof = Some((key, value));
        }
        let Some((key, value)) = proof else {
            return Err(malformed(id, "a change needs an entry".to_owned()));
        };
        self.commit(&conditions, &changes, &key, value).await
    }

    /// One transaction; a lost answer is looked for under `proof`, which only this transaction writes.
    async fn commit(
        &self,
        conditions: &[Condition],
        changes: &[Change],
        proof: &str,
        value: &[u8],
    ) -> Result<Revision, Error> {
        let is_ours = |entry: &Entry| entry.key == proof && entry.value == value;
        let outcome = settle(&self.control, conditions, changes, proof, is_ours).await?;
        let found = match outcome {
            Transaction::Done(revision) => return Ok(revision),
            Transaction::Refused(found) => found,
        };
        let lock = keys::lock(&self.control);
        let stands = |key: &str| found.iter().flatten().find(|entry| entry.key == key);
        if stands(&lock).is_none_or(|entry| entry.modified != self.taken) {
            self.lost.store(true, Ordering::Relaxed);
            return Err(Error::LockLost);
        }
        let record = self.control.record_key();
        let about_record = conditions.iter().any(|condition| match condition {
            Condition::Unchanged(key, revision) if *key == record => {
                stands(key).is_none_or(|entry| entry.modified != *revision)
            }
            _ => false,
        });
        if about_record {
            return Err(self.control.record_conflict(found)?);
        }
        let other = found.into_iter().flatten().find(|entry| entry.key != lock);
        Err(Error::PlanConflict { key: other.map(|entry| entry.key).unwrap_or_default() })
    }

    fn held(&self) -> Condition {
        Condition::Unchanged(keys::lock(&self.control), self.taken)
    }

    fn entry_key(&self, id: &str, number: u32) -> Result<String, Error> {
        check_id(id)?;
        if (1..=MAX_JOURNAL_ENTRIES).contains(&number) {
            return Ok(keys::entry(&self.control, id, number));
        }
        Err(malformed(id, format!("a journal has at most {MAX_JOURNAL_ENTRIES} entries")))
    }
}

impl Drop for PlanLock {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Keeps the lease alive, and notes when it is gone or may be.
async fn keep(control: ControlClient, lease: LeaseId, mut sent: Instant, lost: Arc<AtomicBool>) {
    let ttl = Duration::from_secs(LOCK_TTL_S.unsigned_abs());
    loop {
        sleep(Duration::from_millis(KEEP_ALIVE_EVERY_MS)).await;
        let sending = Instant::now();
        let kept = control.etcd().lease_keep_alive(lease).await;
        match kept {
            Ok(_) => sent = sending,
            Err(Error::LeaseGone) => break,
            Err(error) if sent.elapsed() < ttl => {
                tracing::warn!(%error, "the plan lock's lease was not kept alive; again");
            }
            Err(_) => break,
        }
    }
    lost.store(true, Ordering::Relaxed);
    tracing::warn!("the plan lock is lost");
}

/// A transaction whose outcome is learnt even if its answer is lost: under `proof` stands what only it writes.
async fn settle(
    control: &ControlClient,
    conditions: &[Condition],
    changes: &[Change],
    proof: &str,
    is_ours: impl Fn(&Entry) -> bool,
) -> Result<Transaction, Error> {
    let begun = Instant::now();
    let mut is_repeated = false;
    loop {
        let error = match control.etcd().transact(conditions, changes.to_vec()).await {
            Ok(Transaction::Refused(found)) => {
                // An earlier attempt may have been carried out after all.
                let ours = found.iter().flatten().find(|entry| is_repeated && is_ours(entry));
                let done = ours.map(|entry| Transaction::Done(entry.modified));
                return Ok(done.unwrap_or(Transaction::Refused(found)));
            }
            Ok(done) => return Ok(done),
            Err(error @ (Error::OutcomeUnknown { .. } | Error::Unavailable { .. })) => error,
            Err(error) => return Err(error),
        };
        if let Ok((Some(entry), _)) = control.etcd().get(proof).await
            && is_ours(&entry)
        {
            return Ok(Transaction::Done(entry.modified));
        }
        if begun.elapsed() >= Duration::from_millis(SETTLE_FOR_MS) {
            return Err(error);
        }
        is_repeated = true;
        sleep(Duration::from_millis(SETTLE_EVERY_MS)).await;
    }
}

fn check_id(id: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=MAX_PLAN_ID_CHARS).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(());
    }
    Err(malformed("plan", format!("{id:?} is not a plan's id")))
}
