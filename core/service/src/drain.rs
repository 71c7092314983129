//! Leaving in order: not ready, a grace for the router to notice, no new connections, a bounded wait.
//!
//! Invariants: readiness fails first; what is in flight may finish; the process waits at most
//! `wait_ms` for it and reports what it had to cut off.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long each part of leaving may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrainLimits {
    /// From "not ready" until connections are no longer accepted.
    pub grace_ms: u64,
    /// From then on, the longest wait for requests in flight; at most 60 000 counts.
    pub wait_ms: u64,
}

/// The longest wait for requests in flight.
pub const DRAIN_WAIT_MAX_MS: u64 = 60_000;

impl Default for DrainLimits {
    fn default() -> Self {
        Self { grace_ms: 1_000, wait_ms: DRAIN_WAIT_MAX_MS }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    NotReady,
    Closing,
}

/// The process's way out, shared by listeners, readiness and background tasks.
#[derive(Debug, Clone)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    limits: DrainLimits,
}

impl Drain {
    /// A process that serves.
    pub fn new(limits: DrainLimits) -> Self {
        let limits = DrainLimits { wait_ms: limits.wait_ms.min(DRAIN_WAIT_MAX_MS), ..limits };
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), limits }
    }

    /// Begins to leave at SIGTERM or SIGINT.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let drain = self.clone();
        tokio::spawn(async move {
            let reason = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            drain.begin(reason);
        });
        Ok(())
    }

    /// Begins to leave; further calls change nothing. Needs a runtime.
    pub fn begin(&self, reason: &str) {
        let first = self.phase.send_if_modified(|phase| {
            let first = *phase == Phase::Serving;
            if first {
                *phase = Phase::NotReady;
            }
            first
        });
        if !first {
            return;
        }
        tracing::info!(reason, grace_ms = self.limits.grace_ms, "leaving: no longer ready");
        let drain = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(drain.limits.grace_ms)).await;
            tracing::info!("leaving: no new connections");
            drain.phase.send_replace(Phase::Closing);
        });
    }

    /// Whether leaving has begun.
    pub fn has_begun(&self) -> bool {
        *self.phase.borrow() >= Phase::NotReady
    }

    /// Waits until leaving begins.
    pub async fn begun(&self) {
        self.reached(Phase::NotReady).await;
    }

    /// Waits until new connections are no longer to be accepted.
    pub async fn closing(&self) {
        self.reached(Phase::Closing).await;
    }

    /// The longest wait for requests in flight.
    pub fn wait(&self) -> Duration {
        Duration::from_millis(self.limits.wait_ms)
    }

    async fn reached(&self, wanted: Phase) {
        let mut phase = self.phase.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        drop(phase.wait_for(|phase| *phase >= wanted).await);
    }
}

/// What a listener left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that ended on their own after the close began.
    pub finished: usize,
    /// Connections that were cut off when the wait was over.
    pub aborted: usize,
    /// How long the close took.
    pub took_ms: u64,
}
