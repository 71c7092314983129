//! Roots of complete subtrees from stored rows: leaf hashes (level 0) and one row per complete 256^level block.
//!
//! Shared by the writer's sequencer and the reader, since both rebuild proofs and edges from the same layout.
//! Deliberately absent: verification. Callers compare what they build with a signed root.

use crate::{Error, Query};
use domicile_core::log::node::{RowRange, fold_rows, rows_of};
use domicile_core::log::{Hash, Subtree};
use std::collections::HashMap;

/// Subtrees asked for at once, at most: a proof needs fewer, a tile has 256.
pub const SUBTREES_MAX: usize = 512;

type Rows = HashMap<(u32, u64), Hash>;

/// The roots of `wanted` (at most [`SUBTREES_MAX`]); those whose rows are missing are left out.
pub async fn subtrees(
    database: &impl Query,
    jurisdiction: &str,
    log_epoch: i32,
    wanted: &[Subtree],
) -> Result<HashMap<Subtree, Hash>, Error> {
    let wanted = wanted.get(..SUBTREES_MAX).unwrap_or(wanted);
    let (mut leaves, mut levels, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for range in wanted.iter().map(|subtree| rows_of(*subtree)) {
        for n in range.first..range.first.saturating_add(range.count) {
            let n = i64::try_from(n).unwrap_or(i64::MAX);
            if range.level == 0 {
                leaves.push(n);
            } else {
                levels.push(i16::try_from(range.level).unwrap_or(i16::MAX));
                numbers.push(n);
            }
        }
    }
    let mut rows = Rows::new();
    if !leaves.is_empty() {
        let found = database
            .query(
                "SELECT idx, leaf_hash FROM log.leaf \
                 WHERE jurisdiction = $1 AND log_epoch = $2 AND idx = ANY ($3)",
                &[&jurisdiction, &log_epoch, &leaves],
            )
            .await?;
        for row in &found {
            keep(&mut rows, 0, row.try_get(0), row.try_get(1))?;
        }
    }
    if !numbers.is_empty() {
        let found = database
            .query(
                "SELECT n.level, n.n, n.hash FROM log.node n \
                 JOIN unnest($3::smallint[], $4::bigint[]) AS w (level, n) USING (level, n) \
                 WHERE n.jurisdiction = $1 AND n.log_epoch = $2",
                &[&jurisdiction, &log_epoch, &levels, &numbers],
            )
            .await?;
        for row in &found {
            let level: i16 = row.try_get(0).map_err(decode)?;
            keep(&mut rows, u32::try_from(level).unwrap_or(0), row.try_get(1), row.try_get(2))?;
        }
    }
    Ok(wanted
        .iter()
        .filter_map(|subtree| folded(&rows, rows_of(*subtree)).map(|hash| (*subtree, hash)))
        .collect())
}

fn keep(
    rows: &mut Rows,
    level: u32,
    n: Result<i64, tokio_postgres::Error>,
    hash: Result<&[u8], tokio_postgres::Error>,
) -> Result<(), Error> {
    let n = n.map_err(decode)?;
    let hash = hash.map_err(decode)?;
    // The schema keeps indices non-negative and hashes at 32 bytes; a row that does not fit is missing.
    if let (Ok(n), Ok(hash)) = (u64::try_from(n), Hash::try_from(hash)) {
        rows.insert((level, n), hash);
    }
    Ok(())
}

fn folded(rows: &Rows, range: RowRange) -> Option<Hash> {
    let hashes = (range.first..range.first.saturating_add(range.count))
        .map(|n| rows.get(&(range.level, n)).copied())
        .collect::<Option<Vec<Hash>>>()?;
    fold_rows(&hashes)
}

fn decode(source: tokio_postgres::Error) -> Error {
    Error::decode("read the log's rows", source)
}
