//! The log's rows in the ledger: every statement of the sequencer, and nothing else.
//!
//! Invariants: leaf, node, subject and checkpoint rows are inserted and never changed; every transaction
//! that writes reads the epoch, so a writer whose term has ended changes nothing.

use domicile_core::epoch::Epoch;
use domicile_core::ids::Jurisdiction;
use domicile_core::log::Hash;
use domicile_core::log::node::Node;
use domicile_postgres::{Error, Row, Session, Tx};
use uuid::Uuid;

/// Which log: the jurisdiction and the log's own epoch (a new one only after a fork).
#[derive(Debug, Clone)]
pub(crate) struct LogId {
    pub(crate) jurisdiction: Jurisdiction,
    pub(crate) log_epoch: i32,
}

/// The head row: what the last sequencing transaction left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) root: Vec<u8>,
    pub(crate) writer_epoch: Epoch,
}

/// A leaf waiting in the outbox.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) seq: i64,
    pub(crate) subject: Uuid,
    pub(crate) kind: String,
    pub(crate) entry: String,
}

/// A leaf with its place.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) index: u64,
    pub(crate) hash: Hash,
    pub(crate) pending: Pending,
}

const HEAD: &str =
    "SELECT size, root, writer_epoch FROM log.head WHERE jurisdiction = $1 AND log_epoch = $2";
/// A condition on the epoch that the parameter after it names.
pub(super) const EPOCH_IS_MINE: &str = "(SELECT max(epoch) FROM ledger.epoch) =";

/// True when `epoch` is the newest opened one: a plain read, no lock.
pub(crate) async fn epoch_is_open(tx: &Tx<'_>, epoch: Epoch) -> Result<bool, Error> {
    let row =
        tx.query_opt(&format!("SELECT 1 WHERE {EPOCH_IS_MINE} $1"), &[&signed(epoch.0)]).await?;
    Ok(row.is_some())
}

/// Locks and reads the head row. One sequencer holds it per log, so nothing else waits on it.
pub(crate) async fn lock_head(tx: &Tx<'_>, log: &LogId) -> Result<Option<Head>, Error> {
    let lock = format!("{HEAD} FOR UPDATE");
    let row = tx.query_opt(&lock, &[&log.jurisdiction.as_str(), &log.log_epoch]).await?;
    row.as_ref().map(head_of).transpose()
}

/// Reads the head row; `None` before the log's first claim.
pub(crate) async fn head(session: &Session, log: &LogId) -> Result<Option<Head>, Error> {
    let row = session.query_opt(HEAD, &[&log.jurisdiction.as_str(), &log.log_epoch]).await?;
    row.as_ref().map(head_of).transpose()
}

fn head_of(row: &Row) -> Result<Head, Error> {
    let decode = |source| Error::decode("read the log head", source);
    Ok(Head {
        size: unsigned(row.try_get(0).map_err(decode)?),
        root: row.try_get(1).map_err(decode)?,
        writer_epoch: Epoch(unsigned(row.try_get(2).map_err(decode)?)),
    })
}

/// True when the outbox holds a leaf for the log: cheap enough to ask often.
pub(crate) async fn has_pending(session: &Session, log: &LogId) -> Result<bool, Error> {
    let row = session
        .query_opt(
            "SELECT 1 FROM log.pending WHERE jurisdiction = $1 LIMIT 1",
            &[&log.jurisdiction.as_str()],
        )
        .await?;
    Ok(row.is_some())
}

/// Takes up to `limit` leaves out of the outbox, in the order they were written in. The locked head row keeps others
/// away.
pub(crate) async fn take_pending(
    tx: &Tx<'_>,
    log: &LogId,
    limit: i64,
) -> Result<Vec<Pending>, Error> {
    let rows = tx
        .query(
            "DELETE FROM log.pending p USING ( \
               SELECT seq FROM log.pending WHERE jurisdiction = $1 ORDER BY seq LIMIT $2) t \
             WHERE p.jurisdiction = $1 AND p.seq = t.seq RETURNING p.seq, p.subject, p.kind, p.entry",
            &[&log.jurisdiction.as_str(), &limit],
        )
        .await?;
    let mut pending = rows
        .iter()
        .map(|row| {
            Ok(Pending {
                seq: row.try_get(0)?,
                subject: row.try_get(1)?,
                kind: row.try_get(2)?,
                entry: row.try_get(3)?,
            })
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::decode("read pending leaves", source))?;
    pending.sort_by_key(|leaf| leaf.seq);
    Ok(pending)
}

/// Writes leaves, their subjects, the subtrees they complete and the new head: the body of transaction A.
pub(crate) async fn append(
    tx: &Tx<'_>,
    log: &LogId,
    placed: &[Placed],
    nodes: &[Node],
    size: u64,
    root: &Hash,
    epoch: Epoch,
) -> Result<(), Error> {
    let jurisdiction = log.jurisdiction.as_str();
    let indices: Vec<i64> = placed.iter().map(|leaf| signed(leaf.index)).collect();
    let entries: Vec<&[u8]> = placed.iter().map(|leaf| leaf.pending.entry.as_bytes()).collect();
    let hashes: Vec<&[u8]> = placed.iter().map(|leaf| leaf.hash.as_slice()).collect();
    tx.execute(
        "INSERT INTO log.leaf (jurisdiction, log_epoch, idx, entry, leaf_hash) \
         SELECT $1, $2, t.* FROM unnest($3::bigint[], $4::bytea[], $5::bytea[]) AS t",
        &[&jurisdiction, &log.log_epoch, &indices, &entries, &hashes],
    )
    .await?;
    let subjects: Vec<Uuid> = placed.iter().map(|leaf| leaf.pending.subject).collect();
    let kinds: Vec<&str> = placed.iter().map(|leaf| leaf.pending.kind.as_str()).collect();
    tx.execute(
        "INSERT INTO log.subject (jurisdiction, log_epoch, subject, kind, idx) \
         SELECT $1, $2, t.* FROM unnest($3::uuid[], $4::text[], $5::bigint[]) AS t",
        &[&jurisdiction, &log.log_epoch, &subjects, &kinds, &indices],
    )
    .await?;
    if !nodes.is_empty() {
        let levels: Vec<i16> =
            nodes.iter().map(|node| i16::try_from(node.level).unwrap_or(i16::MAX)).collect();
        let numbers: Vec<i64> = nodes.iter().map(|node| signed(node.index)).collect();
        let hashes: Vec<&[u8]> = nodes.iter().map(|node| node.hash.as_slice()).collect();
        tx.execute(
            "INSERT INTO log.node (jurisdiction, log_epoch, level, n, hash) \
             SELECT $1, $2, t.* FROM unnest($3::smallint[], $4::bigint[], $5::bytea[]) AS t",
            &[&jurisdiction, &log.log_epoch, &levels, &numbers, &hashes],
        )
        .await?;
    }
    tx.execute(
        "UPDATE log.head SET size = $3, root = $4, writer_epoch = $5 \
         WHERE jurisdiction = $1 AND log_epoch = $2",
        &[&jurisdiction, &log.log_epoch, &signed(size), &root.as_slice(), &signed(epoch.0)],
    )
    .await?;
    Ok(())
}

/// Records that this epoch's writer speaks for the log now, if the head is as it was judged and the epoch is open.
pub(crate) async fn claim_head(
    tx: &Tx<'_>,
    log: &LogId,
    size: u64,
    root: &Hash,
    epoch: Epoch,
) -> Result<u64, Error> {
    let claim = format!(
        "INSERT INTO log.head AS h (jurisdiction, log_epoch, size, root, writer_epoch) \
         SELECT $1, $2, $3, $4, $5::bigint WHERE {EPOCH_IS_MINE} $5 \
         ON CONFLICT (jurisdiction, log_epoch) DO UPDATE SET writer_epoch = excluded.writer_epoch \
         WHERE h.size = excluded.size AND h.root = excluded.root"
    );
    let of = log.jurisdiction.as_str();
    let (size, epoch) = (signed(size), signed(epoch.0));
    tx.execute(&claim, &[&of, &log.log_epoch, &size, &root.as_slice(), &epoch]).await
}

/// Publishes a signed checkpoint (transaction B). Ed25519 is deterministic, so a repeat is the same row.
pub(crate) async fn insert_checkpoint(
    tx: &Tx<'_>,
    log: &LogId,
    size: u64,
    note: &str,
) -> Result<u64, Error> {
    tx.execute(
        "INSERT INTO log.checkpoint (jurisdiction, log_epoch, size, note) \
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        &[&log.jurisdiction.as_str(), &log.log_epoch, &signed(size), &note],
    )
    .await
}

/// The newest published checkpoint, if any.
pub(crate) async fn latest_checkpoint(
    session: &Session,
    log: &LogId,
) -> Result<Option<(u64, String)>, Error> {
    let row = session
        .query_opt(
            "SELECT size, note FROM log.checkpoint WHERE jurisdiction = $1 AND log_epoch = $2 \
             ORDER BY size DESC LIMIT 1",
            &[&log.jurisdiction.as_str(), &log.log_epoch],
        )
        .await?;
    row.map(|row| Ok((unsigned(row.try_get::<_, i64>(0)?), row.try_get(1)?)))
        .transpose()
        .map_err(|source| Error::decode("read the latest checkpoint", source))
}

/// How far the write-ahead log is on this server's disk: at or behind no commit that was acknowledged before.
pub(crate) async fn position(session: &Session) -> Result<String, Error> {
    let row = session.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?;
    row.try_get(0).map_err(|source| Error::decode("read the log's position", source))
}

/// Whether one of these subscribers has confirmed that it has everything before `position` on its disk.
pub(crate) async fn confirmed(
    session: &Session,
    slots: &[String],
    position: &str,
) -> Result<bool, Error> {
    let row = session
        .query_opt(
            "SELECT 1 FROM pg_replication_slots WHERE slot_name = ANY ($1) \
             AND confirmed_flush_lsn >= $2::text::pg_lsn LIMIT 1",
            &[&slots, &position],
        )
        .await?;
    Ok(row.is_some())
}

/// Beats once for every jurisdiction of the epoch's writer: readers measure their lag by it.
pub(crate) async fn beat(tx: &Tx<'_>, jurisdictions: &[&str], epoch: Epoch) -> Result<u64, Error> {
    tx.execute(
        &format!(
            "INSERT INTO ledger.heartbeat AS h (jurisdiction, beat, epoch) \
             SELECT j, 1, $2::bigint FROM unnest($1::text[]) AS j WHERE {EPOCH_IS_MINE} $2 \
             ON CONFLICT (jurisdiction) DO UPDATE SET beat = h.beat + 1, epoch = excluded.epoch"
        ),
        &[&jurisdictions, &signed(epoch.0)],
    )
    .await
}

/// A count as Postgres stores it. Counts here never come near 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count as Postgres returned it; the schema keeps it non-negative.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
