//! What goes wrong, and when: at which of the executor's calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The executor is killed before the call reaches anybody.
    KilledBefore,
    /// The executor is killed when the call has had its effect.
    KilledAfter,
    /// Whoever is called refuses, once.
    Refused,
    /// The effect takes place and its answer is lost.
    AnswerLost,
    /// Nobody answers and nothing happens.
    Silent,
    /// Nobody answers in time, and the effect takes place much later.
    Late,
    /// The executor sleeps through its lease; somebody else goes on with the plan; then it wakes and goes on too.
    Asleep,
}

/// How long a sleeping executor sleeps, seconds of virtual time.
const SLEEP_S: u64 = 7_200;

#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<State>);

#[derive(Default)]
struct State {
    calls: Mutex<(u64, Vec<&'static str>)>,
    planned: Mutex<Vec<(u64, Fault)>>,
    killed: Notify,
    asleep: Notify,
}

impl Faults {
    /// The given faults at the given calls, counted from 1.
    pub(crate) fn at(planned: &[(u64, Fault)]) -> Self {
        let faults = Self::default();
        *faults.0.planned.lock().unwrap() = planned.to_vec();
        faults
    }

    /// How many calls there were, by name.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.0.calls.lock().unwrap().1.clone()
    }

    /// Counts a call; what goes wrong with it.
    pub(crate) async fn next(&self, name: &'static str) -> Option<Fault> {
        let number = {
            let mut calls = self.0.calls.lock().unwrap();
            calls.0 += 1;
            calls.1.push(name);
            calls.0
        };
        let planned = self.0.planned.lock().unwrap().clone();
        let fault = planned.into_iter().find(|(call, _)| *call == number).map(|(_, fault)| fault);
        match fault {
            Some(Fault::KilledBefore) => self.die().await,
            Some(Fault::Asleep) => {
                self.0.asleep.notify_one();
                tokio::time::sleep(Duration::from_secs(SLEEP_S)).await;
            }
            _ => {}
        }
        fault
    }

    /// What goes wrong once the effect has taken place.
    pub(crate) async fn after(&self, fault: Option<Fault>) {
        if fault == Some(Fault::KilledAfter) {
            self.die().await;
        }
    }

    async fn die(&self) {
        self.0.killed.notify_one();
        std::future::pending::<()>().await;
    }

    /// Ends when the executor is killed.
    pub(crate) async fn killed(&self) {
        self.0.killed.notified().await;
    }

    /// Ends when the executor has fallen asleep.
    pub(crate) async fn asleep(&self) {
        self.0.asleep.notified().await;
    }
}
