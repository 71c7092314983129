//! Which operators' players answer a captcha before a session is opened, and who checks the answers.
//!
//! Invariant: the secret is stored sealed, bound to its operator, and never read in clear by SQL.

use super::{WriteError, all_written, term};
use domicile_core::epoch::Epoch;
use domicile_core::ids::OperatorId;
use domicile_postgres::{Session, Tx};

const PUT: &str = concat!(
    "INSERT INTO ledger.captcha (operator_id, siteverify_url, secret_sealed, timeout_ms, when_unavailable, enabled) ",
    "SELECT $2, $3, $4, $5, $6, true WHERE ",
    in_term!(),
    " ON CONFLICT (operator_id) DO UPDATE SET siteverify_url = excluded.siteverify_url, ",
    "secret_sealed = excluded.secret_sealed, timeout_ms = excluded.timeout_ms, ",
    "when_unavailable = excluded.when_unavailable, enabled = true"
);

const SWITCH_OFF: &str = concat!(
    "UPDATE ledger.captcha SET enabled = false WHERE operator_id = $2 AND enabled ",
    "AND ",
    in_term!()
);

const READ: &str = "SELECT siteverify_url, secret_sealed, timeout_ms, when_unavailable FROM ledger.captcha \
     WHERE operator_id = $1 AND enabled";

/// A check as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captcha {
    /// Where answers are checked.
    pub siteverify_url: String,
    /// The secret shared with it, sealed.
    pub secret_sealed: Vec<u8>,
    /// The longest call.
    pub timeout_ms: u32,
    /// Whether a session is opened when nobody can tell whether the answer was right.
    pub admits_when_unavailable: bool,
}

/// Sets an operator's check.
pub async fn put(
    tx: &Tx<'_>,
    epoch: Epoch,
    operator: &OperatorId,
    captcha: &Captcha,
) -> Result<(), WriteError> {
    let timeout_ms = i32::try_from(captcha.timeout_ms).unwrap_or(i32::MAX);
    let otherwise = if captcha.admits_when_unavailable { "admit" } else { "refuse" };
    let (url, secret) = (&captcha.siteverify_url, &captcha.secret_sealed);
    let written = tx
        .execute(PUT, &[&term(epoch), &operator.as_str(), url, secret, &timeout_ms, &otherwise])
        .await?;
    all_written(written, 1)
}

/// Ends it; a shortfall where there was none.
pub async fn switch_off(
    tx: &Tx<'_>,
    epoch: Epoch,
    operator: &OperatorId,
) -> Result<(), WriteError> {
    all_written(tx.execute(SWITCH_OFF, &[&term(epoch), &operator.as_str()]).await?, 1)
}

/// The check of an operator, if its players answer one.
pub async fn read(
    session: &Session,
    operator: &OperatorId,
) -> Result<Option<Captcha>, domicile_postgres::Error> {
    let row = session.query_opt(READ, &[&operator.as_str()]).await?;
    Ok(row.map(|row| Captcha {
        siteverify_url: row.get(0),
        secret_sealed: row.get(1),
        timeout_ms: u32::try_from(row.get::<_, i32>(2)).unwrap_or_default(),
        admits_when_unavailable: row.get::<_, &str>(3) == "admit",
    }))
}
