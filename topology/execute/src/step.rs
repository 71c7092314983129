//! One step: its effect through a node's agent, asked for until it is there, or its postcondition, looked for.
//!
//! Invariants: nothing is asked for again once the lock is known to be lost; every wait ends with the step's time.

use crate::entry::{History, Learnt};
use crate::error::StepError;
use crate::journal::HeldJournal;
use crate::precondition;
use crate::world::{Call, World, WorldError};
use domicile_core::error::Code;
use domicile_core::ids::NodeId;
use domicile_topology::agent_api::{
    DemoteRequest, DropSlotsRequest, EpochOpenRequest, PromoteRequest, SlotRequest,
    SubscriptionsRequest, SyncRequest,
};
use domicile_topology::observed::StandbyStatus;
use domicile_topology::plan::{Action, Plan};
use domicile_topology::{Member, Record};
use futures_util::FutureExt as _;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

mod look;

/// The pause before the second attempt or look, milliseconds; each pause after is a tenth of the time so far …
const FIRST_PAUSE_MS: u64 = 5;
/// … up to this, milliseconds.
const LONGEST_PAUSE_MS: u64 = 250;
/// How long an agent may still refuse because the control record has not reached it, milliseconds.
const REFUSAL_GRACE_MS: u64 = 1_000;
/// How often an operation may fail before the step does.
const MAX_FAILURES: u32 = 5;
/// How long a node that is not reached holds up a step that the plan can do without, milliseconds.
const DISPENSABLE_MS: u64 = 3_000;
/// How often somebody who looks on is told what is waited for, milliseconds.
const TELL_EVERY_MS: u64 = 200;

/// What a step is done with.
pub(crate) struct Ground<'a> {
    pub(crate) world: &'a dyn World,
    pub(crate) lock: &'a dyn HeldJournal,
    pub(crate) plan: &'a Plan,
    pub(crate) history: &'a History,
}

/// A step's time, and who is told what it waits for.
pub(crate) struct Patience<'a> {
    begun: Instant,
    /// The plan goes on without this step.
    is_dispensable: bool,
    timeout_ms: u64,
    told: Option<Instant>,
    tell: &'a (dyn Fn(&str, Duration) + Sync),
}

impl<'a> Patience<'a> {
    pub(crate) fn new(timeout_ms: u64, tell: &'a (dyn Fn(&str, Duration) + Sync)) -> Self {
        Self { begun: Instant::now(), is_dispensable: false, timeout_ms, told: None, tell }
    }

    /// For a step that the plan can do without: a dead reader must not keep redundancy waiting.
    pub(crate) fn dispensable(self, is_dispensable: bool) -> Self {
        Self { is_dispensable, ..self }
    }

    /// As much time for something that goes on beside.
    pub(crate) fn another(&self) -> Self {
        Self { told: None, ..*self }
    }

    fn is_in_vain(&self, error: &WorldError) -> bool {
        let is_over = self.begun.elapsed() >= Duration::from_millis(DISPENSABLE_MS);
        self.is_dispensable && is_over && matches!(error, WorldError::Unreachable(_))
    }

    fn left(&self) -> Duration {
        Duration::from_millis(self.timeout_ms).saturating_sub(self.begun.elapsed())
    }

    /// Pauses, or ends when the time is over.
    pub(crate) async fn pause(&mut self, seen: &str) -> Result<(), StepError> {
        let elapsed = self.begun.elapsed();
        let left = self.left();
        if left.is_zero() {
            return Err(StepError::TimedOut { timeout_ms: self.timeout_ms, seen: seen.to_owned() });
        }
        if self.told.is_none_or(|told| told.elapsed() >= Duration::from_millis(TELL_EVERY_MS)) {
            self.told = Some(Instant::now());
            (self.tell)(seen, elapsed);
        }
        let (first, longest) = (FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
        let pause = elapsed / 10;
        sleep(pause.clamp(Duration::from_millis(first), Duration::from_millis(longest)).min(left))
            .await;
        Ok(())
    }
}

/// One look at a postcondition.
pub(crate) enum Look<T> {
    /// It holds.
    Holds(T),
    /// Not yet; what was seen instead.
    NotYet(String),
}

impl Ground<'_> {
    /// Does the step and observes that it is done.
    pub(crate) async fn perform(
        &self,
        action: &Action,
        patience: &mut Patience<'_>,
    ) -> Result<Learnt, StepError> {
        let world = self.world;
        match action {
            Action::Checkpoint { node } => {
                let answer = self.insist(patience, |within| world.checkpoint(node, within)).await?;
                Ok(Learnt::Checkpointed { checkpoint_lsn: answer.checkpoint_lsn })
            }
            Action::Slot { node, member } => {
                let request = || SlotRequest { member: member.clone() };
                self.insist(patience, |within| world.slot(node, request(), within)).await?;
                Ok(Learnt::Nothing)
            }
            Action::Demote { node, epoch, source, member, drain_timeout_ms } => {
                let request = || DemoteRequest {
                    epoch: *epoch,
                    source: source.clone(),
                    member: member.clone(),
                    drain_timeout_ms: *drain_timeout_ms,
                };
                let answer =
                    self.insist(patience, |within| world.demote(node, request(), within)).await?;
                let (end_lsn, timeline) = (answer.end_lsn, answer.timeline);
                Ok(Learnt::Demoted { end_lsn, timeline, silent_writers: answer.silent_writers })
            }
            Action::Promote { node, epoch } => {
                let request = PromoteRequest { epoch: *epoch };
                let answer =
                    self.insist(patience, |within| world.promote(node, request, within)).await?;
                Ok(Learnt::Promoted { timeline: answer.timeline, begin_lsn: answer.begin_lsn })
            }
            Action::Rejoin { node } => {
                let answer = self.insist(patience, |within| world.rejoin(node, within)).await?;
                let (how, member, orphans) = (answer.how, answer.member, answer.orphans);
                Ok(Learnt::Rejoined { how, member, orphans })
            }
            Action::Sync { node, standby } => self.synchronize(patience, node, standby).await,
            Action::SyncOff { node } => {
                let request = || SyncRequest { member: None };
                self.insist(patience, |within| world.sync(node, request(), within)).await?;
                Ok(Learnt::Nothing)
            }
            Action::OpenEpoch { node, epoch } => {
                let request = || EpochOpenRequest { epoch: *epoch };
                self.insist(patience, |within| world.open_epoch(node, request(), within)).await?;
                Ok(Learnt::Nothing)
            }
            Action::Subscriptions { node, reseed } => {
                let request = || SubscriptionsRequest { reseed: reseed.iter().cloned().collect() };
                let answer = self
                    .insist(patience, |within| world.subscriptions(node, request(), within))
                    .await?;
                let (publisher, subscriptions) = (answer.publisher, answer.subscriptions);
                Ok(Learnt::Following { publisher, subscriptions })
            }
            Action::DropSlots { node, reader } => {
                let request = || DropSlotsRequest { reader: reader.clone() };
                let answer = self
                    .insist(patience, |within| world.drop_slots(node, request(), within))
                    .await?;
                Ok(Learnt::Dropped { slots: answer.dropped })
            }
            Action::AwaitReplay { .. }
            | Action::AwaitLeaseEnd { .. }
            | Action::AwaitLeaseEnforced { .. }
            | Action::AwaitWriter { .. }
            | Action::AwaitSlots { .. } => self.look_for(action, patience).await,
            // Written together with its entry, by the run itself.
            Action::Record { .. } => Ok(Learnt::Nothing),
        }
    }

    /// Names the member that the standby states now, and sees that it has confirmed.
    async fn synchronize(
        &self,
        patience: &mut Patience<'_>,
        node: &NodeId,
        standby: &NodeId,
    ) -> Result<Learnt, StepError> {
        let member = self
            .until(patience, || {
                let look = async move {
                    Ok(match self.world.status(standby).await?.postgres.member {
                        Some(member) => Look::Holds(member),
                        None => Look::NotYet(format!("{standby} does not say under which member")),
                    })
                };
                look.boxed()
            })
            .await?;
        let recorded = self.history.record.sync_member.as_ref();
        if recorded.is_some_and(|recorded| recorded.node == *standby && *recorded != member) {
            let reason = format!("{standby} follows as another member than the record's");
            return Err(StepError::Precondition(reason));
        }
        let request = || SyncRequest { member: Some(member.clone()) };
        let answer =
            self.insist(patience, |within| self.world.sync(node, request(), within)).await?;
        match answer.confirmed_lsn.filter(|confirmed| *confirmed >= answer.current_lsn) {
            Some(confirmed_lsn) if answer.member.as_ref() == Some(&member) => {
                Ok(Learnt::Synchronous { member, confirmed_lsn })
            }
            _ => Err(StepError::Refused(format!("{standby} has not confirmed"))),
        }
    }

    /// Before two copies are promised: the member that confirms does so now.
    pub(crate) async fn is_synchronous(
        &self,
        record: &Record,
        patience: &mut Patience<'_>,
    ) -> Result<(), StepError> {
        let Some(member) = &record.sync_member else {
            return Err(StepError::Precondition(
                "no member was observed as synchronous".to_owned(),
            ));
        };
        self.until(patience, || self.confirms(&record.writer_node, member).boxed()).await
    }

    async fn confirms(&self, primary: &NodeId, member: &Member) -> Result<Look<()>, WorldError> {
        let status = self.world.status(primary).await?;
        let confirms = status.standby(member).is_some_and(StandbyStatus::is_synchronous);
        let is_named = status.postgres.sync_member.as_ref() == Some(member);
        Ok(if confirms && is_named {
            Look::Holds(())
        } else {
            Look::NotYet(format!("{} is not synchronous", member.node))
        })
    }

    /// Asks until the answer is there, the refusal is final, or the time is over.
    pub(crate) async fn insist<'b, T>(
        &self,
        patience: &mut Patience<'_>,
        call: impl Fn(Duration) -> Call<'b, T> + Send + Sync,
    ) -> Result<T, StepError> {
        let mut failures = 0;
        let mut seen = String::from("nothing yet");
        loop {
            if self.lock.is_lost() {
                return Err(StepError::LockLost);
            }
            let within = patience.left();
            let outcome = timeout(within, call(within)).await;
            match outcome.unwrap_or_else(|_| Err(WorldError::Unanswered("in time".to_owned()))) {
                Ok(answer) => return Ok(answer),
                Err(WorldError::Control(error)) if !is_away(&error) => {
                    return Err(StepError::Refused(error.to_string()));
                }
                Err(WorldError::Refused { code, detail }) => {
                    failures += u32::from(code == Some(Code::StepFailed));
                    if !may_pass(code, failures, patience.begun.elapsed()) {
                        return Err(StepError::Refused(detail));
                    }
                    seen = detail;
                }
                Err(error) if patience.is_in_vain(&error) => {
                    return Err(StepError::Refused(error.to_string()));
                }
                // The first cause tells more than the last attempt's want of time.
                Err(error) if !within.is_zero() => seen = error.to_string(),
                Err(_) => {}
            }
            patience.pause(&seen).await?;
        }
    }

    /// Looks until the condition holds or the time is over; what cannot be seen does not hold.
    pub(crate) async fn until<'b, T>(
        &self,
        patience: &mut Patience<'_>,
        look: impl Fn() -> Call<'b, Look<T>> + Send + Sync,
    ) -> Result<T, StepError> {
        loop {
            if self.lock.is_lost() {
                return Err(StepError::LockLost);
            }
            let seen = match timeout(patience.left(), look()).await {
                Ok(Ok(Look::Holds(value))) => return Ok(value),
                Ok(Ok(Look::NotYet(seen))) => seen,
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "no answer in time".to_owned(),
            };
            patience.pause(&seen).await?;
        }
    }
}

/// Whether an agent that answered so may answer otherwise soon.
fn may_pass(code: Option<Code>, failures: u32, elapsed: Duration) -> bool {
    match code {
        Some(Code::NodeBusy | Code::ControlUnavailable) => true,
        Some(Code::NodeState | Code::WriterNotNamed) => {
            elapsed < Duration::from_millis(REFUSAL_GRACE_MS)
        }
        Some(Code::StepFailed) => failures < MAX_FAILURES,
        _ => false,
    }
}

fn is_away(error: &domicile_control::Error) -> bool {
    use domicile_control::Error;
    matches!(error, Error::Unavailable { .. } | Error::OutcomeUnknown { .. })
}
