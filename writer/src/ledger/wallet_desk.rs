//! Wallet transactions as persons see them: what is not done, what a day came to, and what was done by hand.
//!
//! Invariant: whatever a person does to a transaction stands in a table that is only added to, written with it.

use super::{WriteError, all_written, term};
use domicile_core::epoch::Epoch;
use domicile_core::ids::OperatorId;
use domicile_core::money::Currency;
use domicile_core::wallet::job::JobState;
use domicile_core::wallet::reconcile::Totals;
use domicile_postgres::{Row, Tx};
use serde::Serialize;
use uuid::Uuid;

const COLUMNS: &str = "id, call, reference, operator_id, jurisdiction, session_id, round_id, bet_id, currency, amount_micro, \
     state, attempts, answer, extract(epoch FROM created_at)::bigint, extract(epoch FROM ended_at)::bigint, \
     extract(epoch FROM due_at)::bigint";

const ACT: &str = concat!(
    "UPDATE ledger.wallet_job SET state = $3, due_at = now(), armed_at = now(), ",
    "ended_at = CASE WHEN $3 <> 'pending' THEN now() END ",
    "WHERE id = $2 AND call <> 'bet' AND state = ANY($4) AND ",
    in_term!()
);

const RECORD: &str = concat!(
    "INSERT INTO ledger.wallet_job_action (id, job_id, action, actor, reason, at) ",
    "SELECT $2, $3, $4, $5, $6, now() WHERE ",
    in_term!()
);

const ACTIONS: &str = "SELECT action, actor, reason, extract(epoch FROM at)::bigint \
     FROM ledger.wallet_job_action WHERE job_id = $1 ORDER BY id LIMIT 100";

/// A day's transactions that moved money on our side. Undone bets and their rollbacks are left out together: whether
/// the wallet booked both or neither, they come to nothing.
const TOTALS: &str = "SELECT coalesce(sum(j.amount_micro) FILTER (WHERE j.call = 'bet'), 0)::bigint, \
     coalesce(sum(j.amount_micro) FILTER (WHERE j.call = 'win'), 0)::bigint, \
     coalesce(sum(j.amount_micro) FILTER (WHERE j.call = 'rollback' AND b.state = 'done'), 0)::bigint \
     FROM ledger.wallet_job j LEFT JOIN ledger.wallet_job b ON b.id = j.reference \
     WHERE j.operator_id = $1 AND j.currency = $2 AND j.state IN ('done', 'resolved') \
     AND j.ended_at >= ($3::text)::date::timestamp AT TIME ZONE 'UTC' \
     AND j.ended_at < (($3::text)::date + 1)::timestamp AT TIME ZONE 'UTC'";

/// A transaction as persons see it. No player: who that is stays with the operator.
#[derive(Debug, Clone, Serialize)]
pub struct JobView {
    id: Uuid,
    call: String,
    reference: Option<Uuid>,
    operator: String,
    jurisdiction: String,
    session: Uuid,
    round: Uuid,
    bet: Uuid,
    currency: String,
    amount_micro: i64,
    state: String,
    attempts: i32,
    answer: Option<String>,
    created_unix_s: i64,
    ended_unix_s: Option<i64>,
    due_unix_s: i64,
}

impl JobView {
    fn from_row(row: &Row) -> Self {
        Self {
            id: row.get(0),
            call: row.get(1),
            reference: row.get(2),
            operator: row.get(3),
            jurisdiction: row.get(4),
            session: row.get(5),
            round: row.get(6),
            bet: row.get(7),
            currency: row.get(8),
            amount_micro: row.get(9),
            state: row.get(10),
            attempts: row.get(11),
            answer: row.get(12),
            created_unix_s: row.get(13),
            ended_unix_s: row.get(14),
            due_unix_s: row.get(15),
        }
    }
}

/// What a person did.
#[derive(Debug, Clone, Serialize)]
pub struct ActionView {
    action: String,
    actor: String,
    reason: String,
    at_unix_s: i64,
}

/// An operator's transactions that are pending or dead, in order of id after `after`.
pub async fn list(
    tx: &Tx<'_>,
    operator: &OperatorId,
    state: JobState,
    (after, limit): (Uuid, i64),
) -> Result<Vec<JobView>, domicile_postgres::Error> {
    // Literal, so that the partial index of the state is used.
    let state = if state == JobState::Dead { "dead" } else { "pending" };
    let sql = format!(
        "SELECT {COLUMNS} FROM ledger.wallet_job WHERE operator_id = $1 AND state = '{state}' AND id > $2 \
         ORDER BY id LIMIT $3"
    );
    let rows = tx.query(&sql, &[&operator.as_str(), &after, &limit]).await?;
    Ok(rows.iter().map(JobView::from_row).collect())
}

/// One transaction and what persons did to it.
pub async fn show(
    tx: &Tx<'_>,
    id: Uuid,
) -> Result<Option<(JobView, Vec<ActionView>)>, domicile_postgres::Error> {
    let sql = format!("SELECT {COLUMNS} FROM ledger.wallet_job WHERE id = $1");
    let Some(row) = tx.query_opt(&sql, &[&id]).await? else { return Ok(None) };
    let action = |row: &Row| ActionView {
        action: row.get(0),
        actor: row.get(1),
        reason: row.get(2),
        at_unix_s: row.get(3),
    };
    let actions = tx.query(ACTIONS, &[&id]).await?;
    Ok(Some((JobView::from_row(&row), actions.iter().map(action).collect())))
}

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Try it again, from now on as if it were new.
    Retry,
    /// It was settled outside.
    Resolve,
}

/// Who does it, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The record's own id.
    pub id: Uuid,
    /// Who.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// Acts on a win or rollback; `false` where its state does not permit it.
pub async fn act(
    tx: &Tx<'_>,
    epoch: Epoch,
    job: Uuid,
    action: Action,
    by: By<'_>,
) -> Result<bool, WriteError> {
    let (name, state, from): (_, _, &[&str]) = match action {
        Action::Retry => ("retry", JobState::Pending, &["pending", "dead"]),
        Action::Resolve => ("resolve", JobState::Resolved, &["dead"]),
    };
    if tx.execute(ACT, &[&term(epoch), &job, &state.as_str(), &from]).await? == 0 {
        return Ok(false);
    }
    let recorded =
        tx.execute(RECORD, &[&term(epoch), &by.id, &job, &name, &by.actor, &by.reason]).await?;
    all_written(recorded, 1)?;
    Ok(true)
}

/// What a UTC day came to.
pub async fn totals(
    tx: &Tx<'_>,
    operator: &OperatorId,
    currency: &Currency,
    date: &str,
) -> Result<Totals, domicile_postgres::Error> {
    let row = tx.query_one(TOTALS, &[&operator.as_str(), &currency.as_str(), &date]).await?;
    let sum = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    Ok(Totals { bets_micro: sum(0), wins_micro: sum(1), rollbacks_micro: sum(2) })
}

/// Transactions of an operator that may explain a day's drift: not done by its end, ended by a person, ended within
/// a minute of midnight, or rollbacks of bets the wallet may never have seen.
pub async fn suspects(
    tx: &Tx<'_>,
    operator: &OperatorId,
    currency: &Currency,
    (date, limit): (&str, i64),
) -> Result<Vec<(String, JobView)>, domicile_postgres::Error> {
    let sql = format!(
        "WITH day AS (SELECT ($3::text)::date::timestamp AT TIME ZONE 'UTC' AS a, \
         (($3::text)::date + 1)::timestamp AT TIME ZONE 'UTC' AS z) \
         SELECT {COLUMNS}, CASE WHEN state IN ('pending', 'dead') THEN 'not done' \
         WHEN state = 'resolved' THEN 'settled by a person' WHEN call = 'rollback' THEN 'rolled back' \
         ELSE 'ended near midnight' END FROM ledger.wallet_job, day \
         WHERE operator_id = $1 AND currency = $2 AND created_at < z AND ((state IN ('pending', 'dead')) \
         OR (ended_at >= a - interval '1 minute' AND ended_at < z + interval '1 minute' AND state IN ('done', 'resolved') \
         AND (state = 'resolved' OR call = 'rollback' OR ended_at < a + interval '1 minute' \
         OR ended_at >= z - interval '1 minute'))) ORDER BY id LIMIT $4"
    );
    let rows = tx.query(&sql, &[&operator.as_str(), &currency.as_str(), &date, &limit]).await?;
    Ok(rows.iter().map(|row| (row.get(16), JobView::from_row(row))).collect())
}
