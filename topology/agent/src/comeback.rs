//! Coming back without being asked: a node that the record no longer names becomes a standby of the one it does.
//!
//! Invariants: the same code as the operation, on the same fresh record; attempts are spaced by a growing delay and
//! bounded per epoch; the status says why a node is not back. Deliberately absent: choosing who writes.

use std::sync::PoisonError;
use std::time::Duration;

use domicile_core::epoch::Epoch;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::decide::Authority;
use crate::transfer::must_return;

/// Delay after the first failed attempt; doubled with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// The longest delay between attempts.
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// Attempts under one epoch; then a person, or a plan, has to ask.
const MAX_ATTEMPTS: u32 = 30;

/// The attempts under one epoch.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    epoch: Option<Epoch>,
    failed: u32,
    not_before: Option<Instant>,
}

impl Attempts {
    /// Whether the time has come for an attempt under this epoch.
    pub(crate) fn due(&mut self, epoch: Epoch) -> bool {
        if self.epoch != Some(epoch) {
            *self = Self { epoch: Some(epoch), ..Self::default() };
        }
        self.failed < MAX_ATTEMPTS && self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    /// An attempt failed.
    pub(crate) fn note_failure(&mut self) {
        let doubled = FIRST_DELAY.saturating_mul(1 << self.failed.min(16));
        self.not_before = Some(Instant::now() + doubled.min(LONGEST_DELAY));
        self.failed += 1;
    }
}

impl Agent {
    /// Comes back, if the record wants it and the time has come for an attempt.
    pub(crate) async fn come_back(&self, attempts: &mut Attempts) {
        let Some(record) = self.control.last_record() else { return };
        let must = |record| {
            let disk = self.postmaster.disk();
            must_return(&self.config.node, self.config.kind, disk, &self.memory(), record)
        };
        if !must(&record) {
            *attempts = Attempts::default();
            self.note_trouble(None);
            return;
        }
        if !attempts.due(record.epoch) {
            return;
        }
        let Some(_turn) = self.idle_turn() else { return };
        let Authority::Answered(Some(record)) = self.control.ask().await else { return };
        if !must(&record) {
            return;
        }
        match self.return_to(&record).await {
            Ok(_answer) => {
                *attempts = Attempts::default();
                self.note_trouble(None);
            }
            Err(error) => {
                attempts.note_failure();
                tracing::warn!(%error, attempt = attempts.failed, "not back yet");
                let last =
                    if attempts.failed < MAX_ATTEMPTS { "" } else { "; given up: rejoin it" };
                self.note_trouble(Some(format!("not back as a standby yet: {error}{last}")));
            }
        }
    }

    /// Why the node is not back.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_spaced_and_bounded_by_epoch() {
        let mut attempts = Attempts::default();
        let (mut made, begun) = (0, Instant::now());
        while begun.elapsed() < Duration::from_hours(2) {
            if attempts.due(Epoch(2)) {
                attempts.note_failure();
                made += 1;
            }
            sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(made, MAX_ATTEMPTS);
        assert!(attempts.due(Epoch(3)), "a new epoch is a new chance");
        attempts.note_failure();
        assert!(!attempts.due(Epoch(3)));
    }
}
