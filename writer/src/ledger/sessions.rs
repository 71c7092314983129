//! Players' sessions and their revocation.
//!
//! Invariants: a session's revocation is written together with its published row, once; a bet holds its session's row
//! until its own outcome is known, so that none is written past a revocation.

use super::limited::SessionLimits;
use super::{WriteError, all_written, term};
use domicile_core::claims::PlayerSession;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, OperatorId, SessionId};
use domicile_postgres::Tx;
use domicile_postgres::types::ToSql;
use std::collections::HashSet;

const INSERT: &str = concat!(
    "INSERT INTO ledger.session (jurisdiction, id, operator_id, player_ref, game, currency, created_at, ",
    "expires_at, stake_limit_micro, loss_limit_micro, play_until) SELECT $2, $3, $4, $5, $6, $7, now(), ",
    "to_timestamp($8::bigint), $9, $10, to_timestamp($11::bigint) WHERE ",
    in_term!()
);

const LOCK: &str = "SELECT jurisdiction, revoked_at IS NOT NULL FROM ledger.session \
     WHERE jurisdiction = ANY($1) AND id = $2 AND operator_id = $3 FOR UPDATE";

const REVOKE: &str = concat!(
    "UPDATE ledger.session SET revoked_at = now() WHERE jurisdiction = $2 AND id = $3 ",
    "AND revoked_at IS NULL AND ",
    in_term!()
);

const STAY: &str = "SELECT s.id FROM unnest($1::text[], $2::uuid[]) i(jurisdiction, id) JOIN ledger.session s \
     ON s.jurisdiction = i.jurisdiction AND s.id = i.id WHERE s.revoked_at IS NULL FOR KEY SHARE OF s";

const PUBLISH_REVOCATION: &str = concat!(
    "INSERT INTO ledger.session_revocation (jurisdiction, session_id, revoked_at) ",
    "SELECT $2, $3, now() WHERE ",
    in_term!()
);

/// Adds a session.
pub async fn insert(
    tx: &Tx<'_>,
    epoch: Epoch,
    jurisdiction: &Jurisdiction,
    session: &PlayerSession,
    (expires_at_unix_s, limits): (u64, SessionLimits),
) -> Result<(), WriteError> {
    let seconds = |unix_s| i64::try_from(unix_s).unwrap_or(i64::MAX);
    let (expires, until) = (seconds(expires_at_unix_s), limits.play_until_unix_s.map(seconds));
    let written = tx
        .execute(
            INSERT,
            &[
                &term(epoch),
                &jurisdiction.as_str(),
                &session.session.0,
                &session.operator.as_str(),
                &session.player.as_str(),
                &session.game.as_str(),
                &session.currency.as_str(),
                &expires,
                &limits.stake_micro,
                &limits.loss_micro,
                &until,
            ],
        )
        .await?;
    all_written(written, 1)
}

/// Locks an operator's session; says where it is and whether it was revoked.
pub async fn lock(
    tx: &Tx<'_>,
    operator: &OperatorId,
    jurisdictions: &[Jurisdiction],
    session: SessionId,
) -> Result<Option<(Jurisdiction, bool)>, domicile_postgres::Error> {
    let codes: Vec<_> = jurisdictions.iter().map(Jurisdiction::as_str).collect();
    let row = tx.query_opt(LOCK, &[&codes, &session.0, &operator.as_str()]).await?;
    Ok(row.and_then(|row| Some((Jurisdiction::parse(row.get(0)).ok()?, row.get(1)))))
}

/// Keeps sessions from being revoked until the transaction's outcome is known; gives those that were not before.
pub async fn stay(
    tx: &Tx<'_>,
    sessions: &[(&Jurisdiction, SessionId)],
) -> Result<HashSet<SessionId>, domicile_postgres::Error> {
    let codes: Vec<_> = sessions.iter().map(|(jurisdiction, _)| jurisdiction.as_str()).collect();
    let ids: Vec<_> = sessions.iter().map(|(_, session)| session.0).collect();
    let rows = tx.query(STAY, &[&codes, &ids]).await?;
    Ok(rows.iter().map(|row| SessionId(row.get(0))).collect())
}

/// Revokes a locked session and publishes that.
pub async fn revoke(
    tx: &Tx<'_>,
    epoch: Epoch,
    jurisdiction: &Jurisdiction,
    session: SessionId,
) -> Result<(), WriteError> {
    let params: [&(dyn ToSql + Sync); 3] = [&term(epoch), &jurisdiction.as_str(), &session.0];
    let (revoked, published) =
        tokio::join!(tx.execute(REVOKE, &params), tx.execute(PUBLISH_REVOCATION, &params));
    all_written(revoked?, 1)?;
    all_written(published?, 1)
}
