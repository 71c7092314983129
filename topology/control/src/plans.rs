//! Plans under way and plans that ended, each with its journal, and the lock that lets one executor write them.
//!
//! Keys: `plan/lock` (the executor's name, on a lease), `plan/current` (the id of the plan under way),
//! `plan/<id>/plan`, `plan/<id>/journal/<nnnn>`; and `operations/entered`, up to which plan the operations log knows them;
//! empty once that was taken back.
//! Invariants: every change of a plan is one transaction that requires the lock to be
//! the one taken, so that an executor that slept through its lease changes nothing; a change of the control record and
//! the journal entry about it are the same transaction, and so have the same revision; an entry is never rewritten; a
//! note of what is entered replaces the one that its writer has seen, and no other.
//! Deliberately absent: what an entry says. That is the executor's.

mod lock;

pub use lock::{PlanLock, RecordStep, Superseded};

use crate::client::ControlClient;
use crate::error::Error;
use crate::etcd::{Change, Condition, Entry, Revision, Transaction};
use domicile_topology::plan::Plan;

/// How long the lock outlives an executor that fell silent, seconds.
pub const LOCK_TTL_S: i64 = 10;
/// Most plans kept, with their journals; the oldest goes first.
pub const MAX_KEPT_PLANS: usize = 50;
/// Most entries of one journal.
pub const MAX_JOURNAL_ENTRIES: u32 = 9_999;
/// How long a lost answer is asked after, milliseconds.
pub const SETTLE_FOR_MS: u64 = 15_000;
/// Most characters of a plan's id.
pub const MAX_PLAN_ID_CHARS: usize = 64;

/// The plans of one cluster; clones share connections.
#[derive(Debug, Clone)]
pub struct Plans {
    control: ControlClient,
}

/// A plan with its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPlan {
    /// The plan.
    pub plan: Plan,
    /// Its journal, in order.
    pub journal: Vec<StoredEntry>,
}

/// A note of which plans the operations log knows, as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entered {
    /// The last of them; `None` when nothing was noted, or what was is forgotten.
    pub up_to: Option<String>,
    revision: Option<Revision>,
}

/// An entry of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its number; the first is 1.
    pub number: u32,
    /// What it says.
    pub value: Vec<u8>,
    /// When it was written; equal to the control record's revision if that was changed with it.
    pub revision: Revision,
}

impl Plans {
    /// The plans that this client reaches.
    pub fn new(control: &ControlClient) -> Self {
        Self { control: control.clone() }
    }

    /// Takes the lock for `owner`; [`Error::LockHeld`] tells who has it.
    pub async fn lock(&self, owner: &str) -> Result<PlanLock, Error> {
        PlanLock::take(&self.control, owner).await
    }

    /// Who has the lock.
    pub async fn owner(&self) -> Result<Option<String>, Error> {
        let (entry, _) = self.control.etcd().get(&keys::lock(&self.control)).await?;
        Ok(entry.map(|entry| text(&entry)))
    }

    /// The plan under way, whoever runs it and whether anybody does.
    pub async fn current(&self) -> Result<Option<StoredPlan>, Error> {
        match self.current_id().await? {
            Some(id) => self.find(&id).await,
            None => Ok(None),
        }
    }

    /// The id of the plan under way.
    pub async fn current_id(&self) -> Result<Option<String>, Error> {
        let (entry, _) = self.control.etcd().get(&keys::current(&self.control)).await?;
        Ok(entry.map(|entry| text(&entry)))
    }

    /// A kept plan.
    pub async fn find(&self, id: &str) -> Result<Option<StoredPlan>, Error> {
        let prefix = keys::folder(&self.control, id);
        let plan_key = keys::plan(&self.control, id);
        let (mut plan, mut journal) = (None, Vec::new());
        for entry in self.control.etcd().list(&prefix).await? {
            if entry.key == plan_key {
                let decoded = serde_json::from_slice(&entry.value);
                plan = Some(decoded.map_err(|error| malformed(&entry.key, error.to_string()))?);
            } else {
                journal.push(stored_entry(entry)?);
            }
        }
        Ok(plan.map(|plan| StoredPlan { plan, journal }))
    }

    /// The ids of all kept plans, oldest first.
    pub async fn ids(&self) -> Result<Vec<String>, Error> {
        let prefix = keys::all(&self.control);
        let mut found: Vec<(Revision, String)> = Vec::new();
        for entry in self.control.etcd().list_keys(&prefix).await? {
            let name = entry.key.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("/plan"));
            found.extend(name.map(|id| (entry.created, id.to_owned())));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// The plan up to which all that were over are in the operations log, for those who enter them.
    pub async fn entered(&self) -> Result<Entered, Error> {
        let (entry, _) = self.control.etcd().get(&keys::entered(&self.control)).await?;
        Ok(entry.map(|entry| Entered::of(&entry)).unwrap_or_default())
    }

    /// Takes that back: entries were lost, and whoever enters plans has to tell of all that are kept again. An empty note
    /// stays, so that who has looked before cannot note anything after.
    pub async fn forget_entered(&self) -> Result<(), Error> {
        let key = keys::entered(&self.control);
        self.control.etcd().put(&key, Vec::new(), None).await.map(drop)
    }

    /// Notes that, in the place of the note that was seen; false when another stands there by now. A note that is lost
    /// costs a repetition that changes nothing.
    pub async fn note_entered(&self, seen: &Entered, id: &str) -> Result<bool, Error> {
        let key = keys::entered(&self.control);
        let condition = match seen.revision {
            Some(revision) => Condition::Unchanged(key.clone(), revision),
            None => Condition::Absent(key.clone()),
        };
        let change = Change::Put { key, value: id.as_bytes().to_vec(), lease: None };
        let noted = self.control.etcd().transact(&[condition], vec![change]).await?;
        Ok(matches!(noted, Transaction::Done(_)))
    }
}

impl Entered {
    fn of(entry: &Entry) -> Self {
        let up_to = Some(text(entry)).filter(|id| !id.is_empty());
        Self { up_to, revision: Some(entry.modified) }
    }

    /// Whether what was noted was taken back since this one was read.
    pub fn is_forgotten_in(&self, now: &Self) -> bool {
        now.up_to.is_none() && now.revision != self.revision
    }
}

fn stored_entry(entry: Entry) -> Result<StoredEntry, Error> {
    let number = entry.key.rsplit('/').next().and_then(|digits| digits.parse().ok());
    match number {
        Some(number) => Ok(StoredEntry { number, value: entry.value, revision: entry.modified }),
        None => Err(malformed(&entry.key, "not a journal entry".to_owned())),
    }
}

fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.value).into_owned()
}

fn malformed(key: &str, cause: String) -> Error {
    Error::Malformed { key: key.to_owned(), cause }
}

/// The names of the keys.
mod keys {
    use crate::client::ControlClient;

    pub(super) fn all(control: &ControlClient) -> String {
        control.key("plan/")
    }

    pub(super) fn lock(control: &ControlClient) -> String {
        control.key("plan/lock")
    }

    pub(super) fn current(control: &ControlClient) -> String {
        control.key("plan/current")
    }

    pub(super) fn entered(control: &ControlClient) -> String {
        control.key("operations/entered")
    }

    pub(super) fn folder(control: &ControlClient, id: &str) -> String {
        control.key(&format!("plan/{id}/"))
    }

    pub(super) fn plan(control: &ControlClient, id: &str) -> String {
        control.key(&format!("plan/{id}/plan"))
    }

    pub(super) fn entry(control: &ControlClient, id: &str, number: u32) -> String {
        control.key(&format!("plan/{id}/journal/{number:04}"))
    }
}
