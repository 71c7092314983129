//! One run of a plan: from where its journal says, to its end or to where it stops.
//!
//! Invariants: entries that tell of an effect to come are written before it; what was learnt is written before anything
//! that rests on it is changed. Within that, entries are written together: the end of one step and the beginning of the
//! next are one transaction, and a change of the record is one with the entries around it, because each costs a write
//! on a majority of the control plane while no player can play.

mod call_off;
mod record_step;

use crate::audit::AuditFile;
use crate::crash::{CrashPoint, Side};
use crate::entry::{Entry, Happened, History, Learnt, Outcome};
use crate::error::{ExecuteError, StepError};
use crate::executor::PrimaryDead;
use crate::journal::{HeldJournal, Write};
use crate::precondition;
use crate::progress::{Progress, Report, What};
use crate::side_by_side::together;
use crate::step::{Ground, Patience};
use crate::world::World;
use domicile_control::{Record, RecordStep, Versioned};
use domicile_service::clock::{Clock as _, SystemClock};
use domicile_topology::plan::{Action, Plan, Step, Undo};
use futures_util::future::join_all;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::time::Instant;

/// Whether the plan goes on, or is over.
type Flow = ControlFlow<Outcome>;

/// What one step came to.
type StepOutcome = (usize, Duration, Result<Learnt, StepError>);

/// A plan being run.
pub(crate) struct Run<'a> {
    pub(crate) world: &'a dyn World,
    pub(crate) lock: &'a dyn HeldJournal,
    pub(crate) crash: CrashPoint,
    pub(crate) owner: &'a str,
    pub(crate) plan: &'a Plan,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) history: History,
    /// Entries taken in and not yet written.
    pub(crate) pending: Vec<Entry>,
    pub(crate) audit: &'a mut AuditFile,
    pub(crate) begun: Instant,
}

impl Run<'_> {
    /// Runs a plan that is new.
    pub(crate) async fn begin(
        &mut self,
        because: Option<PrimaryDead>,
    ) -> Result<Outcome, ExecuteError> {
        if let Some(PrimaryDead { silence_ms, at }) = because {
            self.note(Happened::PrimaryDead { silence_ms, before_ms: millis(at.elapsed()) });
        }
        self.go().await
    }

    /// Goes on with one that is not.
    pub(crate) async fn resume(&mut self) -> Result<Outcome, ExecuteError> {
        self.note(Happened::Resumed);
        self.go().await
    }

    /// Runs to the end, or to an error after which the plan can be resumed.
    async fn go(&mut self) -> Result<Outcome, ExecuteError> {
        self.tell(What::Began { over: self.history.done.len() + self.history.failed.len() });
        if let Some(reason) = self.history.calling_off.clone() {
            return self.call_off(reason).await;
        }
        if let ControlFlow::Break(outcome) = self.adopt_record().await? {
            return Ok(outcome);
        }
        while let Some(numbers) = self.next_steps() {
            if let ControlFlow::Break(outcome) = self.advance(&numbers).await? {
                return Ok(outcome);
            }
        }
        self.end(Outcome::Completed, None).await
    }

    /// The numbers of the steps that begin together next.
    fn next_steps(&self) -> Option<Vec<usize>> {
        let open = (1..).zip(&self.plan.steps).filter(|(n, _)| !self.history.is_over(*n));
        let (numbers, steps): (Vec<usize>, Vec<&Step>) = open.unzip();
        let count = together(&steps);
        (count > 0).then(|| numbers.into_iter().take(count).collect())
    }

    fn step(&self, number: usize) -> Option<&Step> {
        self.plan.steps.get(number.checked_sub(1)?)
    }

    async fn advance(&mut self, numbers: &[usize]) -> Result<Flow, ExecuteError> {
        if let [number] = numbers
            && let Some(Step { action: Action::Record { change }, .. }) = self.step(*number)
        {
            let change = change.clone();
            return self.record_step(*number, &change).await;
        }
        let unmet = numbers.iter().find_map(|n| Some((*n, self.unmet(*n, &self.history.record)?)));
        if let Some((number, reason)) = unmet {
            let outcome = Err(StepError::Precondition(reason));
            return self.settle(vec![(number, Duration::ZERO, outcome)]).await;
        }
        self.note_begun(numbers);
        if numbers.iter().any(|number| self.needs_entry(*number)) {
            self.flush().await?;
        }
        for number in numbers {
            self.crash.pass(*number, Side::Before);
        }
        let results = join_all(numbers.iter().map(|number| self.perform(*number))).await;
        for number in numbers {
            self.crash.pass(*number, Side::After);
        }
        self.settle(results).await
    }

    /// Why the step may not begin under this record.
    fn unmet(&self, number: usize, record: &Record) -> Option<String> {
        let step = self.step(number)?;
        precondition::check(self.plan, &self.history, record, &step.action).err()
    }

    /// Whether the step has to be in the journal before it begins: all but the short looks within a pause.
    fn needs_entry(&self, number: usize) -> bool {
        let action = self.step(number).map(|step| &step.action);
        !matches!(action, Some(Action::AwaitReplay { .. } | Action::AwaitWriter { .. }))
    }

    fn note_begun(&mut self, numbers: &[usize]) {
        for step in numbers {
            if self.needs_entry(*step) && !self.history.begun.contains(step) {
                self.note(Happened::Begun { step: *step });
            }
        }
    }

    async fn perform(&self, number: usize) -> StepOutcome {
        let begun = Instant::now();
        let Some(step) = self.step(number) else {
            return (number, Duration::ZERO, Ok(Learnt::Nothing));
        };
        self.tell(What::StepBegun { number, step });
        let tell = |seen: &str, elapsed| self.tell(What::Waiting { number, seen, elapsed });
        let mut patience =
            Patience::new(step.timeout_ms, &tell).dispensable(step.on_failure == Undo::GoOn);
        let outcome = self.ground().perform(&step.action, &mut patience).await;
        let took = begun.elapsed();
        if let Ok(learnt) = &outcome {
            self.tell(What::StepDone { number, learnt, took });
        }
        (number, took, outcome)
    }

    fn ground(&self) -> Ground<'_> {
        Ground { world: self.world, lock: self.lock, plan: self.plan, history: &self.history }
    }

    /// Takes in what steps came to; a failure means what the plan says it means.
    async fn settle(&mut self, results: Vec<StepOutcome>) -> Result<Flow, ExecuteError> {
        let mut fatal = None;
        for (step, took, outcome) in results {
            let took_ms = millis(took);
            match outcome {
                Ok(learnt) => self.note(Happened::Done { step, learnt, took_ms }),
                Err(StepError::LockLost) => return Err(ExecuteError::LockLost),
                Err(error) => {
                    let reason = error.to_string();
                    self.tell(What::StepFailed { number: step, reason: &reason, took });
                    match self.step(step).map(|step| step.on_failure) {
                        Some(Undo::GoOn) => self.note(Happened::Failed { step, reason, took_ms }),
                        undo => fatal = fatal.or(Some((step, undo, reason))),
                    }
                }
            }
        }
        match fatal {
            None => Ok(Flow::Continue(())),
            Some((step, undo, reason)) => self.fail(step, undo, reason).await,
        }
    }

    /// Calls the move off, or stops where it is.
    async fn fail(
        &mut self,
        step: usize,
        undo: Option<Undo>,
        reason: String,
    ) -> Result<Flow, ExecuteError> {
        if undo == Some(Undo::CallOff) && self.history.record.epoch == self.plan.record.epoch {
            let reason = format!("step {step}: {reason}");
            return self.call_off(reason).await.map(ControlFlow::Break);
        }
        self.stop(step, reason).await
    }

    async fn stop<T>(&mut self, step: usize, reason: String) -> Result<T, ExecuteError> {
        self.note(Happened::Stopped { step, reason: reason.clone() });
        self.flush().await?;
        Err(ExecuteError::Stopped { step, reason })
    }

    /// Ends the plan, with a last change of the record if there is one.
    async fn end(
        &mut self,
        outcome: Outcome,
        change: Option<(&Versioned<Record>, &Record)>,
    ) -> Result<Outcome, ExecuteError> {
        self.note(Happened::Ended { outcome: outcome.clone() });
        self.write(change, true).await?;
        self.tell(What::Ended { outcome: &outcome });
        Ok(outcome)
    }

    /// Takes an entry in, to be written with the next.
    fn note(&mut self, happened: Happened) {
        let entry = self.entry(happened);
        self.history.note(&entry);
        self.pending.push(entry);
    }

    fn entry(&self, happened: Happened) -> Entry {
        Entry { at_unix_ms: SystemClock.now_unix_ms(), by: self.owner.to_owned(), happened }
    }

    /// Writes what is not yet written.
    async fn flush(&mut self) -> Result<(), ExecuteError> {
        if self.pending.is_empty() { Ok(()) } else { self.write(None, false).await }
    }

    /// One transaction: all pending entries, and the change of the record.
    async fn write(
        &mut self,
        change: Option<(&Versioned<Record>, &Record)>,
        is_end: bool,
    ) -> Result<(), ExecuteError> {
        let values: Result<Vec<_>, _> = self.pending.iter().map(serde_json::to_vec).collect();
        let unreadable = |error: serde_json::Error| ExecuteError::Journal {
            id: self.plan.id.clone(),
            cause: error.to_string(),
        };
        let values = values.map_err(unreadable)?;
        let record = change.map(|(from, to)| RecordStep { from, to });
        let (id, first) = (self.plan.id.as_str(), self.history.next);
        let write = Write { id, first, values: &values, record, is_end };
        let revision = self.lock.write(write).await?;
        let entries = std::mem::take(&mut self.pending);
        for (number, entry) in (first..).zip(&entries) {
            self.audit.entry(id, number, entry);
        }
        self.history.written(&entries, revision);
        Ok(())
    }

    fn tell(&self, what: What<'_>) {
        self.progress.tell(&Report { plan: self.plan, at: self.begun.elapsed(), what });
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
