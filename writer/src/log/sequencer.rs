//! One log's loop: pass the gate, then sequence, sign, publish, again and again.
//!
//! Invariants: nothing is signed that is not durable in two regions; on any error or unknown outcome all
//! in-memory state is dropped and the loop starts at the gate again, from what the ledger holds.

use super::gate::{self, Facts, Holding, Verdict};
use super::holders::Answer;
use super::store::{self, LogId, Placed};
use super::{Lane, LogPlace, LogState, PublishedCheckpoint};
use domicile_core::checkpoint::CheckpointError;
use domicile_core::epoch::Epoch;
use domicile_core::ids::Jurisdiction;
use domicile_core::log::frontier::Frontier;
use domicile_core::log::{leaf_hash, node};
use domicile_postgres::{CommitError, Durable, Pool, Session, log_rows};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Leaves per transaction A, at most.
const BATCH_MAX_LEAVES: i64 = 2_048;
/// How long a woken sequencer lets more leaves gather, in milliseconds.
const GATHER_MS: u64 = 25;
/// How often the outbox is looked at without being woken, in milliseconds.
const IDLE_POLL_MS: u64 = 500;
/// How long a commit of the log may take before its outcome counts as unknown, in milliseconds.
const COMMIT_DEADLINE_MS: u64 = 10_000;
/// Pause before the gate is tried again, in milliseconds.
const RETRY_MS: u64 = 500;
/// The epoch in which a cluster begins.
const FIRST_EPOCH: Epoch = Epoch(1);
/// How often the heartbeat is written, in milliseconds.
const HEARTBEAT_MS: u64 = 1_000;

/// Why a round of the loop ended.
#[derive(Debug, Error)]
enum SequenceError {
    #[error("the log's rows cannot be read or written")]
    Database(#[from] domicile_postgres::Error),
    #[error("the commit of the log did not become durable")]
    Commit(#[from] CommitError),
    #[error("the writer's epoch {0} has ended")]
    Fenced(Epoch),
    #[error("too few holders of the log could be asked: {}", .0.join(", "))]
    TooFewHolders(Vec<String>),
    #[error("the checkpoint cannot be signed")]
    Sign(#[from] CheckpointError),
    #[error("the log must not be signed: {0}")]
    Refused(String),
}

/// One log's sequencer.
pub(super) struct Sequencer {
    pool: Pool,
    epoch: Epoch,
    place: LogPlace,
    lane: Arc<Lane>,
    log: LogId,
}

impl Sequencer {
    pub(super) fn new(pool: Pool, epoch: Epoch, place: LogPlace, lane: Arc<Lane>) -> Self {
        let log =
            LogId { jurisdiction: place.jurisdiction.clone(), log_epoch: place.signer.log_epoch() };
        Self { pool, epoch, place, lane, log }
    }

    /// Runs until `stopped` turns true, finishing the batch in hand.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        while !*stopped.borrow_and_update() {
            let ended = match self.pass_gate().await {
                Ok(frontier) => {
                    self.lane.state.store(Arc::new(LogState::Live));
                    tracing::info!(jurisdiction = %self.log.jurisdiction, size = frontier.size(), "the log is live");
                    self.sequence(frontier, &mut stopped).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = ended else { return };
            self.report(&error);
            let pause = Duration::from_millis(RETRY_MS);
            let _stopping = tokio::time::timeout(pause, stopped.changed()).await;
        }
    }

    fn report(&self, error: &SequenceError) {
        let jurisdiction = self.log.jurisdiction.to_string();
        metrics::counter!("domicile_log_restarts_total", "jurisdiction" => jurisdiction.clone())
            .increment(1);
        let state = match error {
            SequenceError::Refused(reason) => {
                tracing::error!(%jurisdiction, reason, "the log gate refused; the jurisdiction is suspended");
                LogState::Suspended { reason: reason.as_str().into() }
            }
            other => {
                let cause = std::error::Error::source(other).map(ToString::to_string);
                tracing::warn!(%jurisdiction, error = %other, cause, "the log starts over at its gate");
                LogState::Starting
            }
        };
        self.lane.state.store(Arc::new(state));
    }

    /// Rebuilds the tree's edge from the ledger, compares it with what is held outside, takes the head for
    /// this epoch, and signs what an earlier writer sequenced but did not sign.
    async fn pass_gate(&self) -> Result<Frontier, SequenceError> {
        let mut session = self.pool.session().await?;
        let tx = session.begin().await?;
        store::ensure_head(&tx, &self.log, &Frontier::new().root()).await?;
        tx.commit(commit_deadline()).await?;
        let (frontier, same_epoch) = self.rebuild(&mut session).await?;
        self.judge(&mut session, &frontier, same_epoch).await?;
        let tx = session.begin().await?;
        self.assert_epoch(store::epoch_is_open(&tx, self.epoch).await?)?;
        store::claim_head(&tx, &self.log, self.epoch).await?;
        let durable = tx.commit(commit_deadline()).await?;
        if frontier.size() > 0 {
            self.publish(&mut session, &frontier, durable).await?;
        }
        Ok(frontier)
    }

    async fn rebuild(&self, session: &mut Session) -> Result<(Frontier, bool), SequenceError> {
        let tx = session.begin().await?;
        let head = store::lock_head(&tx, &self.log)
            .await?
            .ok_or_else(|| SequenceError::Refused("the log's head row is missing".to_owned()))?;
        tx.rollback().await?;
        let frontier = self.frontier_at(session, head.size).await?;
        if frontier.root().as_slice() != head.root.as_slice() {
            return Err(SequenceError::Refused(format!(
                "the ledger's own rows do not give the head's root at size {}",
                head.size
            )));
        }
        Ok((frontier, head.writer_epoch == self.epoch))
    }

    /// The frontier at `size`, from stored leaves and subtrees.
    async fn frontier_at(&self, session: &Session, size: u64) -> Result<Frontier, SequenceError> {
        let wanted = Frontier::subtrees(size);
        let found = log_rows::subtrees(
            session,
            self.log.jurisdiction.as_str(),
            self.log.log_epoch,
            &wanted,
        )
        .await?;
        let hashes = wanted.iter().filter_map(|subtree| found.get(subtree).copied()).collect();
        Frontier::from_subtrees(size, hashes).map_err(|_missing| {
            SequenceError::Refused(format!("the ledger lacks rows of the log below size {size}"))
        })
    }

    async fn judge(
        &self,
        session: &mut Session,
        frontier: &Frontier,
        same_epoch: bool,
    ) -> Result<(), SequenceError> {
        let own = store::latest_checkpoint(session, &self.log).await?;
        let never_signed = own.is_none();
        let mut heard = Vec::new();
        let mut silent = Vec::new();
        if let Some((_, note)) = own {
            let holding = self.holding(session, frontier, "the ledger itself", &note).await?;
            if holding.our_root != Some(holding.root) {
                heard.push(holding);
            }
        }
        for (name, answer) in self.place.holders.ask().await {
            match answer {
                Answer::Checkpoint(note) => {
                    heard.push(self.holding(session, frontier, &name, &note).await?);
                }
                Answer::Nothing => {}
                Answer::Silent => silent.push(name),
            }
        }
        let first_epoch = self.epoch == FIRST_EPOCH;
        match gate::judge(&Facts { same_epoch, never_signed, first_epoch, heard, silent }) {
            Verdict::Sign { missing } => {
                tracing::info!(jurisdiction = %self.log.jurisdiction, ?missing, "the log gate is passed");
                Ok(())
            }
            Verdict::Wait { missing } => Err(SequenceError::TooFewHolders(missing)),
            Verdict::Refuse { reason } => Err(SequenceError::Refused(reason)),
        }
    }

    /// A note that does not open under our key cannot have been signed by us: the log has forked or the
    /// holder is broken, and either way a person has to look.
    async fn holding(
        &self,
        session: &Session,
        frontier: &Frontier,
        holder: &str,
        note: &str,
    ) -> Result<Holding, SequenceError> {
        let checkpoint = self.place.signer.open(note).ok_or_else(|| {
            SequenceError::Refused(format!("{holder} holds a checkpoint that our key did not sign"))
        })?;
        let our_root = if checkpoint.size <= frontier.size() {
            Some(self.frontier_at(session, checkpoint.size).await?.root())
        } else {
            None
        };
        Ok(Holding {
            holder: holder.to_owned(),
            size: checkpoint.size,
            root: checkpoint.root,
            our_root,
        })
    }

    fn assert_epoch(&self, open: bool) -> Result<(), SequenceError> {
        if open { Ok(()) } else { Err(SequenceError::Fenced(self.epoch)) }
    }

    /// Sequences batches until stopped or until anything goes wrong.
    async fn sequence(
        &self,
        mut frontier: Frontier,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), SequenceError> {
        loop {
            let mut session = self.pool.session().await?;
            while store::has_pending(&session, &self.log).await? {
                self.batch(&mut session, &mut frontier).await?;
            }
            drop(session);
            if *stopped.borrow_and_update() {
                return Ok(());
            }
            tokio::select! {
                () = self.lane.wake.notified() => {
                    tokio::time::sleep(Duration::from_millis(GATHER_MS)).await;
                }
                () = tokio::time::sleep(Duration::from_millis(IDLE_POLL_MS)) => {}
                _changed = stopped.changed() => {}
            }
        }
    }

    /// One batch: transaction A, signature, transaction B.
    #[tracing::instrument(name = "log.batch", skip_all, fields(jurisdiction = %self.log.jurisdiction))]
    async fn batch(
        &self,
        session: &mut Session,
        frontier: &mut Frontier,
    ) -> Result<(), SequenceError> {
        let started = tokio::time::Instant::now();
        let tx = session.begin().await?;
        self.assert_epoch(store::epoch_is_open(&tx, self.epoch).await?)?;
        let head = store::lock_head(&tx, &self.log).await?;
        let mine = head.is_some_and(|h| h.size == frontier.size() && h.writer_epoch == self.epoch);
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
        store::append(&tx, &self.log, &placed, &nodes, next.size(), &root, self.epoch).await?;
        let durable = tx.commit(commit_deadline()).await?;
        *frontier = next;
        self.publish(session, frontier, durable).await?;
        let jurisdiction = self.log.jurisdiction.to_string();
        metrics::counter!("domicile_log_leaves_total", "jurisdiction" => jurisdiction.clone())
            .increment(u64::try_from(placed.len()).unwrap_or(u64::MAX));
        metrics::histogram!("domicile_log_batch_seconds", "jurisdiction" => jurisdiction)
            .record(started.elapsed());
        Ok(())
    }

    /// Signs the durable tree and makes the checkpoint durable and visible.
    async fn publish(
        &self,
        session: &mut Session,
        frontier: &Frontier,
        durable: Durable,
    ) -> Result<(), SequenceError> {
        let (size, root) = (frontier.size(), frontier.root());
        let note = self.place.signer.sign(size, root, durable)?;
        let tx = session.begin().await?;
        self.assert_epoch(store::epoch_is_open(&tx, self.epoch).await?)?;
        store::insert_checkpoint(&tx, &self.log, size, &note).await?;
        tx.commit(commit_deadline()).await?;
        self.lane.latest.send_replace(Some(PublishedCheckpoint { size, root, note: note.into() }));
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

fn commit_deadline() -> Duration {
    Duration::from_millis(COMMIT_DEADLINE_MS)
}

/// A log's size as a metric: exact up to 2^32 leaves, which is all a gauge is asked for.
fn size_metric(size: u64) -> f64 {
    f64::from(u32::try_from(size).unwrap_or(u32::MAX))
}
