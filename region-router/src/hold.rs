//! Where writes wait until a writer takes them: while the writer moves, callers see latency and no error.
//!
//! Invariants: only so many wait at once, each only until its own time; a waiting write is called at once when the control
//! record changes or another one was taken. In between only a few at a time ask whether a writer is ready, so that one
//! that has just become so is not met by all of them asking in vain.
//! Deliberately absent: order. Who waits longest is not served first.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout_at},
};

/// Pause before a waiting write asks again without having been called, milliseconds: at first …
const FIRST_PAUSE_MS: u64 = 10;
/// … and at most.
const LONGEST_PAUSE_MS: u64 = 50;
/// How many ask at once without having been called.
const SCOUTS: usize = 8;

/// Everybody who waits for a writer.
pub struct WaitingRoom {
    places: Semaphore,
    scouts: Semaphore,
    calls: watch::Sender<()>,
}

impl WaitingRoom {
    /// A room for so many.
    pub fn new(places: usize) -> Self {
        let (places, scouts) = (Semaphore::new(places), Semaphore::new(SCOUTS));
        Self { places, scouts, calls: watch::Sender::new(()) }
    }

    /// Calls everybody who waits.
    pub fn call(&self) {
        self.calls.send_replace(());
    }

    /// Hears every call from now on.
    pub fn calls(&self) -> watch::Receiver<()> {
        self.calls.subscribe()
    }

    /// A place, unless all are taken.
    pub fn enter(&self) -> Option<Waiting<'_>> {
        let place = self.places.try_acquire().ok()?;
        metrics::gauge!("domicile_router_held_writes").increment(1.0);
        Some(Waiting {
            room: self,
            _place: place,
            scout: None,
            calls: self.calls(),
            pause: Duration::from_millis(FIRST_PAUSE_MS),
            since: Instant::now(),
            end: "left",
        })
    }
}

/// A write that waits.
pub struct Waiting<'a> {
    room: &'a WaitingRoom,
    _place: SemaphorePermit<'a>,
    scout: Option<SemaphorePermit<'a>>,
    calls: watch::Receiver<()>,
    pause: Duration,
    since: Instant,
    end: &'static str,
}

impl Waiting<'_> {
    /// Waits until it may ask; false when its time is up.
    pub async fn turn(&mut self, until: Instant) -> bool {
        self.scout = None;
        loop {
            let due = until.min(Instant::now() + self.pause);
            if timeout_at(due, self.calls.changed()).await.is_ok() {
                self.pause = Duration::from_millis(FIRST_PAUSE_MS);
                return true;
            }
            if Instant::now() >= until {
                self.end = "given-up";
                return false;
            }
            self.pause = (self.pause * 2).min(Duration::from_millis(LONGEST_PAUSE_MS));
            self.scout = self.room.scouts.try_acquire().ok();
            if self.scout.is_some() {
                return true;
            }
        }
    }

    /// It was taken: if it asked on its own, the others hear of it.
    pub fn taken(mut self) {
        self.end = "taken";
        if self.scout.is_some() {
            self.room.call();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        metrics::gauge!("domicile_router_held_writes").decrement(1.0);
        metrics::histogram!("domicile_router_hold_seconds", "end" => self.end)
            .record(self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_heard_at_once_and_otherwise_few_ask() {
        let room = WaitingRoom::new(SCOUTS + 2);
        let until = Instant::now() + Duration::from_secs(5);
        let mut waiting: Vec<_> = std::iter::from_fn(|| room.enter()).collect();
        assert_eq!(waiting.len(), SCOUTS + 2);
        let begun = Instant::now();
        for waiting in waiting.iter_mut().take(SCOUTS) {
            assert!(waiting.turn(until).await);
        }
        let mut late = waiting.pop().unwrap();
        let soon = Instant::now() + Duration::from_millis(200);
        assert!(!late.turn(soon).await, "all scouts are out");
        assert!(begun.elapsed() >= Duration::from_millis(200));

        let (called, ()) = tokio::join!(late.turn(until), async { room.call() });
        assert!(called);
        let (called, ()) = tokio::join!(late.turn(until), async { waiting.swap_remove(0).taken() });
        assert!(called, "a scout was taken");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
