//! Steps that change the control record, and what happens when somebody else has changed it.

use super::{Flow, Run, millis};
use crate::crash::Side;
use crate::entry::{Happened, Learnt, Outcome};
use crate::error::{ExecuteError, StepError};
use crate::progress::What;
use crate::step::Patience;
use crate::world::WorldError;
use domicile_control::{Error, Record, Versioned};
use domicile_topology::document::Durability;
use domicile_topology::plan::{Action, RecordChange, Undo};
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How often a change is tried again because the record was changed in a way that does not matter to the plan.
const MAX_ATTEMPTS: u32 = 3;

/// The longest wait for the control record, milliseconds.
const READ_TIMEOUT_MS: u64 = 10_000;

impl Run<'_> {
    /// The control record as it stands now.
    pub(super) async fn read_record(&self) -> Result<Versioned<Record>, ExecuteError> {
        let limit = Duration::from_millis(READ_TIMEOUT_MS);
        let silent =
            || WorldError::Unanswered("the control record was not read in time".to_owned());
        Ok(timeout(limit, self.world.record()).await.unwrap_or_else(|_| Err(silent()))?)
    }

    /// Reads the record; goes on under it if the writer stands where this plan left it.
    pub(super) async fn adopt_record(&mut self) -> Result<Flow, ExecuteError> {
        let present = self.read_record().await?;
        if present.revision == self.history.record_revision {
            return Ok(Flow::Continue(()));
        }
        let stands = |record: &Record| (record.epoch, record.writer_node.clone(), record.writes);
        if stands(&present.value) != stands(&self.history.record) {
            return self.overtaken(&present.value).await.map(ControlFlow::Break);
        }
        self.history.record = present.value;
        self.history.record_revision = present.revision;
        Ok(Flow::Continue(()))
    }

    /// Somebody else moved the writer, or opened or closed its work.
    async fn overtaken(&mut self, present: &Record) -> Result<Outcome, ExecuteError> {
        if present.epoch == self.plan.record.epoch && self.has_demoted() {
            let reason = "somebody else changed the control record".to_owned();
            return self.call_off(reason).await;
        }
        self.end(Outcome::Overtaken, None).await
    }

    /// One change of the record, in one transaction with its entry and with the beginning of what follows.
    pub(super) async fn record_step(
        &mut self,
        number: usize,
        change: &RecordChange,
    ) -> Result<Flow, ExecuteError> {
        let begun = Instant::now();
        if let Some(step) = self.step(number) {
            self.tell(What::StepBegun { number, step });
        }
        for _ in 0..MAX_ATTEMPTS {
            let to = match self.record_after(number, change).await {
                Ok(to) => to,
                Err(error) => {
                    return self.settle(vec![(number, begun.elapsed(), Err(error))]).await;
                }
            };
            self.crash.pass(number, Side::Before);
            match self.write_record(number, to, begun).await {
                Ok(()) => {
                    self.crash.pass(number, Side::After);
                    return Ok(Flow::Continue(()));
                }
                Err(ExecuteError::Control(Error::RecordConflict { .. })) => {
                    if let ControlFlow::Break(outcome) = self.adopt_record().await? {
                        return Ok(Flow::Break(outcome));
                    }
                }
                Err(ExecuteError::Control(Error::Record(fault))) => {
                    return self.refused(number, change, fault.to_string(), begun).await;
                }
                Err(error) => return Err(error),
            }
        }
        let reason = "the control record is changed again and again".to_owned();
        self.refused(number, change, reason, begun).await
    }

    /// Nothing was written. A move that has not reached its new epoch is undone, rather than left with writes closed.
    async fn refused(
        &mut self,
        number: usize,
        change: &RecordChange,
        reason: String,
        begun: Instant,
    ) -> Result<Flow, ExecuteError> {
        let may_undo = matches!(change, RecordChange::NewEpoch { .. })
            && self.plan.steps.iter().any(|step| step.on_failure == Undo::CallOff);
        if may_undo {
            let took = begun.elapsed();
            self.tell(What::StepFailed { number, reason: &reason, took });
            return self.fail(number, Some(Undo::CallOff), reason).await;
        }
        self.settle(vec![(number, begun.elapsed(), Err(StepError::Refused(reason)))]).await
    }

    /// What the record becomes; before it promises two copies, the second one is seen.
    async fn record_after(
        &self,
        number: usize,
        change: &RecordChange,
    ) -> Result<Record, StepError> {
        let joined = match change {
            RecordChange::SetDurability { durability: Durability::Two, standby: Some(standby) } => {
                self.history.synchronous(standby).cloned()
            }
            _ => None,
        };
        let to = change.apply(&self.history.record, joined);
        let promises = match change {
            RecordChange::SetPromotable => true,
            RecordChange::SetDurability { durability, .. } => *durability == Durability::Two,
            _ => false,
        };
        if promises {
            let timeout_ms = self.step(number).map_or(0, |step| step.timeout_ms);
            let tell = |seen: &str, elapsed| self.tell(What::Waiting { number, seen, elapsed });
            let mut patience = Patience::new(timeout_ms, &tell);
            self.ground().is_synchronous(&to, &mut patience).await?;
        }
        Ok(to)
    }

    async fn write_record(
        &mut self,
        number: usize,
        to: Record,
        begun: Instant,
    ) -> Result<(), ExecuteError> {
        let (from, before, waiting) =
            (self.history.present(), self.history.clone(), self.pending.len());
        let took = begun.elapsed();
        let is_change = from.value != to;
        let learnt =
            if is_change { Learnt::Record { record: to.clone() } } else { Learnt::Nothing };
        let took_ms = millis(took);
        self.note(Happened::Done { step: number, learnt: learnt.clone(), took_ms });
        self.note_next_begun();
        let written = self.write(is_change.then_some((&from, &to)), false).await;
        if written.is_err() {
            self.history = before;
            self.pending.truncate(waiting);
        } else {
            self.tell(What::StepDone { number, learnt: &learnt, took: begun.elapsed() });
        }
        written
    }

    /// What follows begins with the same transaction, if it may.
    fn note_next_begun(&mut self) {
        let Some(numbers) = self.next_steps() else { return };
        let is_record = |number: &usize| {
            matches!(self.step(*number).map(|step| &step.action), Some(Action::Record { .. }))
        };
        let is_free = |number: &usize| self.unmet(*number, &self.history.record).is_none();
        if numbers.iter().all(|number| !is_record(number) && is_free(number)) {
            self.note_begun(&numbers);
        }
    }
}
