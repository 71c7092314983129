//! What a plan's run looked like: its steps with their times, and where the data was after each.

use super::evidence;
use super::report::{Event, Held, StepRun};
use crate::moves::{Mover, progress, words};
use domicile_execute::{Progress, Report, What};
use domicile_service::clock::{Clock as _, SystemClock};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Most steps that wait for being looked at.
const QUEUE_MAX_STEPS: usize = 256;
/// Pause between two looks, so that looking does not slow down what is looked at: about one falls into a move.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The drill's clock and everything noted by it.
pub(crate) struct Timeline {
    began: Instant,
    began_unix_ms: u64,
    events: Mutex<Vec<Event>>,
}

impl Timeline {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        let began_unix_ms = SystemClock.now_unix_ms();
        Self { began: Instant::now(), began_unix_ms, events: Mutex::default() }
    }

    /// When it began.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// When that was by the wall clock, which places what others have written down.
    pub(crate) const fn began_unix_ms(&self) -> u64 {
        self.began_unix_ms
    }

    /// Milliseconds since it began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Notes what happens now, and says when that is.
    pub(crate) fn note(&self, what: impl Into<String>) -> u64 {
        let at_ms = self.now_ms();
        lock(&self.events).push(Event { at_ms, what: what.into() });
        at_ms
    }

    /// Everything noted, in order.
    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens to one run.
pub(crate) struct Recorder<'a> {
    timeline: &'a Timeline,
    steps: Mutex<BTreeMap<usize, StepRun>>,
    over: mpsc::Sender<usize>,
}

impl<'a> Recorder<'a> {
    /// A recorder, and where it tells which steps are over.
    pub(crate) fn new(timeline: &'a Timeline) -> (Self, mpsc::Receiver<usize>) {
        let (over, steps_over) = mpsc::channel(QUEUE_MAX_STEPS);
        (Self { timeline, steps: Mutex::default(), over }, steps_over)
    }

    /// The steps as they ran; nobody is told of steps any more.
    pub(crate) fn into_steps(self) -> Vec<StepRun> {
        let steps = self.steps.into_inner().unwrap_or_else(PoisonError::into_inner);
        steps.into_values().collect()
    }

    fn over(&self, number: usize, outcome: &str) {
        let what = match lock(&self.steps).get_mut(&number) {
            Some(step) => {
                step.ended_ms = self.timeline.now_ms();
                outcome.clone_into(&mut step.outcome);
                step.what.clone()
            }
            None => return,
        };
        self.timeline.note(format!("step {number} {outcome}: {what}"));
        // A full queue costs one look at the data, not the drill.
        self.over.try_send(number).ok();
    }
}

impl Progress for Recorder<'_> {
    fn tell(&self, report: &Report<'_>) {
        match report.what {
            What::StepBegun { number, step } => {
                let what = words::action(&step.action);
                let began_ms = self.timeline.note(format!("step {number} begins: {what}"));
                let (outcome, residency) = ("not ended".to_owned(), Vec::new());
                let run =
                    StepRun { number, what, began_ms, ended_ms: began_ms, outcome, residency };
                lock(&self.steps).insert(number, run);
            }
            What::StepDone { number, .. } => self.over(number, "done"),
            What::StepFailed { number, reason, .. } => {
                self.over(number, &format!("failed ({reason})"));
            }
            What::CallingOff { reason } => {
                self.timeline.note(format!("calling off: {reason}"));
            }
            What::Ended { outcome } => {
                self.timeline.note(format!(
                    "plan {}: {}",
                    report.plan.id,
                    progress::ended(outcome)
                ));
            }
            What::Began { .. } => {
                self.timeline.note(format!("plan {} begins", report.plan.id));
            }
            What::Waiting { .. } => {}
        }
    }
}

/// Looks where the data is after each step, until nobody tells of steps any more. One look serves all steps that are
/// over by then.
pub(crate) async fn residency(
    mover: &Mover,
    mut over: mpsc::Receiver<usize>,
) -> BTreeMap<usize, Vec<Held>> {
    let mut seen = BTreeMap::new();
    while let Some(first) = over.recv().await {
        let mut steps = vec![first];
        while let Ok(number) = over.try_recv() {
            steps.push(number);
        }
        if let Ok(facts) = mover.facts().await {
            let held = evidence::residency(&facts);
            seen.extend(steps.into_iter().map(|number| (number, held.clone())));
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    seen
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
