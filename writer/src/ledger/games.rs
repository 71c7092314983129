//! How operators offer their games: revisions that are added and never changed.

use super::{WriteError, all_written, term};
use crate::operations::MadeBy;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{GameCode, OperatorId, RoundId};
use domicile_core::money::Micro;
use domicile_postgres::{Query, Row, Tx};
use uuid::Uuid;

const INSERT: &str = concat!(
    "INSERT INTO ledger.game_config (operator_id, game, revision, enabled, suspended, params, stake_min_micro, ",
    "stake_max_micro, payout_max_micro, actor, role, reason, at) ",
    "SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now() WHERE ",
    in_term!(),
    " ON CONFLICT DO NOTHING"
);

const COLUMNS: &str = "revision, enabled, suspended, params, stake_min_micro, stake_max_micro, payout_max_micro, actor, \
     role, reason, extract(epoch FROM at)::bigint";

/// Rounds of suspended games that have not ended: one lookup per operator and game.
const TO_VOID: &str = "SELECT e.id, e.operator_id FROM \
     (SELECT DISTINCT ON (operator_id, game) operator_id, game, suspended FROM ledger.game_config \
       ORDER BY operator_id, game, revision DESC) g \
     JOIN LATERAL (SELECT id, operator_id FROM ledger.round_engine WHERE operator_id = g.operator_id \
       AND game = g.game AND state IN ('open', 'closed') ORDER BY id LIMIT $1) e ON true \
     WHERE g.suspended LIMIT $1";

/// One revision of an operator's terms for a game, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Grows by one with each change.
    pub revision: u64,
    /// Whether the game is offered.
    pub enabled: bool,
    /// Whether it is stopped for an incident.
    pub suspended: bool,
    /// The parameters; `None` for the game's own.
    pub params: Option<String>,
    /// The smallest stake.
    pub stake_min: Option<Micro>,
    /// The largest stake.
    pub stake_max: Option<Micro>,
    /// The largest payout that a bet may lead to.
    pub payout_max: Option<Micro>,
}

/// A revision with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// What holds.
    pub config: Config,
    /// Who says so.
    pub by: MadeBy,
    /// Since when, Unix seconds.
    pub at_unix_s: i64,
}

impl Config {
    fn from_row(row: &Row) -> Self {
        let micro = |column: usize| {
            let amount = row.get::<_, Option<i64>>(column).and_then(|n| u64::try_from(n).ok());
            amount.and_then(|amount| Micro::new(amount).ok())
        };
        Self {
            revision: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0),
            enabled: row.get(1),
            suspended: row.get(2),
            params: row.get(3),
            stake_min: micro(4),
            stake_max: micro(5),
            payout_max: micro(6),
        }
    }
}

impl Revision {
    fn from_row(row: &Row) -> Self {
        let by = MadeBy { actor: row.get(7), role: row.get(8), reason: row.get(9) };
        Self { config: Config::from_row(row), by, at_unix_s: row.get(10) }
    }
}

/// The revisions of an operator's terms for a game, the latest first.
pub async fn revisions(
    on: &impl Query,
    operator: &OperatorId,
    game: &GameCode,
    limit: i64,
) -> Result<Vec<Revision>, domicile_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM ledger.game_config WHERE operator_id = $1 AND game = $2 \
         ORDER BY revision DESC LIMIT $3"
    );
    let rows = on.query(&sql, &[&operator.as_str(), &game.as_str(), &limit]).await?;
    Ok(rows.iter().map(Revision::from_row).collect())
}

/// The terms in force, where any were set.
pub async fn latest(
    on: &impl Query,
    operator: &OperatorId,
    game: &GameCode,
) -> Result<Option<Config>, domicile_postgres::Error> {
    let mut found = revisions(on, operator, game, 1).await?;
    Ok(found.pop().map(|revision| revision.config))
}

/// Adds a revision; a shortfall where another change was first.
pub async fn insert(
    tx: &Tx<'_>,
    epoch: Epoch,
    (operator, game): (&OperatorId, &GameCode),
    config: &Config,
    by: &MadeBy,
) -> Result<(), WriteError> {
    let amount = |micro: Option<Micro>| micro.and_then(|micro| i64::try_from(micro.get()).ok());
    let written = tx
        .execute(
            INSERT,
            &[
                &term(epoch),
                &operator.as_str(),
                &game.as_str(),
                &i64::try_from(config.revision).unwrap_or(i64::MAX),
                &config.enabled,
                &config.suspended,
                &config.params,
                &amount(config.stake_min),
                &amount(config.stake_max),
                &amount(config.payout_max),
                &by.actor,
                &by.role,
                &by.reason,
            ],
        )
        .await?;
    all_written(written, 1)
}

/// Rounds of suspended games that are still to be voided.
pub async fn to_void(
    on: &impl Query,
    limit: i64,
) -> Result<Vec<(RoundId, OperatorId)>, domicile_postgres::Error> {
    let rows = on.query(TO_VOID, &[&limit]).await?;
    let round = |row: &Row| {
        Some((RoundId(row.get::<_, Uuid>(0)), OperatorId::parse(row.get::<_, &str>(1)).ok()?))
    };
    Ok(rows.iter().filter_map(round).collect())
}
