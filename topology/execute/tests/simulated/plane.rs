//! The control plane: the record with its real rules, the journal, and the lock.

use crate::cluster::Cluster;
use crate::faults::{Fault, Faults};
use domicile_control::{
    Error, Record, RecordStep, Revision, StoredEntry, StoredPlan, Superseded, Versioned,
};
use domicile_execute::{Answer, HeldJournal, Journal, Write};
use domicile_topology::plan::Plan;
use futures_util::FutureExt as _;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a transaction takes, milliseconds of virtual time.
const TRANSACTION_MS: u64 = 2;

#[derive(Debug, Clone)]
pub(crate) struct Plane {
    pub(crate) revision: i64,
    pub(crate) record: Record,
    pub(crate) record_revision: i64,
    /// Every record there was, with its revision.
    pub(crate) records: Vec<(i64, Record)>,
    /// Who has the lock, under which number.
    pub(crate) lock: Option<(String, u64)>,
    pub(crate) locks: u64,
    pub(crate) current: Option<String>,
    pub(crate) plans: BTreeMap<String, StoredPlan>,
}

impl Plane {
    pub(crate) fn new(record: Record) -> Self {
        record.check().unwrap();
        Self {
            revision: 10,
            record_revision: 10,
            records: vec![(10, record.clone())],
            record,
            lock: None,
            locks: 0,
            current: None,
            plans: BTreeMap::new(),
        }
    }

    pub(crate) fn present(&self) -> Versioned<Record> {
        Versioned { value: self.record.clone(), revision: Revision(self.record_revision) }
    }

    fn held_by(&self, lock: u64) -> Result<(), Error> {
        let is_held = self.lock.as_ref().is_some_and(|(_, number)| *number == lock);
        if is_held { Ok(()) } else { Err(Error::LockLost) }
    }

    fn conflict(&self) -> Error {
        Error::RecordConflict { current: Some(Box::new(self.present())) }
    }

    pub(crate) fn set_record(&mut self, to: &Record) {
        self.record.allows(to).unwrap();
        (self.record, self.record_revision) = (to.clone(), self.revision);
        self.records.push((self.revision, to.clone()));
    }

    fn begin(&mut self, lock: u64, plan: &Plan, old: Option<&Superseded>) -> Result<(), Error> {
        self.held_by(lock)?;
        if plan.record_revision != self.record_revision {
            return Err(self.conflict());
        }
        let replaced = old.map(|old| old.id.clone());
        if self.plans.contains_key(&plan.id) || self.current != replaced {
            return Err(Error::PlanConflict { key: plan.id.clone() });
        }
        if let Some(old) = old {
            self.put(&old.id, old.number, &old.value)?;
        }
        self.revision += 1;
        self.current = Some(plan.id.clone());
        let stored = StoredPlan { plan: plan.clone(), journal: Vec::new() };
        self.plans.insert(plan.id.clone(), stored);
        Ok(())
    }

    fn write(&mut self, lock: u64, write: Write<'_>) -> Result<Revision, Error> {
        self.held_by(lock)?;
        if let Some(RecordStep { from, to }) = write.record {
            from.value.allows(to)?;
            if from.revision.0 != self.record_revision {
                return Err(self.conflict());
            }
        }
        self.revision += 1;
        for (number, value) in (write.first..).zip(write.values) {
            self.put(write.id, number, value)?;
        }
        if let Some(RecordStep { to, .. }) = write.record {
            self.set_record(to);
        }
        if write.is_end {
            self.current = None;
        }
        Ok(Revision(self.revision))
    }

    fn put(&mut self, id: &str, number: u32, value: &[u8]) -> Result<(), Error> {
        let revision = Revision(self.revision);
        let journal = &mut self.plans.get_mut(id).unwrap().journal;
        if journal.iter().any(|entry| entry.number == number) {
            return Err(Error::PlanConflict { key: format!("{id}/{number}") });
        }
        journal.push(StoredEntry { number, value: value.to_vec(), revision });
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct SimulatedJournal {
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    pub(crate) faults: Faults,
}

struct Held {
    journal: SimulatedJournal,
    lock: u64,
}

impl SimulatedJournal {
    /// One request to the control plane, with what goes wrong with it.
    async fn request<T>(
        &self,
        effect: impl FnOnce(&mut Plane) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let operation = "txn";
        let fault = self.faults.next("journal").await;
        tokio::time::sleep(Duration::from_millis(TRANSACTION_MS)).await;
        if matches!(fault, Some(Fault::Refused | Fault::Silent | Fault::Late)) {
            return Err(Error::Unavailable { operation, cause: "simulated".to_owned() });
        }
        let outcome = {
            let mut cluster = self.cluster.lock().unwrap();
            cluster.tick();
            effect(&mut cluster.plane)
        };
        self.faults.after(fault).await;
        if fault == Some(Fault::AnswerLost) {
            return Err(Error::OutcomeUnknown { operation, cause: "simulated".to_owned() });
        }
        outcome
    }
}

impl Journal for SimulatedJournal {
    fn lock<'a>(&'a self, owner: &'a str) -> Answer<'a, Box<dyn HeldJournal>> {
        let taken = self.request(move |plane| {
            if let Some((owner, _)) = &plane.lock {
                return Err(Error::LockHeld { owner: owner.clone() });
            }
            plane.locks += 1;
            plane.lock = Some((owner.to_owned(), plane.locks));
            Ok(plane.locks)
        });
        async move {
            let held: Box<dyn HeldJournal> =
                Box::new(Held { lock: taken.await?, journal: self.clone() });
            Ok(held)
        }
        .boxed()
    }
}

impl HeldJournal for Held {
    fn is_lost(&self) -> bool {
        false
    }

    fn current(&self) -> Answer<'_, Option<StoredPlan>> {
        let read = |plane: &mut Plane| {
            let id = plane.current.as_ref();
            Ok(id.and_then(|id| plane.plans.get(id).cloned()))
        };
        self.journal.request(read).boxed()
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<StoredPlan>> {
        self.journal.request(|plane| Ok(plane.plans.get(id).cloned())).boxed()
    }

    fn begin<'a>(&'a self, plan: &'a Plan, superseded: Option<&'a Superseded>) -> Answer<'a, ()> {
        self.journal.request(move |plane| plane.begin(self.lock, plan, superseded)).boxed()
    }

    fn write<'a>(&'a self, write: Write<'a>) -> Answer<'a, Revision> {
        self.journal.request(move |plane| plane.write(self.lock, write)).boxed()
    }

    fn prune(&self) -> Answer<'_, usize> {
        async { Ok(0) }.boxed()
    }

    fn release(self: Box<Self>) -> Answer<'static, ()> {
        async move {
            let lock = self.lock;
            let free = |plane: &mut Plane| {
                if plane.held_by(lock).is_ok() {
                    plane.lock = None;
                }
                Ok(())
            };
            self.journal.request(free).await
        }
        .boxed()
    }
}
