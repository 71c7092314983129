//! Limits of sessions, and the bets that count against a loss limit.
//!
//! Invariant: a bet of a session with a loss limit is counted under the session's lock, in the transaction that writes it,
//! by a statement that sees every bet counted before; what would pass the limit is not counted, which is a shortfall.

use super::{WriteError, all_written, term};
use crate::order::SaltedRecord;
use domicile_core::epoch::Epoch;
use domicile_postgres::{Row, Tx};

/// The columns of [`SessionLimits`], of `ledger.session s`, in a look of its own: what a session with a loss limit has
/// lost is the sum over its bets, those still open counted as lost.
macro_rules! limit_columns {
    () => {
        "s.stake_limit_micro, s.loss_limit_micro, extract(epoch FROM s.play_until)::bigint AS play_until, \
         CASE WHEN s.loss_limit_micro IS NOT NULL THEN (SELECT coalesce(sum(b.stake_micro - coalesce(b.payout_micro, 0)), 0)\
         ::bigint FROM ledger.limited_bet l JOIN ledger.bet b ON b.jurisdiction = l.jurisdiction AND b.id = l.bet_id \
         WHERE l.jurisdiction = s.jurisdiction AND l.session_id = s.id) END AS lost_micro"
    };
}
pub(crate) use limit_columns;

/// Beside the locks by which bets keep their sessions from being revoked; those of others that count wait.
const LOCK: &str = "SELECT 1 FROM unnest($1::text[], $2::uuid[]) i(jurisdiction, session) \
     JOIN ledger.session s ON s.jurisdiction = i.jurisdiction AND s.id = i.session \
     ORDER BY s.jurisdiction, s.id FOR NO KEY UPDATE OF s";

const COUNT: &str = concat!(
    "INSERT INTO ledger.limited_bet (jurisdiction, session_id, bet_id) SELECT i.jurisdiction, i.session, i.bet ",
    "FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::bigint[]) i(jurisdiction, session, bet, stake) ",
    "CROSS JOIN LATERAL (SELECT ",
    limit_columns!(),
    " FROM ledger.session s WHERE s.jurisdiction = i.jurisdiction AND s.id = i.session) s ",
    "WHERE (s.loss_limit_micro IS NULL OR s.lost_micro + i.stake <= s.loss_limit_micro) AND ",
    in_term!()
);

/// The limits of a session, and what it has lost where that is limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// The largest stake of one bet.
    pub stake_micro: Option<i64>,
    /// The most that may be lost.
    pub loss_micro: Option<i64>,
    /// When bets are no longer taken.
    pub play_until_unix_s: Option<u64>,
    /// What was lost so far.
    pub lost_micro: Option<i64>,
}

impl SessionLimits {
    /// Reads the columns of `limit_columns`, from this one on.
    pub fn from_row(row: &Row, from: usize) -> Self {
        let until: Option<i64> = row.get(from.saturating_add(2));
        Self {
            stake_micro: row.get(from),
            loss_micro: row.get(from.saturating_add(1)),
            play_until_unix_s: until.and_then(|until| u64::try_from(until).ok()),
            lost_micro: row.get(from.saturating_add(3)),
        }
    }
}

/// Counts bets against their sessions' loss limits; one that would pass its limit is a shortfall.
pub async fn count<'a>(
    tx: &Tx<'_>,
    epoch: Epoch,
    bets: impl Iterator<Item = &'a SaltedRecord> + Clone,
) -> Result<(), WriteError> {
    let records = || bets.clone().map(|salted| &salted.record);
    let ids: Vec<_> = records().map(|record| record.bet.0).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let jurisdictions: Vec<_> = records().map(|record| record.jurisdiction.as_str()).collect();
    let sessions: Vec<_> = records().map(|record| record.session.0).collect();
    let stakes: Vec<_> = records().map(|record| record.stake.as_i64()).collect();
    // A statement of its own: the next one must see what those have written who had the lock before.
    tx.query(LOCK, &[&jurisdictions, &sessions]).await?;
    let params: [&(dyn domicile_postgres::types::ToSql + Sync); 5] =
        [&term(epoch), &jurisdictions, &sessions, &ids, &stakes];
    all_written(tx.execute(COUNT, &params).await?, ids.len())
}
