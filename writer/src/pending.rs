//! The outbox of the log: leaves wait here, written by the transaction that made them true.
//!
//! The sequencer of a jurisdiction takes pending leaves in the order they were written in, gives them their index and
//! deletes them. A subject is what later leaves refer to: the round for a shared round's leaves and for a play,
//! the chain for chain leaves. Where a commitment stands is read back from `log.subject`.
//! Invariant: a leaf is enqueued in the same transaction as the state it tells of.

use crate::lane::{BatchError, Executor};
use crate::ledger::{WriteError, all_written, term};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::ids::Jurisdiction;
use domicile_core::leaf::Leaf;
use domicile_postgres::{Pool, Tx};
use uuid::Uuid;

const ENQUEUE: &str = concat!(
    "INSERT INTO log.pending (jurisdiction, id, subject, kind, entry) ",
    "SELECT * FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[]) WHERE ",
    in_term!()
);

const COMMIT_INDEXES: &str = "SELECT l.idx FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY \
       AS i(jurisdiction, subject, n) \
     LEFT JOIN LATERAL (SELECT idx FROM log.subject WHERE jurisdiction = i.jurisdiction \
       AND subject = i.subject AND kind IN ('round-commit', 'chain-commit') LIMIT 1) l ON true \
     ORDER BY i.n";

/// A leaf on its way into its jurisdiction's log.
#[derive(Debug, Clone)]
pub struct PendingLeaf {
    /// Which log.
    pub jurisdiction: Jurisdiction,
    /// Its name in the outbox.
    pub id: Uuid,
    /// The round or chain it is about.
    pub subject: Uuid,
    /// The leaf's kind as `log.subject` names it.
    pub kind: &'static str,
    /// The exact text.
    pub entry: String,
}

impl PendingLeaf {
    /// Makes the outbox row of a leaf.
    pub fn new(id: Uuid, subject: Uuid, leaf: &Leaf) -> Self {
        Self {
            jurisdiction: leaf.jurisdiction().clone(),
            id,
            subject,
            kind: leaf.kind(),
            entry: leaf.encode(),
        }
    }
}

/// Enqueues leaves in the transaction that changes what they tell of.
pub async fn enqueue(tx: &Tx<'_>, epoch: Epoch, leaves: &[PendingLeaf]) -> Result<(), WriteError> {
    if leaves.is_empty() {
        return Ok(());
    }
    let jurisdictions: Vec<_> = leaves.iter().map(|leaf| leaf.jurisdiction.as_str()).collect();
    let ids: Vec<_> = leaves.iter().map(|leaf| leaf.id).collect();
    let subjects: Vec<_> = leaves.iter().map(|leaf| leaf.subject).collect();
    let kinds: Vec<_> = leaves.iter().map(|leaf| leaf.kind).collect();
    let entries: Vec<_> = leaves.iter().map(|leaf| leaf.entry.as_str()).collect();
    let written = tx
        .execute(ENQUEUE, &[&term(epoch), &jurisdictions, &ids, &subjects, &kinds, &entries])
        .await?;
    all_written(written, leaves.len())
}

/// Which commitment is looked for.
#[derive(Debug)]
pub struct CommitLook {
    /// The log.
    pub jurisdiction: Jurisdiction,
    /// The round or chain.
    pub subject: Uuid,
}

/// Says where commitments stand in their logs; `None` until they are sequenced.
#[derive(Debug)]
pub struct CommitLooker {
    /// Connections.
    pub pool: Pool,
}

impl Executor for CommitLooker {
    type Job = CommitLook;
    type Done = Option<u64>;
    const NAME: &'static str = "commit-look";
    const WORKERS: usize = limits::LOOK_WORKERS;

    async fn run(&self, looks: &[CommitLook]) -> Result<Vec<Option<u64>>, BatchError> {
        let codes: Vec<_> = looks.iter().map(|look| look.jurisdiction.as_str()).collect();
        let subjects: Vec<_> = looks.iter().map(|look| look.subject).collect();
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let session = self.pool.session().await.map_err(whole)?;
        let rows = session.query(COMMIT_INDEXES, &[&codes, &subjects]).await.map_err(whole)?;
        let index = |idx: Option<i64>| idx.and_then(|idx| u64::try_from(idx).ok());
        Ok(rows.iter().map(|row| index(row.get(0))).collect())
    }
}
