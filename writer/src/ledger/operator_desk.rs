//! Operators and credentials as persons see and change them.

use super::operators::{Operator, Profile};
use super::{WriteError, all_written, term};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{GameCode, Jurisdiction, OperatorId};
use domicile_postgres::{Query, Row, Tx};
use serde::Serialize;

const COLUMNS: &str = "id, jurisdictions, games, allowed_origins, launch_base_url, enabled, name";

const UPDATE: &str = concat!(
    "UPDATE ledger.operator SET name = $3, jurisdictions = $4, games = $5, allowed_origins = $6, ",
    "launch_base_url = $7, enabled = $8 WHERE id = $2 AND ",
    in_term!()
);

const END_CREDENTIALS: &str = concat!(
    "UPDATE ledger.operator_credential SET not_after = to_timestamp($3::bigint) ",
    "WHERE operator_id = $2 AND revoked_at IS NULL AND not_before < to_timestamp($3::bigint) ",
    "AND (not_after IS NULL OR not_after > to_timestamp($3::bigint)) AND ",
    in_term!(),
    " RETURNING key_id"
);

const CREDENTIALS: &str = "SELECT key_id, extract(epoch FROM not_before)::bigint, extract(epoch FROM not_after)::bigint, \
     extract(epoch FROM revoked_at)::bigint FROM ledger.operator_credential WHERE operator_id = $1 \
     ORDER BY not_before DESC, key_id LIMIT $2";

/// A credential without its secret.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialView {
    key_id: String,
    not_before_unix_s: i64,
    not_after_unix_s: Option<i64>,
    revoked_at_unix_s: Option<i64>,
}

fn profile(row: &Row) -> Option<Profile> {
    Some(Profile { operator: Operator::from_row(row)?, name: row.get(6) })
}

/// Operators in order of id after `after`.
pub async fn list(
    on: &impl Query,
    after: &str,
    limit: i64,
) -> Result<Vec<Profile>, domicile_postgres::Error> {
    let sql = format!("SELECT {COLUMNS} FROM ledger.operator WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = on.query(&sql, &[&after, &limit]).await?;
    Ok(rows.iter().filter_map(profile).collect())
}

/// One operator.
pub async fn read(
    on: &impl Query,
    id: &OperatorId,
) -> Result<Option<Profile>, domicile_postgres::Error> {
    let sql = format!("SELECT {COLUMNS} FROM ledger.operator WHERE id = $1");
    let rows = on.query(&sql, &[&id.as_str()]).await?;
    Ok(rows.first().and_then(profile))
}

/// Locks and reads an operator.
pub async fn lock(
    tx: &Tx<'_>,
    id: &OperatorId,
) -> Result<Option<Profile>, domicile_postgres::Error> {
    let sql = format!("SELECT {COLUMNS} FROM ledger.operator WHERE id = $1 FOR UPDATE");
    let row = tx.query_opt(&sql, &[&id.as_str()]).await?;
    Ok(row.as_ref().and_then(profile))
}

/// Changes a locked operator.
pub async fn update(tx: &Tx<'_>, epoch: Epoch, profile: &Profile) -> Result<(), WriteError> {
    let operator = &profile.operator;
    let jurisdictions: Vec<_> = operator.jurisdictions.iter().map(Jurisdiction::as_str).collect();
    let games: Vec<_> = operator.games.iter().map(GameCode::as_str).collect();
    let written = tx
        .execute(
            UPDATE,
            &[
                &term(epoch),
                &operator.id.as_str(),
                &profile.name,
                &jurisdictions,
                &games,
                &operator.allowed_origins,
                &operator.launch_base_url,
                &operator.enabled,
            ],
        )
        .await?;
    all_written(written, 1)
}

/// An operator's credentials, the latest first.
pub async fn credentials(
    on: &impl Query,
    operator: &OperatorId,
    limit: i64,
) -> Result<Vec<CredentialView>, domicile_postgres::Error> {
    let rows = on.query(CREDENTIALS, &[&operator.as_str(), &limit]).await?;
    let view = |row: &Row| CredentialView {
        key_id: row.get(0),
        not_before_unix_s: row.get(1),
        not_after_unix_s: row.get(2),
        revoked_at_unix_s: row.get(3),
    };
    Ok(rows.iter().map(view).collect())
}

/// Lets an operator's credentials end at a time, where they do not end before; says which.
pub async fn end_credentials(
    tx: &Tx<'_>,
    epoch: Epoch,
    operator: &OperatorId,
    end_unix_s: u64,
) -> Result<Vec<String>, domicile_postgres::Error> {
    let end = i64::try_from(end_unix_s).unwrap_or(i64::MAX);
    let rows = tx.query(END_CREDENTIALS, &[&term(epoch), &operator.as_str(), &end]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
