//! Undoing a move that has not reached its new epoch: the demoted node is primary again, and writes are open.

use super::Run;
use crate::entry::{Happened, Outcome};
use crate::error::{ExecuteError, StepError};
use crate::progress::What;
use crate::step::Patience;
use domicile_control::Error;
use domicile_core::epoch::Epoch;
use domicile_core::ids::NodeId;
use domicile_topology::agent_api::UndoDemoteRequest;
use domicile_topology::plan::{Action, RecordChange};
use domicile_topology::record::Writes;

/// How long a demoted node may take to be primary again, milliseconds.
const UNDO_TIMEOUT_MS: u64 = 60_000;
/// How often opening writes is tried while others change the record.
const MAX_ATTEMPTS: u32 = 5;

impl Run<'_> {
    /// Whether a demotion may have taken place.
    pub(super) fn has_demoted(&self) -> bool {
        !self.demotions().is_empty()
    }

    fn demotions(&self) -> Vec<(NodeId, Epoch)> {
        let steps = (1..).zip(&self.plan.steps);
        let begun = steps.filter(|(number, _)| self.history.begun.contains(number));
        let demotions = begun.filter_map(|(_, step)| match &step.action {
            Action::Demote { node, epoch, .. } => Some((node.clone(), *epoch)),
            _ => None,
        });
        demotions.collect()
    }

    /// Undoes the move; all is as it was, and the plan is over.
    pub(super) async fn call_off(&mut self, reason: String) -> Result<Outcome, ExecuteError> {
        self.tell(What::CallingOff { reason: &reason });
        if self.history.calling_off.is_none() {
            self.note(Happened::CallingOff { reason: reason.clone() });
        }
        self.flush().await?;
        self.undo_demotions().await?;
        if !self.reopen().await? {
            return self.end(Outcome::Overtaken, None).await;
        }
        // A demotion that was on its way all the time is refused from here on; one that came in between is undone.
        self.undo_demotions().await?;
        self.end(Outcome::CalledOff { reason }, None).await
    }

    async fn undo_demotions(&mut self) -> Result<(), ExecuteError> {
        for (node, epoch) in self.demotions() {
            let tell = |seen: &str, elapsed| self.tell(What::Waiting { number: 0, seen, elapsed });
            let mut patience = Patience::new(UNDO_TIMEOUT_MS, &tell);
            let request = UndoDemoteRequest { epoch };
            let undone = self
                .ground()
                .insist(&mut patience, |within| self.world.undo_demote(&node, request, within))
                .await;
            match undone {
                Ok(_) => {}
                Err(StepError::LockLost) => return Err(ExecuteError::LockLost),
                Err(error) => {
                    let reason = format!("the demotion of {node} cannot be undone: {error}");
                    return self.stop(0, reason).await;
                }
            }
        }
        Ok(())
    }

    /// Opens writes in the plan's epoch; false when the writer has moved on without this plan.
    async fn reopen(&mut self) -> Result<bool, ExecuteError> {
        for _ in 0..MAX_ATTEMPTS {
            let present = self.read_record().await?;
            if present.value.epoch != self.plan.record.epoch {
                return Ok(false);
            }
            if present.value.writes == Writes::Open {
                return Ok(true);
            }
            let record = RecordChange::OpenWrites.apply(&present.value, None);
            let before = self.history.clone();
            self.note(Happened::Reopened { record: record.clone() });
            match self.write(Some((&present, &record)), false).await {
                Err(ExecuteError::Control(Error::RecordConflict { .. })) => {
                    self.history = before;
                    self.pending.clear();
                }
                written => return written.map(|()| true),
            }
        }
        self.stop(0, "the control record is changed again and again".to_owned()).await
    }
}
