//! Revocations of many sessions, and those of the last hour.

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

const SINCE: &str = "SELECT session_id, extract(epoch FROM revoked_at)::bigint FROM ledger.session_revocation \
     WHERE revoked_at >= greatest(to_timestamp($1::bigint), now() - make_interval(secs => $2::bigint)) \
     ORDER BY revoked_at LIMIT $3";

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

/// The revocations since a time, but no further back than a token may reach, oldest first.
pub async fn since(
    on: &impl Query,
    since_unix_s: u64,
    window_s: i64,
    limit: i64,
) -> Result<Vec<Revocation>, domicile_postgres::Error> {
    let since = i64::try_from(since_unix_s).unwrap_or(i64::MAX);
    let rows = on.query(SINCE, &[&since, &window_s, &limit]).await?;
    let revocation = |row: &Row| Revocation { session: row.get(0), at_unix_s: row.get(1) };
    Ok(rows.iter().map(revocation).collect())
}
