//! What is read of the operations log: entries as they are hashed, the newest checkpoint, proofs from one to the other.
//!
//! Invariant: entries and proofs are below the size of the published checkpoint they are told with.

use crate::answer::Failure;
use domicile_core::error::Code;
use domicile_core::hex;
use domicile_core::log::Subtree;
use domicile_core::log::proof::{Missing, ProofPlan};
use domicile_core::operation;
use domicile_postgres::{Row, Session, log_rows};
use serde::Serialize;
use uuid::Uuid;

const CHECKPOINT: &str = "SELECT log_epoch, size, note FROM log.checkpoint WHERE jurisdiction = $1 \
     ORDER BY log_epoch DESC, size DESC LIMIT 1";

const ENTRIES: &str = "SELECT idx, convert_from(entry, 'UTF8') FROM log.leaf WHERE jurisdiction = $1 AND log_epoch = $2 \
     AND idx >= $3 AND idx < $4 ORDER BY idx LIMIT $5";

const INDEX: &str = "SELECT idx FROM log.subject WHERE jurisdiction = $1 AND subject = $2 AND log_epoch = $3 \
     AND kind = 'operation'";

/// The newest published tree head.
#[derive(Debug, Clone)]
pub struct Head {
    log_epoch: i32,
    /// Its size.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// An entry with its place.
#[derive(Debug, Clone, Serialize)]
pub struct Placed {
    index: u64,
    entry: String,
}

/// The newest checkpoint, if one was published.
pub async fn head(session: &Session) -> Result<Option<Head>, Failure> {
    let row = session.query_opt(CHECKPOINT, &[&operation::LOG_CODE]).await?;
    Ok(row.map(|row| Head { log_epoch: row.get(0), size: unsigned(row.get(1)), note: row.get(2) }))
}

/// Entries from an index on.
pub async fn entries(
    session: &Session,
    head: &Head,
    from: u64,
    limit: i64,
) -> Result<Vec<Placed>, Failure> {
    let (from, size) = (signed(from), signed(head.size));
    let rows = session
        .query(ENTRIES, &[&operation::LOG_CODE, &head.log_epoch, &from, &size, &limit])
        .await?;
    let placed = |row: &Row| Placed { index: unsigned(row.get(0)), entry: row.get(1) };
    Ok(rows.iter().map(placed).collect())
}

/// Where an entry stands.
pub async fn index(session: &Session, head: &Head, id: Uuid) -> Result<Option<u64>, Failure> {
    let row = session.query_opt(INDEX, &[&operation::LOG_CODE, &id, &head.log_epoch]).await?;
    Ok(row.map(|row| unsigned(row.get(0))).filter(|index| *index < head.size))
}

/// The proof that an entry is in the tree.
pub async fn inclusion(session: &Session, head: &Head, index: u64) -> Result<Vec<String>, Failure> {
    proof(session, head, ProofPlan::inclusion(index, head.size)).await
}

/// The proof that the tree extends the one of an earlier size.
pub async fn consistency(
    session: &Session,
    head: &Head,
    from: u64,
) -> Result<Vec<String>, Failure> {
    proof(session, head, ProofPlan::consistency(from, head.size)).await
}

async fn proof<E>(
    session: &Session,
    head: &Head,
    plan: Result<ProofPlan, E>,
) -> Result<Vec<String>, Failure> {
    let beyond = Failure::with(Code::NotFound, "the log is not that long");
    let plan = plan.map_err(|_out_of_range| beyond)?;
    let wanted: Vec<Subtree> = plan.subtrees().collect();
    let log = operation::LOG_CODE;
    let mut found = log_rows::subtrees(session, log, head.log_epoch, &wanted).await?;
    let hashes = plan.assemble(&mut found);
    let hashes = hashes.map_err(|Missing(_subtree)| {
        Failure::with(Code::Internal, "the ledger lacks rows of the operations log")
    })?;
    Ok(hashes.iter().map(|hash| hex::encode(hash)).collect())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
