//! Whether this process writes the logs, and what it leaves for the one that does.

use domicile_core::ids::Jurisdiction;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// This process's turn at the logs.
#[derive(Debug, Default)]
pub(super) struct Turn {
    held: AtomicBool,
    published: AtomicBool,
    left: Mutex<BTreeSet<Jurisdiction>>,
    bell: Notify,
}

impl Turn {
    /// Whether this process writes the logs, as far as it knows.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, held: bool) {
        let was_held = self.held.swap(held, Ordering::AcqRel);
        metrics::gauge!("domicile_log_sequencing").set(if held { 1.0 } else { 0.0 });
        if held && !was_held {
            metrics::counter!("domicile_log_turns_total").increment(1);
        }
    }

    /// Notes that leaves of this log wait, for whoever writes it.
    pub(super) fn leave(&self, jurisdiction: &Jurisdiction) {
        if self.is_held() {
            return;
        }
        self.left().insert(jurisdiction.clone());
        self.bell.notify_one();
    }

    /// Notes that a checkpoint was published, for the other processes.
    pub(super) fn publish(&self) {
        self.published.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Whether a checkpoint was published since this was asked last.
    pub(super) fn take_published(&self) -> bool {
        self.published.swap(false, Ordering::AcqRel)
    }

    /// Waits until leaves were left or a checkpoint published.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Takes the names of the logs that leaves were left for.
    pub(super) fn take_left(&self) -> BTreeSet<Jurisdiction> {
        std::mem::take(&mut *self.left())
    }

    fn left(&self) -> std::sync::MutexGuard<'_, BTreeSet<Jurisdiction>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
