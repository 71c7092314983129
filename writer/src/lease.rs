//! Whether this writer may still answer, and the lease that says so while writes have one copy.
//!
//! With two copies the standby's confirmation is the fence. With one there is none: a writer cut off from everybody
//! could go on answering beside its successor. So it keeps a lease at the control plane, always, and while the last
//! known record says `one` nothing leaves after the lease's deadline, counted on a clock that runs through suspend from
//! when the last good keep-alive was *sent*. A forced failover waits until the lease's key is gone.
//! Invariants: a writer that the record no longer names, or names in another epoch, tells nothing, whatever its lease;
//! the key says *enforcing* only while this process enforces: after the record has gone back to `two`, answers need the
//! lease until the key says otherwise, since a degradation relies on the key. A writer that is cut off may not have heard
//! of a degradation; it hears it from its database sessions: what a session commits of which the server has not said that it
//! waits for the second region is told under the lease only. Deliberately absent: stopping work. Who may not answer may well
//! write; its answers are unknown.

use domicile_control::{Error, Known, LeaseId, Leases, Revision, Watch};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use domicile_postgres::{AnswerGuard, Wait};
use domicile_service::clock::Clock;
use domicile_service::telemetry;
use domicile_topology::document::Durability;
use domicile_topology::lease::{MARGIN_MS, RENEW_EVERY_MS, TTL_S, WriterLease};
use domicile_topology::record::Record;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Pause after a failed attempt to keep the lease, milliseconds.
const RETRY_MS: u64 = 100;
/// Longest wait for the lease's end when the process leaves, milliseconds.
const GIVE_BACK_MS: u64 = 1_000;

/// What the last known record and the lease let this writer say.
#[derive(Debug)]
pub struct Standing {
    record: watch::Receiver<Option<Known<Record>>>,
    region: RegionId,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
    /// The key at the control plane says, or may say, that this writer answers under its lease only.
    key_enforces: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    epoch: Epoch,
    until: Duration,
}

impl Standing {
    /// The standing of a writer in this region; it holds no lease yet.
    pub fn new(
        record: watch::Receiver<Option<Known<Record>>>,
        region: RegionId,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { record, region, clock, held: Mutex::new(None), key_enforces: AtomicBool::new(false) }
    }

    /// Whether answers of this epoch may leave now, if their commits waited so.
    pub fn holds_in(&self, epoch: Epoch, wait: Wait) -> bool {
        let Some(durability) = self.durability_in(epoch) else { return false };
        let is_fenced = wait == Wait::Kept && self.is_free(durability);
        is_fenced || self.is_leased(epoch)
    }

    /// Whether answers of this epoch leave without a lease, as commits wait for the second region.
    fn rests_on_wait(&self, epoch: Epoch) -> bool {
        self.durability_in(epoch).is_some_and(|durability| self.is_free(durability))
    }

    /// The last known durability, while the record names this region at this epoch.
    fn durability_in(&self, epoch: Epoch) -> Option<Durability> {
        match &*self.record.borrow() {
            Some(Known { value, .. }) if names(value, &self.region) && value.epoch == epoch => {
                Some(value.durability)
            }
            _ => None,
        }
    }

    fn is_free(&self, durability: Durability) -> bool {
        durability == Durability::Two && !self.key_enforces.load(Ordering::SeqCst)
    }

    /// Notes what the key says: before it may say *enforcing*, and after it no longer does.
    fn note_key(&self, enforcing: bool) {
        self.key_enforces.store(enforcing, Ordering::SeqCst);
    }

    /// Whether writes have one copy, as far as is known.
    pub fn one_copy(&self) -> bool {
        let known = self.record.borrow();
        known.as_ref().is_some_and(|known| known.value.durability == Durability::One)
    }

    fn is_leased(&self, epoch: Epoch) -> bool {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_some_and(|held| held.epoch == epoch && self.clock.monotonic() < held.until)
    }

    /// Notes a lease that runs for `ttl_s` from when its keep-alive was sent.
    fn hold(&self, epoch: Epoch, sent: Duration, ttl_s: i64) {
        let runs = Duration::from_secs(u64::try_from(ttl_s).unwrap_or(0));
        let until = (sent + runs).saturating_sub(Duration::from_millis(MARGIN_MS));
        self.set(Some(Held { epoch, until }));
    }

    fn set(&self, held: Option<Held>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        let is_held = if held.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!("domicile_writer_lease_held").set(is_held);
    }
}

fn names(record: &Record, region: &RegionId) -> bool {
    record.writer_region == *region
}

/// The guard of one epoch's commits.
#[derive(Debug, Clone)]
pub struct Tenure {
    /// What it rests on.
    pub standing: Arc<Standing>,
    /// The epoch.
    pub epoch: Epoch,
    /// The server has said last that commits wait for nobody, although the last known record says two.
    unfenced: Arc<AtomicBool>,
}

impl Tenure {
    /// The tenure of this epoch.
    pub fn new(standing: Arc<Standing>, epoch: Epoch) -> Self {
        Self { standing, epoch, unfenced: Arc::default() }
    }

    /// Whether anything may be told now, and so whether it is worth while to begin.
    pub fn holds(&self) -> bool {
        let is_unfenced = self.unfenced.load(Ordering::SeqCst);
        let wait = if is_unfenced { Wait::NotKnown } else { Wait::Kept };
        self.standing.holds_in(self.epoch, wait)
    }
}

impl AnswerGuard for Tenure {
    fn holds(&self, wait: Wait) -> bool {
        self.standing.holds_in(self.epoch, wait)
    }

    fn rests_on_wait(&self) -> bool {
        self.standing.rests_on_wait(self.epoch)
    }

    fn heard(&self, wait: Wait) {
        let is_unfenced = wait == Wait::NotKnown;
        if is_unfenced && !self.unfenced.swap(is_unfenced, Ordering::SeqCst) {
            let epoch = self.epoch;
            tracing::warn!(%epoch, "commits wait for nobody, though the last known record says two: answers need the lease");
        }
        self.unfenced.store(is_unfenced, Ordering::SeqCst);
    }
}

/// Keeps this writer's lease.
pub struct Keeper {
    /// The leases.
    pub leases: Leases,
    /// The control record.
    pub record: Watch<Record>,
    /// Where the lease is noted.
    pub standing: Arc<Standing>,
    /// This writer.
    pub node: NodeId,
}

/// A lease of ours, and the key on it.
struct Kept {
    lease: LeaseId,
    put: Option<WriterLease>,
}

impl Keeper {
    /// Keeps a lease while the record names this region, and gives it back afterwards and when `stopped`.
    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut kept = None;
        let mut was_lost = false;
        while !*stopped.borrow_and_update() {
            let outcome = self.keep(&mut kept).await;
            let pause_ms = if outcome.is_ok() { RENEW_EVERY_MS } else { RETRY_MS };
            if let Err(error) = &outcome
                && !was_lost
            {
                tracing::warn!(error = telemetry::chain(error), "the writer's lease is not kept");
            }
            was_lost = outcome.is_err();
            tokio::select! {
                _ = self.record.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
                _ = stopped.changed() => {}
            }
        }
        let limit = Duration::from_millis(GIVE_BACK_MS);
        let given_back = tokio::time::timeout(limit, self.give_back(&mut kept)).await;
        if !matches!(given_back, Ok(Ok(()))) {
            tracing::warn!("the writer's lease runs out by itself");
        }
    }

    async fn keep(&self, kept: &mut Option<Kept>) -> Result<(), Error> {
        let Some((value, revision)) = self.wanted() else { return self.give_back(kept).await };
        let now = || self.standing.clock.monotonic();
        let renewal = match kept {
            Some(Kept { lease, .. }) => match self.leases.keep_alive(*lease, now).await {
                Err(Error::LeaseGone) => {
                    *kept = None;
                    self.standing.set(None);
                    return Err(Error::LeaseGone);
                }
                renewal => renewal?,
            },
            None => self.leases.grant(TTL_S, now).await?,
        };
        let kept = kept.get_or_insert(Kept { lease: renewal.lease, put: None });
        if kept.put.as_ref() != Some(&value) {
            // A record read from the disk has no revision: it may be out of date, and nothing is promised on it.
            let Some(revision) = revision else { return Ok(()) };
            if value.enforcing {
                self.standing.note_key(true);
            }
            self.leases.put(&value, kept.lease, revision).await?;
            self.standing.note_key(value.enforcing);
            tracing::info!(epoch = %value.epoch, enforcing = value.enforcing, "the writer's lease is put");
            kept.put = Some(value.clone());
        }
        self.standing.hold(value.epoch, renewal.sent, renewal.ttl_s);
        Ok(())
    }

    /// The key to be put, and the revision of the record it rests on; `None` while another region writes.
    fn wanted(&self) -> Option<(WriterLease, Option<Revision>)> {
        let known = self.record.known()?;
        let record = known.value;
        let value = WriterLease {
            node: self.node.clone(),
            region: self.standing.region.clone(),
            epoch: record.epoch,
            enforcing: record.durability == Durability::One,
        };
        names(&record, &self.standing.region).then_some((value, known.revision))
    }

    /// Ends the lease. The record, or the end of this process, has ended the answers before.
    async fn give_back(&self, kept: &mut Option<Kept>) -> Result<(), Error> {
        self.standing.set(None);
        if let Some(Kept { lease, .. }) = kept {
            self.leases.give_back(*lease).await?;
            *kept = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_service::clock::ManualClock;
    use domicile_topology::member::{JoinId, Member};

    fn record(durability: Durability) -> Record {
        let node = |name: &str| NodeId::parse(name).unwrap();
        let mut record = Record::first(RegionId::parse("mt-1").unwrap(), node("ledger-mt"), 1);
        let member = Member { node: node("ledger-de"), join_id: JoinId::from_random(1) };
        record.sync_member = (durability == Durability::Two).then_some(member);
        Record { durability, ..record }
    }

    fn known(record: Record) -> Known<Record> {
        Known { value: Arc::new(record), revision: None }
    }

    fn standing(
        durability: Durability,
    ) -> (Standing, watch::Sender<Option<Known<Record>>>, Arc<ManualClock>) {
        let (record, seen) = watch::channel(Some(known(record(durability))));
        let clock = Arc::new(ManualClock::at_unix_s(0));
        clock.advance(Duration::from_secs(100));
        let region = RegionId::parse("mt-1").unwrap();
        (Standing::new(seen, region, clock.clone()), record, clock)
    }

    /// Commits wait as the record says.
    fn holds(standing: &Standing, epoch: u64) -> bool {
        standing.holds_in(Epoch(epoch), Wait::Kept)
    }

    #[test]
    fn who_has_not_heard_of_one_copy_tells_nothing_that_nobody_confirmed() {
        let (standing, _records, clock) = standing(Durability::Two);
        let tenure = Tenure::new(Arc::new(standing), Epoch(1));
        assert!(AnswerGuard::holds(&tenure, Wait::Kept) && tenure.rests_on_wait());
        assert!(!AnswerGuard::holds(&tenure, Wait::NotKnown), "no lease, and nobody confirms");
        tenure.heard(Wait::NotKnown);
        assert!(!tenure.holds(), "nor is anything begun");
        tenure.standing.hold(Epoch(1), clock.monotonic(), TTL_S);
        assert!(tenure.holds() && AnswerGuard::holds(&tenure, Wait::NotKnown), "leased");
        tenure.standing.set(None);
        tenure.heard(Wait::Kept);
        assert!(tenure.holds() && !AnswerGuard::holds(&tenure, Wait::NotKnown));
    }

    #[test]
    fn with_two_copies_the_record_is_enough() {
        let (standing, records, clock) = standing(Durability::Two);
        clock.advance(Duration::from_hours(1));
        assert!(holds(&standing, 1) && !standing.one_copy());
        assert!(!holds(&standing, 2), "an epoch that is not the record's");
        let away =
            Record { writer_region: RegionId::parse("de-1").unwrap(), ..record(Durability::Two) };
        records.send_replace(Some(known(away)));
        assert!(!holds(&standing, 1), "another region writes");
        records.send_replace(None);
        assert!(!holds(&standing, 1), "nothing is known");
    }

    #[test]
    fn with_one_copy_nothing_leaves_after_the_lease_counted_from_the_sending() {
        let (standing, _records, clock) = standing(Durability::One);
        assert!(standing.one_copy() && !holds(&standing, 1), "no lease yet");
        let sent = clock.monotonic();
        // The answer took a second to come back: that second is gone.
        clock.advance(Duration::from_secs(1));
        standing.hold(Epoch(1), sent, TTL_S);
        assert!(holds(&standing, 1));
        clock.advance(Duration::from_millis(1_499));
        assert!(holds(&standing, 1));
        clock.advance(Duration::from_millis(1));
        assert!(!holds(&standing, 1), "the margin before the end");
        standing.hold(Epoch(1), clock.monotonic(), TTL_S);
        assert!(holds(&standing, 1));
        clock.advance(Duration::from_mins(1));
        assert!(!holds(&standing, 1), "the machine slept");
    }

    #[test]
    fn a_lease_of_one_epoch_is_none_in_the_next_and_follows_the_durability() {
        let (standing, records, clock) = standing(Durability::One);
        standing.hold(Epoch(1), clock.monotonic(), TTL_S);
        let next = Record { epoch: Epoch(2), ..record(Durability::One) };
        records.send_replace(Some(known(next)));
        assert!(!holds(&standing, 1) && !holds(&standing, 2));
        standing.hold(Epoch(2), clock.monotonic(), TTL_S);
        assert!(holds(&standing, 2));
        standing.set(None);
        assert!(!holds(&standing, 2));
        let two = Record { epoch: Epoch(2), ..record(Durability::Two) };
        records.send_replace(Some(known(two)));
        assert!(holds(&standing, 2), "two copies need no lease");
    }

    #[test]
    fn back_in_two_answers_need_the_lease_until_the_key_says_so() {
        let (standing, records, clock) = standing(Durability::One);
        standing.note_key(true);
        standing.hold(Epoch(1), clock.monotonic(), TTL_S);
        records.send_replace(Some(known(record(Durability::Two))));
        assert!(holds(&standing, 1));
        clock.advance(Duration::from_mins(1));
        assert!(!holds(&standing, 1), "a degradation could rely on the key");
        standing.note_key(false);
        assert!(holds(&standing, 1));
    }
}
