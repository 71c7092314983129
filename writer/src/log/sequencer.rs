//! One log's loop: pass the gate ([`super::passage`]), then sequence, sign, publish, again and again.
//!
//! Invariants: nothing is signed that is not safe in two regions ([`super::confirm`]); on any error or unknown outcome all
//! in-memory state is dropped and the loop starts at the gate again, from what the ledger holds.

use super::evidence::GateEvidence;
use super::passage::Passed;
use super::standing;
use super::store::{self, LogId, Placed};
use super::turn::Turn;
use super::{Lane, LogPlace, LogState, PublishedCheckpoint, Terms};
use domicile_core::checkpoint::CheckpointError;
use domicile_core::epoch::Epoch;
use domicile_core::ids::Jurisdiction;
use domicile_core::log::frontier::Frontier;
use domicile_core::log::{leaf_hash, node};
use domicile_postgres::{CommitError, Durable, Pool};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

/// Leaves per transaction A, at most.
const BATCH_MAX_LEAVES: i64 = 2_048;
/// How long a woken sequencer lets more leaves gather, in milliseconds.
const GATHER_MS: u64 = 25;
/// How often the outbox is looked at without being woken, in milliseconds.
const IDLE_POLL_MS: u64 = 500;
/// How long a commit of the log may take before its outcome counts as unknown, in milliseconds.
const COMMIT_DEADLINE_MS: u64 = 10_000;
/// Pause before the gate is tried again, in milliseconds …
const RETRY_MS: u64 = 500;
/// … and at first, while requests for the jurisdiction are held for it.
const RETRY_EAGER_MS: u64 = 50;
/// How long the gate may wait for holders before the jurisdiction counts as suspended, in milliseconds. It goes on
/// waiting then.
const HOLDERS_WAIT_MS: u64 = 2_000;
/// How often the heartbeat is written, in milliseconds.
const HEARTBEAT_MS: u64 = 1_000;

/// Why a round of the loop ended.
#[derive(Debug, Error)]
pub(super) enum SequenceError {
    #[error("the log's rows cannot be read or written")]
    Database(#[from] domicile_postgres::Error),
    #[error("the commit of the log did not become durable")]
    Commit(#[from] CommitError),
    #[error("the writer's epoch {0} has ended")]
    Fenced(Epoch),
    #[error("another process of this region writes the logs")]
    TurnOver,
    #[error("too few holders of the log could be asked: {}", listed(.0))]
    TooFewHolders(BTreeSet<String>),
    #[error("the checkpoint cannot be signed")]
    Sign(#[from] CheckpointError),
    #[error("the log must not be signed: {0}")]
    Refused(String),
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// One log's sequencer.
pub(super) struct Sequencer {
    pub(super) pool: Pool,
    pub(super) terms: Terms,
    pub(super) place: LogPlace,
    pub(super) log: LogId,
    pub(super) lane: Arc<Lane>,
    turn: Arc<Turn>,
}

impl Sequencer {
    pub(super) fn new(
        pool: Pool,
        terms: Terms,
        place: LogPlace,
        lane: Arc<Lane>,
        turn: Arc<Turn>,
    ) -> Self {
        let log =
            LogId { jurisdiction: place.jurisdiction.clone(), log_epoch: place.signer.log_epoch() };
        Self { pool, terms, place, log, lane, turn }
    }

    /// Runs until `stopped` turns true, finishing the batch in hand.
    pub(super) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut since = Instant::now();
        while !*stopped.borrow_and_update() {
            let ended = match self.pass_gate().await {
                Ok(passed) => {
                    let ended = self.live(passed, &mut stopped).await;
                    since = Instant::now();
                    ended
                }
                Err(error) => Err(error),
            };
            let Err(error) = ended else { return };
            if !self.turn.is_held() {
                continue;
            }
            let is_late = since.elapsed() >= Duration::from_millis(HOLDERS_WAIT_MS);
            self.report(&error, is_late).await;
            let pause = Duration::from_millis(if is_late { RETRY_MS } else { RETRY_EAGER_MS });
            let _stopping = tokio::time::timeout(pause, stopped.changed()).await;
        }
    }

    async fn report(&self, error: &SequenceError, is_late: bool) {
        let jurisdiction = self.log.jurisdiction.to_string();
        metrics::counter!("domicile_log_restarts_total", "jurisdiction" => jurisdiction.clone())
            .increment(1);
        let state = match error {
            SequenceError::Refused(reason) => {
                tracing::error!(%jurisdiction, reason, "the log gate refused; the jurisdiction is suspended");
                LogState::Suspended { reason: reason.as_str().into() }
            }
            SequenceError::TooFewHolders(_) if is_late => {
                let reason = error.to_string();
                tracing::error!(%jurisdiction, reason, "the log gate waits; the jurisdiction is suspended");
                LogState::Suspended { reason: reason.into() }
            }
            other => {
                let cause = std::error::Error::source(other).map(ToString::to_string);
                tracing::warn!(%jurisdiction, error = %other, cause, "the log starts over at its gate");
                LogState::Starting
            }
        };
        if let LogState::Suspended { reason } = &state
            && *self.lane.state.borrow() != state
            && let Err(error) = self.leave_suspended(reason).await
        {
            tracing::warn!(%jurisdiction, %error, "the other processes are not told of the suspension");
        }
        self.lane.state.send_replace(state);
    }

    async fn leave_suspended(&self, reason: &str) -> Result<(), SequenceError> {
        let epoch = self.terms.tenure.epoch;
        let mut session = self.pool.session().await?;
        let tx = session.begin().await?;
        let left = standing::suspended(&tx, &self.log, epoch, reason).await?;
        self.assert_epoch(left == 1)?;
        tx.commit(commit_deadline()).await?;
        Ok(())
    }

    /// Opens the jurisdiction for writes, signs what an earlier writer sequenced but did not sign, and sequences.
    async fn live(
        &self,
        passed: Passed,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), SequenceError> {
        let Passed { mut frontier, published, durable, evidence } = passed;
        let jurisdiction = &self.log.jurisdiction;
        let missing = &evidence.missing;
        tracing::info!(%jurisdiction, ?missing, "the log gate is passed");
        if self.lane.evidence.load().is_none() {
            self.lane.evidence.store(Some(Arc::new(evidence)));
        }
        let signed = published.as_ref().map_or(0, |checkpoint| checkpoint.size);
        if let Some(published) = published {
            self.lane.show(published);
        }
        self.lane.state.send_replace(LogState::Live);
        tracing::info!(%jurisdiction, size = frontier.size(), "the log is live");
        if frontier.size() > signed {
            self.publish(&frontier, durable, stopped).await?;
        }
        if let Some(evidence) = self.lane.evidence.load_full() {
            evidence.tell();
        }
        self.sequence(&mut frontier, stopped).await
    }

    /// The evidence with the epoch's first checkpoint, when this is the one and it is not there yet.
    fn completed_evidence(&self, size: u64, note: &str) -> Option<GateEvidence> {
        let kept = self.lane.evidence.load_full()?;
        let completes = kept.checkpoint.is_none() && kept.size == size;
        let checkpoint = Some(note.to_owned());
        completes.then(|| GateEvidence { checkpoint, ..GateEvidence::clone(&kept) })
    }

    pub(super) fn assert_epoch(&self, open: bool) -> Result<(), SequenceError> {
        if open { Ok(()) } else { Err(SequenceError::Fenced(self.terms.tenure.epoch)) }
    }

    /// Nothing is sequenced, signed or published when the turn is another process's.
    fn assert_turn(&self) -> Result<(), SequenceError> {
        if self.turn.is_held() { Ok(()) } else { Err(SequenceError::TurnOver) }
    }

    /// Sequences batches until stopped or until anything goes wrong.
    async fn sequence(
        &self,
        frontier: &mut Frontier,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), SequenceError> {
        while !*stopped.borrow_and_update() {
            let started = Instant::now();
            if let Some(durable) = self.batch(frontier).await? {
                self.publish(frontier, durable, stopped).await?;
                let jurisdiction = self.log.jurisdiction.to_string();
                metrics::histogram!("domicile_log_batch_seconds", "jurisdiction" => jurisdiction)
                    .record(started.elapsed());
                continue;
            }
            tokio::select! {
                () = self.lane.wake.notified() => {
                    let gather = Duration::from_millis(GATHER_MS);
                    let _stopping = tokio::time::timeout(gather, stopped.changed()).await;
                }
                () = tokio::time::sleep(Duration::from_millis(IDLE_POLL_MS)) => {}
                _changed = stopped.changed() => {}
            }
        }
        Ok(())
    }

    /// Transaction A: takes what is pending and places it in the tree; `None` when nothing is.
    #[tracing::instrument(name = "log.batch", skip_all, fields(jurisdiction = %self.log.jurisdiction))]
    async fn batch(&self, frontier: &mut Frontier) -> Result<Option<Durable>, SequenceError> {
        let epoch = self.terms.tenure.epoch;
        let mut session = self.pool.session().await?;
        if !store::has_pending(&session, &self.log).await? {
            return Ok(None);
        }
        let tx = session.begin().await?;
        self.assert_epoch(store::epoch_is_open(&tx, epoch).await?)?;
        let head = store::lock_head(&tx, &self.log).await?;
        let mine = head.is_some_and(|h| h.size == frontier.size() && h.writer_epoch == epoch);
        self.assert_epoch(mine)?;
        let pending = store::take_pending(&tx, &self.log, BATCH_MAX_LEAVES).await?;
        let placed: Vec<Placed> = (frontier.size()..)
            .zip(pending)
            .map(|(index, pending)| {
                let hash = leaf_hash(pending.entry.as_bytes());
                Placed { index, hash, pending }
            })
            .collect();
        let mut next = frontier.clone();
        let nodes = node::append(&mut next, placed.iter().map(|leaf| leaf.hash));
        let root = next.root();
        store::append(&tx, &self.log, &placed, &nodes, next.size(), &root, epoch).await?;
        self.assert_turn()?;
        let durable = tx.commit(commit_deadline()).await?;
        *frontier = next;
        let jurisdiction = self.log.jurisdiction.to_string();
        metrics::counter!("domicile_log_leaves_total", "jurisdiction" => jurisdiction)
            .increment(u64::try_from(placed.len()).unwrap_or(u64::MAX));
        Ok(Some(durable))
    }

    /// Signs the durable tree as soon as it may be, and makes the checkpoint durable and visible: transaction B.
    async fn publish(
        &self,
        frontier: &Frontier,
        durable: Durable,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), SequenceError> {
        let (size, root) = (frontier.size(), frontier.root());
        // Stopped meanwhile, it stays unsigned; the next gate finds it.
        let Some(safe) = self.safe_to_sign(durable, stopped).await? else { return Ok(()) };
        self.assert_turn()?;
        let note = self.place.signer.sign(size, root, safe)?;
        let epoch = self.terms.tenure.epoch;
        let mut session = self.pool.session().await?;
        let tx = session.begin().await?;
        self.assert_epoch(store::epoch_is_open(&tx, epoch).await?)?;
        store::insert_checkpoint(&tx, &self.log, size, &note).await?;
        let completed = self.completed_evidence(size, &note);
        if completed.is_some() {
            standing::live(&tx, &self.log, epoch, completed.as_ref()).await?;
        }
        tx.commit(commit_deadline()).await?;
        if let Some(completed) = completed {
            self.lane.evidence.store(Some(Arc::new(completed)));
        }
        self.lane.show(PublishedCheckpoint { size, root, note: note.into() });
        self.turn.publish();
        let jurisdiction = self.log.jurisdiction.to_string();
        metrics::gauge!("domicile_log_checkpoint_leaves", "jurisdiction" => jurisdiction)
            .set(size_metric(size));
        Ok(())
    }
}

/// Beats once a second while the epoch is ours. A missed beat is no error: readers see it as lag.
pub(super) async fn heartbeat(
    pool: Pool,
    epoch: Epoch,
    jurisdictions: Vec<Jurisdiction>,
    mut stopped: watch::Receiver<bool>,
) {
    let names: Vec<&str> = jurisdictions.iter().map(Jurisdiction::as_str).collect();
    while !*stopped.borrow_and_update() {
        if let Err(error) = beat(&pool, &names, epoch).await {
            tracing::warn!(%error, "the heartbeat was not written");
        }
        let pause = Duration::from_millis(HEARTBEAT_MS);
        let _stopping = tokio::time::timeout(pause, stopped.changed()).await;
    }
}

async fn beat(pool: &Pool, names: &[&str], epoch: Epoch) -> Result<(), SequenceError> {
    let mut session = pool.session().await?;
    let tx = session.begin().await?;
    let beaten = store::beat(&tx, names, epoch).await?;
    if beaten == 0 {
        return Err(SequenceError::Fenced(epoch));
    }
    tx.commit(commit_deadline()).await?;
    Ok(())
}

pub(super) fn commit_deadline() -> Duration {
    Duration::from_millis(COMMIT_DEADLINE_MS)
}

/// A log's size as a metric: exact up to 2^32 leaves, which is all a gauge is asked for.
fn size_metric(size: u64) -> f64 {
    f64::from(u32::try_from(size).unwrap_or(u32::MAX))
}
