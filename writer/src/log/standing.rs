//! How each log stands, as a row: what the process that writes the logs leaves for those that do not.
//!
//! Invariants: *live* is written by the very transaction that takes the log's head; a row of another epoch says nothing.
//! A process that reads a row takes a checkpoint only when it opens under the log's own key.

use super::store::{EPOCH_IS_MINE, LogId, signed};
use super::{GateEvidence, LogState};
use domicile_core::epoch::Epoch;
use domicile_postgres::{Error, Row, Tx};

const STAND: &str = "INSERT INTO log.standing AS s (jurisdiction, log_epoch, epoch, state, reason, evidence) \
     SELECT $1, $2, $3::bigint, $4, $5, $6 WHERE ";
const STAND_AGAIN: &str = " $3 ON CONFLICT (jurisdiction, log_epoch) DO UPDATE SET epoch = excluded.epoch, \
     state = excluded.state, reason = excluded.reason, evidence = CASE WHEN s.epoch = excluded.epoch \
     THEN coalesce(excluded.evidence, s.evidence) ELSE excluded.evidence END";

/// Where the logs stand: `$1` jurisdictions, `$2` their log epochs, `$3` the writer's epoch.
pub(super) const FOLLOW: &str = "SELECT i.jurisdiction, s.state, s.reason, s.evidence, h.size, c.size, c.note \
     FROM unnest($1::text[], $2::int[]) i(jurisdiction, log_epoch) \
     LEFT JOIN log.standing s ON s.jurisdiction = i.jurisdiction AND s.log_epoch = i.log_epoch AND s.epoch = $3 \
     LEFT JOIN log.head h ON h.jurisdiction = i.jurisdiction AND h.log_epoch = i.log_epoch \
     LEFT JOIN LATERAL (SELECT size, note FROM log.checkpoint WHERE jurisdiction = i.jurisdiction \
       AND log_epoch = i.log_epoch ORDER BY size DESC LIMIT 1) c ON true";

/// Longest reason that is kept, bytes.
const REASON_BYTES: usize = 4_096;

/// One log as another process left it.
#[derive(Debug)]
pub(super) struct Stands {
    pub(super) jurisdiction: String,
    pub(super) state: LogState,
    pub(super) evidence: Option<String>,
    /// Leaves in the tree.
    pub(super) size: u64,
    /// The newest checkpoint's size and note.
    pub(super) published: Option<(u64, String)>,
}

impl Stands {
    pub(super) fn from_row(row: &Row) -> Self {
        let count = |column| {
            let count = row.get::<_, Option<i64>>(column);
            count.and_then(|count| u64::try_from(count).ok())
        };
        let state = match row.get::<_, Option<&str>>(1) {
            Some("live") => LogState::Live,
            Some(_) => LogState::Suspended {
                reason: row
                    .get::<_, Option<&str>>(2)
                    .unwrap_or("another process suspended it")
                    .into(),
            },
            None => LogState::Starting,
        };
        Self {
            jurisdiction: row.get(0),
            state,
            evidence: row.get(3),
            size: count(4).unwrap_or(0),
            published: count(5).zip(row.get(6)),
        }
    }
}

/// Writes that the log is live; evidence of the same epoch stays where none is given.
pub(super) async fn live(
    tx: &Tx<'_>,
    log: &LogId,
    epoch: Epoch,
    evidence: Option<&GateEvidence>,
) -> Result<u64, Error> {
    stand(tx, log, epoch, ("live", None, evidence)).await
}

/// Writes that the log is suspended, and why.
pub(super) async fn suspended(
    tx: &Tx<'_>,
    log: &LogId,
    epoch: Epoch,
    reason: &str,
) -> Result<u64, Error> {
    let end = reason.floor_char_boundary(REASON_BYTES);
    stand(tx, log, epoch, ("suspended", reason.get(..end), None)).await
}

async fn stand(
    tx: &Tx<'_>,
    log: &LogId,
    epoch: Epoch,
    (state, reason, evidence): (&str, Option<&str>, Option<&GateEvidence>),
) -> Result<u64, Error> {
    let evidence = evidence.and_then(|evidence| serde_json::to_string(evidence).ok());
    let jurisdiction = log.jurisdiction.as_str();
    tx.execute(
        &format!("{STAND}{EPOCH_IS_MINE}{STAND_AGAIN}"),
        &[&jurisdiction, &log.log_epoch, &signed(epoch.0), &state, &reason, &evidence],
    )
    .await
}
