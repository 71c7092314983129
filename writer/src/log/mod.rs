//! The transparency log's writing side: one sequencer per jurisdiction, in one process of the writer region.
//!
//! Which process that is the `office` decides; the others know from the ledger's rows what it has published, so that
//! every process covers commitments and states how the logs stand. Per process: what is shown here, and the metrics of
//! the sequencers. In the ledger: heads, checkpoints, standings and evidence.
//!
//! Settling transactions leave *pending leaves* in an outbox. A sequencer takes them in batches: transaction
//! A places leaves, completed subtrees and the head; only when A is durable in two regions is the root
//! signed (with one copy: only when a reader in another region has them on disk); transaction B publishes the checkpoint. Before its first signature a sequencer passes the
//! `gate`, which leaves `evidence`. A log that fails suspends its own jurisdiction and no other.
//!
//! Deliberately absent: witnesses and the re-import of a lost tail.

mod confirm;
mod evidence;
mod gate;
mod holders;
mod office;
mod passage;
mod sequencer;
mod signer;
mod standing;
mod store;
mod turn;

pub use evidence::{GateEvidence, HeldBefore};
pub use holders::Holders;
pub use signer::{LogKeyError, LogSigner};

use crate::lease::Tenure;
use arc_swap::ArcSwapOption;
use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_core::log::Hash;
use domicile_core::operation;
use domicile_postgres::Pool;
use domicile_service::clock::Clock;
use domicile_topology::record::Beginning;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use turn::Turn;

/// A signed tree head that is durable in two regions and published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedCheckpoint {
    /// Leaves covered.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The signed note as published.
    pub note: Arc<str>,
}

/// Whether a jurisdiction's log is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    /// The gate has not been passed yet.
    Starting,
    /// Leaves are sequenced and checkpoints signed.
    Live,
    /// Nothing is signed; new writes for the jurisdiction are refused.
    Suspended {
        /// What closed the gate.
        reason: Arc<str>,
    },
}

/// One log to write.
pub struct LogPlace {
    /// Whose log it is.
    pub jurisdiction: Jurisdiction,
    /// Its key; the origin is the key's name.
    pub signer: LogSigner,
    /// The readers that hold it outside.
    pub holders: Holders,
    /// The replication slots of those in other regions than this writer's: while writes have one copy, one of them
    /// has to confirm leaves before they are signed for.
    pub confirmers: Vec<String>,
}

/// The epoch that this writer was opened for, as far as its logs are concerned.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Its number, and whether this writer may speak in it.
    pub tenure: Tenure,
    /// How it began.
    pub beginning: Beginning,
    /// Readers that need not be heard although it was forced.
    pub waived: BTreeSet<NodeId>,
    /// Time, for the evidence.
    pub clock: Arc<dyn Clock>,
}

/// What the sequencers need.
pub struct LogSettings {
    /// Connections as `domicile_writer`.
    pub pool: Pool,
    /// The epoch and how it began.
    pub terms: Terms,
    /// The logs, one per jurisdiction.
    pub places: Vec<LogPlace>,
}

/// What is shown of a log to the rest of the writer.
struct Lane {
    wake: Notify,
    latest: watch::Sender<Option<PublishedCheckpoint>>,
    state: watch::Sender<LogState>,
    evidence: ArcSwapOption<GateEvidence>,
    unconfirmed: AtomicBool,
}

impl Lane {
    fn new() -> Self {
        Self {
            wake: Notify::new(),
            latest: watch::Sender::new(None),
            state: watch::Sender::new(LogState::Starting),
            evidence: ArcSwapOption::const_empty(),
            unconfirmed: AtomicBool::new(false),
        }
    }

    /// Shows a checkpoint, unless a larger one is shown already.
    fn show(&self, published: PublishedCheckpoint) {
        self.latest.send_if_modified(|latest| {
            let grows = latest.as_ref().is_none_or(|known| known.size < published.size);
            if grows {
                *latest = Some(published);
            }
            grows
        });
    }
}

/// The writer's view of its logs. Cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    lanes: Arc<HashMap<Jurisdiction, Arc<Lane>>>,
    turn: Arc<Turn>,
}

impl LogHandle {
    /// Tells the sequencer, in whichever process it runs, that a commit has left pending leaves.
    pub fn wake(&self, jurisdiction: &Jurisdiction) {
        if let Some(lane) = self.lanes.get(jurisdiction) {
            lane.wake.notify_one();
            self.turn.leave(jurisdiction);
        }
    }

    /// Whether this process writes the logs.
    pub fn is_written_here(&self) -> bool {
        self.turn.is_held()
    }

    /// The newest published checkpoint.
    pub fn latest(&self, jurisdiction: &Jurisdiction) -> Option<PublishedCheckpoint> {
        self.lanes.get(jurisdiction).and_then(|lane| lane.latest.borrow().clone())
    }

    /// Waits at most `wait` for a published checkpoint that covers leaf `index`.
    pub async fn covering(
        &self,
        jurisdiction: &Jurisdiction,
        index: u64,
        wait: Duration,
    ) -> Option<PublishedCheckpoint> {
        let mut latest = self.lanes.get(jurisdiction)?.latest.subscribe();
        let covers = |seen: &Option<PublishedCheckpoint>| {
            seen.as_ref().is_some_and(|checkpoint| checkpoint.size > index)
        };
        let found = tokio::time::timeout(wait, latest.wait_for(covers)).await.ok()?.ok()?;
        found.clone()
    }

    /// Whether the jurisdiction's log is being written. An unknown one is suspended: fail closed.
    pub fn state(&self, jurisdiction: &Jurisdiction) -> LogState {
        self.lanes.get(jurisdiction).map_or_else(
            || LogState::Suspended { reason: "the jurisdiction has no log key here".into() },
            |lane| lane.state.borrow().clone(),
        )
    }

    /// What the log's gate left behind in this epoch, once its first checkpoint is published.
    pub fn evidence(&self, jurisdiction: &Jurisdiction) -> Option<Arc<GateEvidence>> {
        self.lanes.get(jurisdiction).and_then(|lane| lane.evidence.load_full())
    }

    /// Whether the log's next checkpoint waits for a reader in another region, as it does while writes have one copy.
    pub fn is_unconfirmed(&self, jurisdiction: &Jurisdiction) -> bool {
        let lane = self.lanes.get(jurisdiction);
        lane.is_some_and(|lane| lane.unconfirmed.load(Ordering::Acquire))
    }

    /// Waits until every jurisdiction's log is being written or is suspended. Players wait for these; the operations log is
    /// for persons, and takes their entries before it is written again.
    pub async fn settled(&self) {
        for (_code, lane) in self.lanes.iter().filter(|(code, _)| !operation::is_log(code)) {
            let mut state = lane.state.subscribe();
            // The sender lives in the lane, so waiting cannot fail.
            drop(state.wait_for(|state| *state != LogState::Starting).await);
        }
    }

    /// All jurisdictions with a log, in order.
    pub fn jurisdictions(&self) -> Vec<Jurisdiction> {
        let mut all: Vec<_> = self.lanes.keys().cloned().collect();
        all.sort();
        all
    }
}

/// This process's part in writing the logs. Dropping the value ends it; [`LogTasks::stop`] also waits.
pub struct LogTasks {
    stop: watch::Sender<bool>,
    office: tokio::task::JoinHandle<()>,
}

impl LogTasks {
    /// Lets each sequencer finish the batch it is in, waits for all of them, and leaves the logs to another process.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.office).await {
            tracing::error!(%error, "the log's office ended abnormally");
        }
    }
}

impl Drop for LogTasks {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Takes part in writing the logs: one process runs a sequencer for each, and the heartbeat that readers measure their
/// lag by.
pub fn start(settings: LogSettings) -> (LogHandle, LogTasks) {
    let LogSettings { pool, terms, places } = settings;
    let (stop, stopped) = watch::channel(false);
    let turn = Arc::new(Turn::default());
    let mut lanes = HashMap::new();
    let mut logs = Vec::new();
    for place in places {
        let lane = Arc::new(Lane::new());
        lanes.insert(place.jurisdiction.clone(), Arc::clone(&lane));
        let (pool, terms, turn) = (pool.clone(), terms.clone(), Arc::clone(&turn));
        logs.push(Arc::new(sequencer::Sequencer::new(pool, terms, place, lane, turn)));
    }
    let handle = LogHandle { lanes: Arc::new(lanes), turn: Arc::clone(&turn) };
    let office = office::Office { pool, epoch: terms.tenure.epoch, logs, turn };
    (handle, LogTasks { stop, office: tokio::spawn(office.run(stopped)) })
}
