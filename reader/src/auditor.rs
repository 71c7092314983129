//! The first auditor: recomputes every checkpoint from this replica's own rows before anything is served.
//!
//! Invariants: a checkpoint counts only when its signature opens under the pinned key, its root follows from
//! the leaf bytes stored here, and it extends the last one verified. What was verified is kept in a file
//! outside Postgres, so that a replica rolled back or rebuilt cannot serve a different past.
//!
//! Deliberately absent: repair. A replica that does not match serves nothing until a person acts.

use crate::store::{LogId, Store, StoredCheckpoint, StoredLeaf};
use domicile_core::checkpoint::Checkpoint;
use domicile_core::log::frontier::Frontier;
use domicile_core::log::{Hash, leaf_hash};
use domicile_core::note::VerifierKey;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often new checkpoints are looked for, in milliseconds.
const POLL_MS: u64 = 40;
/// Checkpoints verified per round, at most.
const CHECKPOINTS_PER_ROUND: i64 = 64;
/// Leaves read per query, at most.
const LEAVES_PER_QUERY: u64 = 2_048;
/// How long rows may lag behind their checkpoint (tables copy one by one at first), in milliseconds.
const ROWS_MISSING_GRACE_MS: u64 = 10_000;
/// How often the verified head is written to its file while it moves, in milliseconds.
const PERSIST_EVERY_MS: u64 = 1_000;

/// A verified tree head.
#[derive(Debug, Clone)]
pub struct VerifiedHead {
    /// Leaves covered.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The signed note.
    pub note: Arc<str>,
}

/// What the auditor knows of one log.
#[derive(Debug, Clone)]
pub enum Audit {
    /// The replica has not been looked at yet.
    Starting,
    /// The replica holds no checkpoint.
    Empty,
    /// Everything up to this head was recomputed here.
    Verified(VerifiedHead),
    /// The replica contradicts the signed log.
    Broken(Arc<str>),
}

/// A contradiction or a fault.
#[derive(Debug, Error)]
pub enum AuditError {
    /// The replica cannot be read now.
    #[error("the replica cannot be read")]
    Database(#[from] domicile_postgres::Error),
    /// The file of the verified head cannot be read or written.
    #[error("the verified head's file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The replica contradicts the signed log or what was verified before.
    #[error("the replica contradicts the log: {0}")]
    Contradiction(String),
    /// Rows of a published checkpoint have not arrived.
    #[error("leaf {0} has not arrived")]
    RowMissing(u64),
}

/// What is kept outside Postgres.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    origin: String,
    size: u64,
    note: String,
}

/// Audits one log.
pub struct Auditor {
    store: Store,
    log: LogId,
    key: VerifierKey,
    file: PathBuf,
    published: watch::Sender<Audit>,
}

impl Auditor {
    /// Prepares the audit; the returned receiver shows its state.
    pub fn new(
        store: Store,
        log: LogId,
        key: VerifierKey,
        directory: &Path,
    ) -> (Self, watch::Receiver<Audit>) {
        let (published, seen) = watch::channel(Audit::Starting);
        let file = directory.join(format!("{}-{}.json", log.jurisdiction, log.log_epoch));
        (Self { store, log, key, file, published }, seen)
    }

    /// Runs until dropped. A contradiction ends the service of this log, not the process.
    pub async fn run(self) {
        let jurisdiction = self.log.jurisdiction.to_string();
        loop {
            match self.audit().await {
                Err(AuditError::Contradiction(reason)) => {
                    tracing::error!(%jurisdiction, reason, "the replica contradicts its log; nothing of it is served");
                    metrics::counter!("domicile_audit_contradictions_total", "jurisdiction" => jurisdiction.clone())
                        .increment(1);
                    self.published.send_replace(Audit::Broken(reason.into()));
                    tokio::time::sleep(Duration::from_millis(ROWS_MISSING_GRACE_MS)).await;
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%jurisdiction, %error, cause, "the audit pauses");
                    tokio::time::sleep(Duration::from_millis(PERSIST_EVERY_MS)).await;
                }
                Ok(never) => match never {},
            }
        }
    }

    async fn audit(&self) -> Result<std::convert::Infallible, AuditError> {
        let mut frontier = self.resume().await?;
        let mut persisted = Instant::now();
        let mut dirty = false;
        let mut missing_since: Option<Instant> = None;
        loop {
            match self.advance(&mut frontier).await {
                Ok(advanced) => {
                    missing_since = None;
                    dirty |= advanced;
                    self.note_empty();
                }
                // The frontier stands: what was verified stays verified while the replica cannot be read.
                Err(AuditError::Database(error)) => {
                    tracing::warn!(%error, "the audit waits for the replica");
                    tokio::time::sleep(Duration::from_millis(PERSIST_EVERY_MS)).await;
                }
                Err(AuditError::RowMissing(index)) => {
                    let since = *missing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > Duration::from_millis(ROWS_MISSING_GRACE_MS) {
                        return Err(AuditError::Contradiction(format!(
                            "leaf {index} of a published checkpoint is missing"
                        )));
                    }
                }
                Err(other) => return Err(other),
            }
            if dirty && persisted.elapsed() >= Duration::from_millis(PERSIST_EVERY_MS) {
                self.persist().await?;
                (dirty, persisted) = (false, Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
    }

    /// Starts from the kept head: this replica's own rows must still give its root.
    async fn resume(&self) -> Result<Frontier, AuditError> {
        let Some(kept) = self.kept().await? else { return Ok(Frontier::new()) };
        let checkpoint = self.open(&kept.note)?;
        let wanted = Frontier::subtrees(checkpoint.size);
        let found = self.store.subtrees(&self.log, &wanted).await?;
        let hashes = wanted.iter().filter_map(|subtree| found.get(subtree).copied()).collect();
        let frontier = Frontier::from_subtrees(checkpoint.size, hashes)
            .map_err(|_missing| AuditError::RowMissing(checkpoint.size))?;
        if frontier.root() != checkpoint.root {
            return Err(AuditError::Contradiction(format!(
                "its rows do not give the root verified earlier at size {}",
                checkpoint.size
            )));
        }
        self.publish(&checkpoint, &kept.note);
        Ok(frontier)
    }

    /// Verifies the checkpoints that arrived since; true when there was one.
    async fn advance(&self, frontier: &mut Frontier) -> Result<bool, AuditError> {
        let arrived =
            self.store.checkpoints_after(&self.log, frontier.size(), CHECKPOINTS_PER_ROUND).await?;
        for StoredCheckpoint { size, note } in &arrived {
            let checkpoint = self.open(note)?;
            if checkpoint.size != *size {
                return Err(AuditError::Contradiction(format!(
                    "the checkpoint stored for size {size} is one for size {}",
                    checkpoint.size
                )));
            }
            let mut next = frontier.clone();
            self.extend(&mut next, *size).await?;
            if next.root() != checkpoint.root {
                return Err(AuditError::Contradiction(format!(
                    "its leaves do not give the signed root at size {size}"
                )));
            }
            *frontier = next;
            self.publish(&checkpoint, note);
        }
        Ok(!arrived.is_empty())
    }

    async fn extend(&self, frontier: &mut Frontier, size: u64) -> Result<(), AuditError> {
        while frontier.size() < size {
            let from = frontier.size();
            let to = size.min(from.saturating_add(LEAVES_PER_QUERY));
            for StoredLeaf { index, entry, hash } in self.store.leaves(&self.log, from, to).await? {
                if index != frontier.size() {
                    return Err(AuditError::RowMissing(frontier.size()));
                }
                let computed = leaf_hash(&entry);
                if computed.as_slice() != hash.as_slice() {
                    return Err(AuditError::Contradiction(format!(
                        "leaf {index} does not have the hash stored beside it"
                    )));
                }
                frontier.push(computed);
            }
            if frontier.size() == from {
                return Err(AuditError::RowMissing(from));
            }
        }
        Ok(())
    }

    fn open(&self, note: &str) -> Result<Checkpoint, AuditError> {
        Checkpoint::open(note, std::slice::from_ref(&self.key)).map_err(|cause| {
            AuditError::Contradiction(format!("a checkpoint does not open: {cause}"))
        })
    }

    /// The first look found no checkpoint at all.
    fn note_empty(&self) {
        self.published.send_if_modified(|audit| {
            let starting = matches!(audit, Audit::Starting);
            if starting {
                *audit = Audit::Empty;
            }
            starting
        });
    }

    fn publish(&self, checkpoint: &Checkpoint, note: &str) {
        self.published.send_replace(Audit::Verified(VerifiedHead {
            size: checkpoint.size,
            root: checkpoint.root,
            note: note.into(),
        }));
        let size = f64::from(u32::try_from(checkpoint.size).unwrap_or(u32::MAX));
        let jurisdiction = self.log.jurisdiction.to_string();
        metrics::gauge!("domicile_audit_verified_leaves", "jurisdiction" => jurisdiction).set(size);
    }

    async fn kept(&self) -> Result<Option<Kept>, AuditError> {
        let file = |source| AuditError::File { path: self.file.clone(), source };
        match tokio::fs::read(&self.file).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file(error)),
            Ok(bytes) => {
                let kept: Kept = serde_json::from_slice(&bytes).map_err(|e| file(e.into()))?;
                Ok(Some(kept).filter(|kept| kept.origin == self.key.name()))
            }
        }
    }

    /// Writes the verified head beside its file and renames it into place: durable before visible.
    async fn persist(&self) -> Result<(), AuditError> {
        let Audit::Verified(head) = self.published.borrow().clone() else { return Ok(()) };
        let kept = Kept {
            origin: self.key.name().to_owned(),
            size: head.size,
            note: head.note.to_string(),
        };
        let file = |source| AuditError::File { path: self.file.clone(), source };
        let bytes = serde_json::to_vec(&kept).map_err(|e| file(e.into()))?;
        replace(&self.file, &bytes).await.map_err(file)
    }
}

async fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = tokio::fs::File::create(&beside).await?;
    file.write_all(bytes).await?;
    file.sync_all().await?;
    tokio::fs::rename(&beside, path).await
}
