//! Operators and their credentials.
//!
//! Invariant: a credential's secret is stored sealed, bound to its key id, and never read in clear by SQL.

use super::{WriteError, all_written, term};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{GameCode, Jurisdiction, OperatorId};
use domicile_postgres::{Query, Row, Session, Tx};

const INSERT: &str = concat!(
    "INSERT INTO ledger.operator (id, name, jurisdictions, games, allowed_origins, launch_base_url, ",
    "enabled, created_at) SELECT $2, $3, $4, $5, $6, $7, true, now() WHERE ",
    in_term!(),
    " ON CONFLICT DO NOTHING"
);

const INSERT_CREDENTIAL: &str = concat!(
    "INSERT INTO ledger.operator_credential (key_id, operator_id, secret_sealed, not_before) ",
    "SELECT $2, $3, $4, to_timestamp($5::bigint) WHERE ",
    in_term!()
);

const REVOKE_CREDENTIAL: &str = concat!(
    "UPDATE ledger.operator_credential SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = $2 AND ",
    in_term!()
);

const EXISTS: &str = "SELECT 1 FROM ledger.operator WHERE id = $1";

const READ: &str = "SELECT id, jurisdictions, games, allowed_origins, launch_base_url, enabled \
     FROM ledger.operator WHERE id = $1";

const READ_CREDENTIAL: &str = "SELECT operator_id, secret_sealed, revoked_at IS NOT NULL, \
     coalesce(extract(epoch FROM not_before)::bigint, 0), extract(epoch FROM not_after)::bigint \
     FROM ledger.operator_credential WHERE key_id = $1";

const ORIGIN_KNOWN: &str =
    "SELECT EXISTS (SELECT 1 FROM ledger.operator WHERE enabled AND $1 = ANY(allowed_origins))";

/// What is known of an operator.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The operator.
    pub id: OperatorId,
    /// Where it is licensed.
    pub jurisdictions: Vec<Jurisdiction>,
    /// The games it offers.
    pub games: Vec<GameCode>,
    /// The browser origins of its players.
    pub allowed_origins: Vec<String>,
    /// Where a session's launch address begins.
    pub launch_base_url: String,
    /// Whether it may do anything.
    pub enabled: bool,
}

impl Operator {
    /// Reads the columns `id, jurisdictions, games, allowed_origins, launch_base_url, enabled`.
    pub(super) fn from_row(row: &Row) -> Option<Self> {
        let (jurisdictions, games): (Vec<String>, Vec<String>) = (row.get(1), row.get(2));
        Some(Self {
            id: OperatorId::parse(row.get(0)).ok()?,
            jurisdictions: jurisdictions
                .iter()
                .filter_map(|j| Jurisdiction::parse(j).ok())
                .collect(),
            games: games.iter().filter_map(|game| GameCode::parse(game).ok()).collect(),
            allowed_origins: row.get(3),
            launch_base_url: row.get(4),
            enabled: row.get(5),
        })
    }
}

/// An operator with its name for people.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The operator.
    pub operator: Operator,
    /// Its name.
    pub name: String,
}

/// A credential as stored.
#[derive(Debug, Clone)]
pub struct SealedCredential {
    /// Whose it is.
    pub operator: OperatorId,
    /// The secret, sealed.
    pub secret_sealed: Vec<u8>,
    /// Whether it was withdrawn.
    pub revoked: bool,
    /// Not valid before this time.
    pub not_before_unix_s: u64,
    /// Not valid from this time on.
    pub not_after_unix_s: Option<u64>,
}

/// Adds an operator; `false` when there is one of that id.
pub async fn insert(
    tx: &Tx<'_>,
    epoch: Epoch,
    operator: &Operator,
    name: &str,
) -> Result<bool, WriteError> {
    let jurisdictions: Vec<_> = operator.jurisdictions.iter().map(Jurisdiction::as_str).collect();
    let games: Vec<_> = operator.games.iter().map(GameCode::as_str).collect();
    let written = tx
        .execute(
            INSERT,
            &[
                &term(epoch),
                &operator.id.as_str(),
                &name,
                &jurisdictions,
                &games,
                &operator.allowed_origins,
                &operator.launch_base_url,
            ],
        )
        .await?;
    if written == 1 {
        return Ok(true);
    }
    let exists = tx.query_opt(EXISTS, &[&operator.id.as_str()]).await?;
    if exists.is_some() { Ok(false) } else { Err(WriteError::Shortfall) }
}

/// Adds a credential.
pub async fn insert_credential(
    tx: &Tx<'_>,
    epoch: Epoch,
    (key_id, operator): (&str, &OperatorId),
    secret_sealed: &[u8],
    not_before_unix_s: u64,
) -> Result<(), WriteError> {
    let from = i64::try_from(not_before_unix_s).unwrap_or(i64::MAX);
    let written = tx
        .execute(
            INSERT_CREDENTIAL,
            &[&term(epoch), &key_id, &operator.as_str(), &secret_sealed, &from],
        )
        .await?;
    all_written(written, 1)
}

/// Withdraws a credential; a shortfall where there is none of that id.
pub async fn revoke_credential(tx: &Tx<'_>, epoch: Epoch, key_id: &str) -> Result<(), WriteError> {
    all_written(tx.execute(REVOKE_CREDENTIAL, &[&term(epoch), &key_id]).await?, 1)
}

/// Reads an operator.
pub async fn read(
    on: &impl Query,
    operator: &OperatorId,
) -> Result<Option<Operator>, domicile_postgres::Error> {
    let rows = on.query(READ, &[&operator.as_str()]).await?;
    Ok(rows.first().and_then(Operator::from_row))
}

/// Whether there is an operator of that id.
pub async fn exists(
    on: &impl Query,
    operator: &OperatorId,
) -> Result<bool, domicile_postgres::Error> {
    Ok(!on.query(EXISTS, &[&operator.as_str()]).await?.is_empty())
}

/// Reads a credential.
pub async fn read_credential(
    session: &Session,
    key_id: &str,
) -> Result<Option<SealedCredential>, domicile_postgres::Error> {
    let row = session.query_opt(READ_CREDENTIAL, &[&key_id]).await?;
    Ok(row.and_then(|row| {
        Some(SealedCredential {
            operator: OperatorId::parse(row.get(0)).ok()?,
            secret_sealed: row.get(1),
            revoked: row.get(2),
            not_before_unix_s: u64::try_from(row.get::<_, i64>(3)).unwrap_or(0),
            not_after_unix_s: row.get::<_, Option<i64>>(4).and_then(|t| u64::try_from(t).ok()),
        })
    }))
}

/// Whether any operator's players come from this browser origin.
pub async fn origin_known(
    session: &Session,
    origin: &str,
) -> Result<bool, domicile_postgres::Error> {
    let row = session.query_opt(ORIGIN_KNOWN, &[&origin]).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}
