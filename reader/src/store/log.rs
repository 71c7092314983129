//! The log's tables: checkpoints, leaves, where a round's leaves stand, and rows of the tree.
//!
//! Invariant: a row that the schema does not allow (a hash that is not 32 bytes, a leaf that is no text) is treated
//! as missing. Deliberately absent: verification; `proofs` and `auditor` compare with signed roots.

use super::{LogId, Store, signed, unsigned};
use domicile_core::ids::RoundId;
use domicile_core::log::{Hash, Subtree};
use domicile_postgres::{Error, log_rows};
use std::collections::HashMap;
use tokio_postgres::Row;

/// A checkpoint as replicated, not yet verified.
#[derive(Debug, Clone)]
pub struct StoredCheckpoint {
    /// The size the row claims.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// A leaf as replicated.
#[derive(Debug, Clone)]
pub struct StoredLeaf {
    /// Its place.
    pub index: u64,
    /// The exact bytes that are hashed.
    pub entry: Vec<u8>,
    /// The hash stored beside it.
    pub hash: Vec<u8>,
}

/// A leaf of a round and the checkpoint that covers it.
#[derive(Debug, Clone)]
pub struct StoredEntry {
    /// What it says of the round: `round-commit`, `play` and so on.
    pub kind: String,
    /// Its place.
    pub index: u64,
    /// The exact text that is hashed; missing while its row has not arrived.
    pub entry: Option<String>,
    /// The smallest published checkpoint that covers it.
    pub checkpoint: Option<StoredCheckpoint>,
}

/// Everything that the bundles of some rounds need, in one statement. Each part is looked up by the whole of
/// its key: `LATERAL … LIMIT` keeps it so whatever the planner believes of tables that it never analysed.
/// A subject has at most six kinds of leaves.
const ENTRIES: &str = "SELECT w.subject, s.kind, s.idx, l.entry, c.size, c.note \
     FROM unnest($3::uuid[]) AS w (subject) \
     CROSS JOIN LATERAL (SELECT log_epoch, kind, idx FROM log.subject \
         WHERE jurisdiction = $1 AND subject = w.subject ORDER BY kind LIMIT 6) s \
     LEFT JOIN LATERAL (SELECT entry FROM log.leaf \
         WHERE jurisdiction = $1 AND log_epoch = $2 AND idx = s.idx LIMIT 1) l ON true \
     LEFT JOIN LATERAL (SELECT size, note FROM log.checkpoint \
         WHERE jurisdiction = $1 AND log_epoch = $2 AND size > s.idx ORDER BY size LIMIT 1) c ON true \
     WHERE s.log_epoch = $2 ORDER BY s.idx";

impl Store {
    /// Rows of complete subtrees, for proofs and roots.
    pub async fn subtrees(
        &self,
        log: &LogId,
        wanted: &[Subtree],
    ) -> Result<HashMap<Subtree, Hash>, Error> {
        let session = self.session().await?;
        log_rows::subtrees(&session, log.jurisdiction.as_str(), log.log_epoch, wanted).await
    }

    /// Checkpoints above `size`, smallest first.
    pub async fn checkpoints_after(
        &self,
        log: &LogId,
        size: u64,
        limit: i64,
    ) -> Result<Vec<StoredCheckpoint>, Error> {
        let session = self.session().await?;
        let rows = session
            .query(
                "SELECT size, note FROM log.checkpoint \
                 WHERE jurisdiction = $1 AND log_epoch = $2 AND size > $3 ORDER BY size LIMIT $4",
                &[&log.jurisdiction.as_str(), &log.log_epoch, &signed(size), &limit],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(StoredCheckpoint { size: unsigned(row.try_get(0)?), note: row.try_get(1)? })
            })
            .collect::<Result<_, _>>()
            .map_err(|source| Error::decode("read checkpoints", source))
    }

    /// The smallest published checkpoint that covers leaf `index`.
    pub async fn checkpoint_covering(
        &self,
        log: &LogId,
        index: u64,
    ) -> Result<Option<StoredCheckpoint>, Error> {
        Ok(self.checkpoints_after(log, index, 1).await?.pop())
    }

    /// The checkpoint published for exactly `size`.
    pub async fn checkpoint_at(
        &self,
        log: &LogId,
        size: u64,
    ) -> Result<Option<StoredCheckpoint>, Error> {
        let Some(below) = size.checked_sub(1) else { return Ok(None) };
        let next = self.checkpoint_covering(log, below).await?;
        Ok(next.filter(|checkpoint| checkpoint.size == size))
    }

    /// Leaves `from..to`, in order; fewer when some are missing.
    pub async fn leaves(&self, log: &LogId, from: u64, to: u64) -> Result<Vec<StoredLeaf>, Error> {
        let session = self.session().await?;
        let rows = session
            .query(
                "SELECT idx, entry, leaf_hash FROM log.leaf WHERE jurisdiction = $1 \
                 AND log_epoch = $2 AND idx >= $3 AND idx < $4 ORDER BY idx",
                &[&log.jurisdiction.as_str(), &log.log_epoch, &signed(from), &signed(to)],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(StoredLeaf {
                    index: unsigned(row.try_get(0)?),
                    entry: row.try_get(1)?,
                    hash: row.try_get(2)?,
                })
            })
            .collect::<Result<_, _>>()
            .map_err(|source| Error::decode("read leaves", source))
    }

    /// The leaves of each of these rounds in order, each with the checkpoint that covers it.
    pub async fn entries(
        &self,
        log: &LogId,
        rounds: &[RoundId],
    ) -> Result<HashMap<RoundId, Vec<StoredEntry>>, Error> {
        let subjects: Vec<uuid::Uuid> = rounds.iter().map(|round| round.0).collect();
        let session = self.session().await?;
        let rows = session
            .query(ENTRIES, &[&log.jurisdiction.as_str(), &log.log_epoch, &subjects])
            .await?;
        let mut entries: HashMap<RoundId, Vec<StoredEntry>> = HashMap::with_capacity(rounds.len());
        for row in &rows {
            let (round, entry) = stored_entry(row)
                .map_err(|source| Error::decode("read the leaves of rounds", source))?;
            entries.entry(round).or_default().push(entry);
        }
        Ok(entries)
    }

    /// Neighbouring rows of the tree from row `from` on, below `to`; as many as there are without a gap.
    /// Level 0 are leaf hashes, level L roots of complete subtrees of 256^L leaves.
    pub async fn tree_rows(
        &self,
        log: &LogId,
        level: u32,
        from: u64,
        to: u64,
    ) -> Result<Vec<Hash>, Error> {
        let session = self.session().await?;
        let (jurisdiction, from_row, to_row) =
            (log.jurisdiction.as_str(), signed(from), signed(to));
        let rows = if level == 0 {
            let sql = "SELECT idx, leaf_hash FROM log.leaf WHERE jurisdiction = $1 \
                 AND log_epoch = $2 AND idx >= $3 AND idx < $4 ORDER BY idx";
            session.query(sql, &[&jurisdiction, &log.log_epoch, &from_row, &to_row]).await?
        } else {
            let level = i16::try_from(level).unwrap_or(i16::MAX);
            let sql = "SELECT n, hash FROM log.node WHERE jurisdiction = $1 AND log_epoch = $2 \
                 AND level = $5 AND n >= $3 AND n < $4 ORDER BY n";
            session.query(sql, &[&jurisdiction, &log.log_epoch, &from_row, &to_row, &level]).await?
        };
        let mut hashes = Vec::with_capacity(rows.len());
        for (row, wanted) in rows.iter().zip(from..) {
            let number = row.try_get(0).map(unsigned);
            let hash: Result<&[u8], _> = row.try_get(1);
            let (number, hash) = number
                .and_then(|number| Ok((number, hash?)))
                .map_err(|source| Error::decode("read the log's rows", source))?;
            match Hash::try_from(hash) {
                Ok(hash) if number == wanted => hashes.push(hash),
                _ => break,
            }
        }
        Ok(hashes)
    }
}

fn stored_entry(row: &Row) -> Result<(RoundId, StoredEntry), tokio_postgres::Error> {
    let entry: Option<&[u8]> = row.try_get(3)?;
    let size: Option<i64> = row.try_get(4)?;
    let note: Option<String> = row.try_get(5)?;
    let entry = StoredEntry {
        kind: row.try_get(1)?,
        index: unsigned(row.try_get(2)?),
        entry: entry.and_then(|entry| String::from_utf8(entry.to_vec()).ok()),
        checkpoint: size
            .zip(note)
            .map(|(size, note)| StoredCheckpoint { size: unsigned(size), note }),
    };
    Ok((RoundId(row.try_get(0)?), entry))
}
