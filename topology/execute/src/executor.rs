//! Running plans: the lock, whether a plan may begin, and the run itself.

use crate::abandoned::stopped_by_itself;
use crate::audit::{AuditFile, Verified};
use crate::crash::CrashPoint;
use crate::entry::{Entry, Happened, History, Outcome};
use crate::error::ExecuteError;
use crate::journal::{HeldJournal, Journal, Write};
use crate::progress::Progress;
use crate::run::Run;
use crate::supersede::may_supersede;
use crate::world::World;
use domicile_control::{Error, StoredPlan, Superseded};
use domicile_service::clock::{Clock as _, SystemClock};
use domicile_topology::plan::Plan;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Runs plans against one world, over one journal.
pub struct Executor {
    world: Arc<dyn World>,
    journal: Arc<dyn Journal>,
    owner: String,
    audit: Option<PathBuf>,
    crash: CrashPoint,
    because: Option<PrimaryDead>,
}

/// What an agent that acts by itself has concluded.
#[derive(Debug, Clone, Copy)]
pub struct PrimaryDead {
    /// How long nothing had arrived from the primary.
    pub silence_ms: u64,
    /// When it was concluded.
    pub at: Instant,
}

/// A plan that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its id.
    pub id: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Where it stood then: what each step learnt, and which failed although the plan went on.
    pub history: History,
    /// How long this run took.
    pub elapsed: Duration,
    /// What the audit file holds now.
    pub audit: Option<Verified>,
    /// Why the audit file lacks entries; the journal has them.
    pub audit_fault: Option<String>,
}

impl Finished {
    /// The steps that failed although the plan went on, with the reasons.
    pub fn failures(&self) -> &BTreeMap<usize, String> {
        &self.history.failed
    }
}

impl Executor {
    /// An executor; `owner` is who others are told runs the plan, such as `agent ledger-de`.
    pub fn new(world: Arc<dyn World>, journal: Arc<dyn Journal>, owner: impl Into<String>) -> Self {
        let crash = CrashPoint::from_environment();
        Self { world, journal, owner: owner.into(), audit: None, crash, because: None }
    }

    /// Writes down first why a plan is begun that nobody has asked for.
    #[must_use]
    pub fn because(self, because: PrimaryDead) -> Self {
        Self { because: Some(because), ..self }
    }

    /// Writes every entry to this file as well, chained by hashes.
    #[must_use]
    pub fn with_audit(mut self, path: impl Into<PathBuf>) -> Self {
        self.audit = Some(path.into());
        self
    }

    /// Runs a plan, or goes on with it if it was begun; one that is over is not run again.
    pub async fn run(
        &self,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<Finished, ExecuteError> {
        let lock = self.journal.lock(&self.owner).await?;
        let finished = self.run_locked(&*lock, plan, progress).await;
        release(lock).await;
        finished
    }

    /// Goes on with the plan under way if its executor died: asked under the lock, since it may have stopped, and waited for
    /// a person, after it was looked at.
    pub async fn take_over(&self, progress: &dyn Progress) -> Result<Finished, ExecuteError> {
        let lock = self.journal.lock(&self.owner).await?;
        let finished = match lock.current().await {
            Ok(Some(stored)) if !stopped_by_itself(&stored) => {
                self.go(&*lock, &stored, None, progress).await
            }
            Ok(_) => Err(ExecuteError::NothingToResume),
            Err(error) => Err(error.into()),
        };
        release(lock).await;
        finished
    }

    /// Goes on with the plan under way.
    pub async fn resume(&self, progress: &dyn Progress) -> Result<Finished, ExecuteError> {
        let lock = self.journal.lock(&self.owner).await?;
        let finished = match lock.current().await {
            Ok(Some(stored)) => self.go(&*lock, &stored, None, progress).await,
            Ok(None) => Err(ExecuteError::NothingToResume),
            Err(error) => Err(error.into()),
        };
        release(lock).await;
        finished
    }

    /// Ends the plan under way where it stands. Nobody runs it: the lock is ours meanwhile. Nothing is undone; the next
    /// plan is made from what is observed then.
    pub async fn abandon(&self, id: &str, reason: &str) -> Result<(), ExecuteError> {
        let lock = self.journal.lock(&self.owner).await?;
        let ended = self.abandon_locked(&*lock, id, reason).await;
        release(lock).await;
        ended
    }

    async fn abandon_locked(
        &self,
        lock: &dyn HeldJournal,
        id: &str,
        reason: &str,
    ) -> Result<(), ExecuteError> {
        let stored = lock.current().await?.ok_or(ExecuteError::NothingToResume)?;
        if stored.plan.id != id {
            let verb = stored.plan.intent.verb();
            return Err(ExecuteError::Unfinished { id: stored.plan.id, verb });
        }
        let first = read(&stored)?.next;
        let outcome = Outcome::Abandoned { reason: reason.to_owned() };
        let happened = Happened::Ended { outcome };
        let entry =
            Entry { at_unix_ms: SystemClock.now_unix_ms(), by: self.owner.clone(), happened };
        let value = serde_json::to_vec(&entry).map_err(|error| unreadable(id, &error))?;
        let values = [value];
        lock.write(Write { id, first, values: &values, record: None, is_end: true }).await?;
        let mut audit = AuditFile::open(self.audit.as_deref());
        catch_up(&mut audit, &stored)?;
        audit.entry(id, first, &entry);
        if let (_, Some(fault)) = audit.close().await {
            tracing::error!(plan = id, fault, "the audit file lacks entries");
        }
        Ok(())
    }

    async fn run_locked(
        &self,
        lock: &dyn HeldJournal,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<Finished, ExecuteError> {
        let current = lock.current().await?;
        let known = match current {
            Some(ref stored) if stored.plan.id == plan.id => current.clone(),
            _ => lock.find(&plan.id).await?,
        };
        if let Some(stored) = known {
            if stored.plan != *plan {
                return Err(ExecuteError::OtherPlan { id: plan.id.clone() });
            }
            return self.go(lock, &stored, None, progress).await;
        }
        let replaced = current.map(|stored| self.replace(stored, plan)).transpose()?;
        let superseded = replaced.as_ref().map(|(_, end)| end);
        lock.begin(plan, superseded).await.map_err(|error| stale(error, plan))?;
        let stored = StoredPlan { plan: plan.clone(), journal: Vec::new() };
        self.go(lock, &stored, replaced.map(|(old, _)| old), progress).await
    }

    /// The last entry of the plan that this one takes the place of, if it may.
    fn replace(
        &self,
        mut stored: StoredPlan,
        plan: &Plan,
    ) -> Result<(StoredPlan, Superseded), ExecuteError> {
        let history = read(&stored)?;
        let id = stored.plan.id.clone();
        if !may_supersede(&plan.intent, &stored.plan, &history) {
            return Err(ExecuteError::Unfinished { id, verb: stored.plan.intent.verb() });
        }
        let outcome = Outcome::Superseded { by: plan.id.clone() };
        let happened = Happened::Ended { outcome };
        let entry =
            Entry { at_unix_ms: SystemClock.now_unix_ms(), by: self.owner.clone(), happened };
        let value = serde_json::to_vec(&entry).map_err(|error| unreadable(&id, &error))?;
        let number = history.next;
        let revision = history.record_revision;
        let last = domicile_control::StoredEntry { number, value: value.clone(), revision };
        stored.journal.push(last);
        Ok((stored, Superseded { id, number, value }))
    }

    async fn go(
        &self,
        lock: &dyn HeldJournal,
        stored: &StoredPlan,
        replaced: Option<StoredPlan>,
        progress: &dyn Progress,
    ) -> Result<Finished, ExecuteError> {
        let begun = Instant::now();
        let history = read(stored)?;
        let mut audit = AuditFile::open(self.audit.as_deref());
        for stored in replaced.iter().chain([stored]) {
            catch_up(&mut audit, stored)?;
        }
        let is_over = history.outcome.clone();
        let mut run = Run {
            world: &*self.world,
            lock,
            crash: self.crash,
            owner: &self.owner,
            plan: &stored.plan,
            progress,
            history,
            pending: Vec::new(),
            audit: &mut audit,
            begun,
        };
        let outcome = match is_over {
            Some(outcome) => Ok(outcome),
            None if stored.journal.is_empty() => run.begin(self.because).await,
            None => run.resume().await,
        };
        let history = run.history;
        let (audit, audit_fault) = audit.close().await;
        if let Some(fault) = &audit_fault {
            tracing::error!(plan = stored.plan.id, fault, "the audit file lacks entries");
        }
        let outcome = outcome?;
        if let Err(error) = lock.prune().await {
            tracing::warn!(%error, "old plans were not removed");
        }
        let (id, elapsed) = (stored.plan.id.clone(), begun.elapsed());
        Ok(Finished { id, outcome, history, elapsed, audit, audit_fault })
    }
}

/// Adds what an earlier, killed run may not have written.
fn catch_up(audit: &mut AuditFile, stored: &StoredPlan) -> Result<(), ExecuteError> {
    audit.begins(&stored.plan);
    for entry in &stored.journal {
        let value = serde_json::from_slice(&entry.value);
        let value: Entry = value.map_err(|error| unreadable(&stored.plan.id, &error))?;
        audit.entry(&stored.plan.id, entry.number, &value);
    }
    Ok(())
}

fn read(stored: &StoredPlan) -> Result<History, ExecuteError> {
    History::read(stored).map_err(|error| unreadable(&stored.plan.id, &error))
}

fn unreadable(id: &str, error: &serde_json::Error) -> ExecuteError {
    ExecuteError::Journal { id: id.to_owned(), cause: error.to_string() }
}

fn stale(error: Error, plan: &Plan) -> ExecuteError {
    match error {
        Error::RecordConflict { current } => ExecuteError::Stale {
            planned: plan.record_revision,
            present: current.map_or(0, |current| current.revision.0),
        },
        error => error.into(),
    }
}

async fn release(lock: Box<dyn HeldJournal>) {
    if let Err(error) = lock.release().await {
        tracing::warn!(%error, "the plan lock was not given back; it ends by itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only if an agent can run a plan in a task of its own.
    #[test]
    fn a_run_can_be_spawned() {
        fn is_send(_: impl Send) {}
        let _ = |executor: &Executor, plan: &Plan| {
            is_send(executor.run(plan, &()));
            is_send(executor.resume(&()));
        };
    }
}
