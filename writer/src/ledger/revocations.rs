//! Revocations of many sessions, and what was written of them in the order of its transactions.

use super::term;
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, OperatorId, PlayerRef, SessionId};
use domicile_postgres::types::ToSql;
use domicile_postgres::{Query, Row, Tx};
use serde::Serialize;
use uuid::Uuid;

const REVOKE_ONE: &str = concat!(
    "WITH hit AS (UPDATE ledger.session SET revoked_at = now() WHERE jurisdiction = ANY($2) AND id = $3 ",
    "AND revoked_at IS NULL AND ",
    in_term!(),
    " RETURNING jurisdiction, id) ",
    "INSERT INTO ledger.session_revocation (jurisdiction, session_id, revoked_at) ",
    "SELECT jurisdiction, id, now() FROM hit ON CONFLICT DO NOTHING"
);

/// A token may outlive its session by its leeway.
const REVOKE_MANY: &str = concat!(
    "WITH hit AS (UPDATE ledger.session s SET revoked_at = now() FROM (",
    "SELECT jurisdiction, id FROM ledger.session WHERE operator_id = $2 AND ($3::text IS NULL OR player_ref = $3) ",
    "AND expires_at > now() - interval '1 minute' AND revoked_at IS NULL LIMIT $4 FOR UPDATE) h ",
    "WHERE s.jurisdiction = h.jurisdiction AND s.id = h.id AND ",
    in_term!(),
    " RETURNING s.jurisdiction, s.id) ",
    "INSERT INTO ledger.session_revocation (jurisdiction, session_id, revoked_at) ",
    "SELECT jurisdiction, id, now() FROM hit ON CONFLICT DO NOTHING"
);

/// The horizon is of the statement's own snapshot.
macro_rules! page {
    ($begin:literal, $from:literal) => {
        concat!(
            $begin,
            "SELECT session_id, extract(epoch FROM revoked_at)::bigint, written_by::text::bigint, ",
            "pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM ledger.revocation_order WHERE ",
            $from,
            " ORDER BY written_by, session_id LIMIT $1"
        )
    };
}

/// Found by their time and then read by their order: going through all of the order for a time would read every one there is.
const RECENT: &str = page!(
    "WITH recent AS MATERIALIZED (SELECT written_by FROM ledger.revocation_order \
     WHERE revoked_at >= now() - make_interval(secs => $2::bigint)) ",
    "written_by >= (SELECT min(written_by) FROM recent)"
);

const AFTER: &str = page!("", "(written_by, session_id) > ($2::bigint::text::xid8, $3::uuid)");

/// Whose sessions are revoked.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// This one.
    Session(SessionId),
    /// All of an operator's player.
    Player(&'a OperatorId, &'a PlayerRef),
    /// All of an operator.
    Operator(&'a OperatorId),
}

/// A revocation.
#[derive(Debug, Clone, Serialize)]
pub struct Revocation {
    session: Uuid,
    at_unix_s: i64,
}

/// Revokes and publishes as many as a batch holds; says how many.
pub async fn revoke(
    tx: &Tx<'_>,
    epoch: Epoch,
    whose: Whose<'_>,
    codes: &[Jurisdiction],
) -> Result<u64, domicile_postgres::Error> {
    let epoch = term(epoch);
    let many = async |operator: &OperatorId, player: Option<&str>| {
        let params: [&(dyn ToSql + Sync); 4] =
            [&epoch, &operator.as_str(), &player, &limits::REVOKE_SESSIONS];
        tx.execute(REVOKE_MANY, &params).await
    };
    match whose {
        Whose::Session(session) => {
            let codes: Vec<_> = codes.iter().map(Jurisdiction::as_str).collect();
            tx.execute(REVOKE_ONE, &[&epoch, &codes, &session.0]).await
        }
        Whose::Player(operator, player) => many(operator, Some(player.as_str())).await,
        Whose::Operator(operator) => many(operator, None).await,
    }
}

/// A row's place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The transaction that wrote it.
    pub by: i64,
    /// Among the rows of that transaction.
    pub session: Uuid,
}

/// Revocations in the order in which they were written.
#[derive(Debug)]
pub struct Page {
    /// What there is.
    pub revoked: Vec<Revocation>,
    /// The last of them.
    pub last: Option<Written>,
    /// The oldest transaction under way when this was read: below it nothing becomes visible any more.
    pub horizon: Option<i64>,
}

/// What was written after a place, or within the time that a token may reach back.
pub async fn page(
    on: &impl Query,
    after: Option<Written>,
    limit: i64,
) -> Result<Page, domicile_postgres::Error> {
    let rows = match after {
        Some(Written { by, session }) => on.query(AFTER, &[&limit, &by, &session]).await?,
        None => on.query(RECENT, &[&limit, &limits::REVOCATION_WINDOW_S]).await?,
    };
    let revocation = |row: &Row| Revocation { session: row.get(0), at_unix_s: row.get(1) };
    Ok(Page {
        revoked: rows.iter().map(revocation).collect(),
        last: rows.last().map(|row| Written { by: row.get(2), session: row.get(0) }),
        horizon: rows.first().map(|row| row.get(3)),
    })
}
