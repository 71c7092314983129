//! The durable journal, as a trait: etcd in earnest, a simulated one in tests.

use domicile_control::{
    ControlClient, Error, PlanLock, Plans, RecordStep, Revision, StoredPlan, Superseded, patiently,
};
use domicile_topology::plan::Plan;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

/// An answer of the journal.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// Where journals are kept.
pub trait Journal: Send + Sync {
    /// Takes the lock, or says who has it.
    fn lock<'a>(&'a self, owner: &'a str) -> Answer<'a, Box<dyn HeldJournal>>;
}

/// Entries to be written in one transaction, with a change of the control record if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// The plan's id.
    pub id: &'a str,
    /// The number of the first entry.
    pub first: u32,
    /// The entries.
    pub values: &'a [Vec<u8>],
    /// The change of the record.
    pub record: Option<RecordStep<'a>>,
    /// Whether the plan is over with these.
    pub is_end: bool,
}

/// The journal while the lock is held.
pub trait HeldJournal: Send + Sync {
    /// Whether the lock is known to be lost.
    fn is_lost(&self) -> bool;

    /// The plan under way.
    fn current(&self) -> Answer<'_, Option<StoredPlan>>;

    /// A kept plan.
    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<StoredPlan>>;

    /// Begins a plan, alone or in another one's place, under the very record it was made for.
    fn begin<'a>(&'a self, plan: &'a Plan, superseded: Option<&'a Superseded>) -> Answer<'a, ()>;

    /// Writes entries; the revision is the record's too if that was changed.
    fn write<'a>(&'a self, write: Write<'a>) -> Answer<'a, Revision>;

    /// Removes the oldest plans beyond the limit.
    fn prune(&self) -> Answer<'_, usize>;

    /// Gives the lock back.
    fn release(self: Box<Self>) -> Answer<'static, ()>;
}

/// The journal in the control plane.
#[derive(Debug, Clone)]
pub struct EtcdJournal {
    plans: Plans,
}

impl EtcdJournal {
    /// The journal that this client reaches.
    pub fn new(control: &ControlClient) -> Self {
        Self { plans: Plans::new(control) }
    }
}

impl Journal for EtcdJournal {
    fn lock<'a>(&'a self, owner: &'a str) -> Answer<'a, Box<dyn HeldJournal>> {
        async move {
            let lock = self.plans.lock(owner).await?;
            let held: Box<dyn HeldJournal> = Box::new(EtcdHeld { plans: self.plans.clone(), lock });
            Ok(held)
        }
        .boxed()
    }
}

struct EtcdHeld {
    plans: Plans,
    lock: PlanLock,
}

impl HeldJournal for EtcdHeld {
    fn is_lost(&self) -> bool {
        self.lock.is_lost()
    }

    fn current(&self) -> Answer<'_, Option<StoredPlan>> {
        patiently(|| self.plans.current()).boxed()
    }

    fn find<'a>(&'a self, id: &'a str) -> Answer<'a, Option<StoredPlan>> {
        patiently(|| self.plans.find(id)).boxed()
    }

    fn begin<'a>(&'a self, plan: &'a Plan, superseded: Option<&'a Superseded>) -> Answer<'a, ()> {
        self.lock.begin(plan, superseded).boxed()
    }

    fn write<'a>(&'a self, write: Write<'a>) -> Answer<'a, Revision> {
        let Write { id, first, values, record, is_end } = write;
        if is_end {
            self.lock.finish(id, first, values, record).boxed()
        } else {
            self.lock.write(id, first, values, record).boxed()
        }
    }

    fn prune(&self) -> Answer<'_, usize> {
        self.lock.prune().boxed()
    }

    fn release(self: Box<Self>) -> Answer<'static, ()> {
        self.lock.release().boxed()
    }
}
