//! The last known value of a key, kept up to date in the background.
//!
//! Invariants: a value, once known, stays known – a removed key, an unreadable value or an absent control
//! plane takes nothing away; [`Watch::staleness`] counts from when the question that was answered last
//! was *sent*, on the machine's monotonic clock.

use crate::etcd::Revision;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A value with where it came from.
#[derive(Debug)]
pub struct Known<T> {
    /// The value.
    pub value: Arc<T>,
    /// The revision of its last change; `None` when it was read from disk.
    pub revision: Option<Revision>,
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), revision: self.revision }
    }
}

/// A subscription to a key. The background work ends with the last clone.
#[derive(Debug)]
pub struct Watch<T> {
    pub(crate) values: watch::Receiver<Option<Known<T>>>,
    pub(crate) heard: watch::Receiver<Option<Instant>>,
}

impl<T> Clone for Watch<T> {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), heard: self.heard.clone() }
    }
}

impl<T> Watch<T> {
    /// The last known value with its revision.
    pub fn known(&self) -> Option<Known<T>> {
        self.values.borrow().clone()
    }

    /// The last known value.
    pub fn value(&self) -> Option<Arc<T>> {
        self.values.borrow().as_ref().map(|known| Arc::clone(&known.value))
    }

    /// How long ago the control plane was last heard of; `None` if not since the start.
    pub fn staleness(&self) -> Option<Duration> {
        (*self.heard.borrow()).map(|sent| sent.elapsed())
    }

    /// The values as they come.
    pub fn receiver(&self) -> watch::Receiver<Option<Known<T>>> {
        self.values.clone()
    }

    /// Waits for a value that this clone has not seen; false when there will be none.
    pub async fn changed(&mut self) -> bool {
        self.values.changed().await.is_ok()
    }

    /// Waits until some value is known, from disk or from the control plane, at most `wait`.
    pub async fn wait_known(&self, wait: Duration) -> Option<Arc<T>> {
        let mut values = self.values.clone();
        let known = tokio::time::timeout(wait, values.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.as_ref().map(|known| Arc::clone(&known.value))
    }

    /// Waits until the control plane itself has answered, at most `wait`; whether it has.
    pub async fn wait_heard(&self, wait: Duration) -> bool {
        let mut heard = self.heard.clone();
        let answered = tokio::time::timeout(wait, heard.wait_for(Option::is_some)).await;
        matches!(answered, Ok(Ok(_)))
    }
}
