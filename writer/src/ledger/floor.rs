//! Schedules of timed rounds, and what their engines have to know.
//!
//! Invariants: durations are measured by the ledger's own clock and handed out as durations, so that no two clocks are
//! compared; where a round stands is decided under its row's lock (`super::rounds`), never by what is read here.

use super::{WriteError, all_written, term};
use crate::round_state::RoundState;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{GameCode, Jurisdiction, OperatorId, RoundId};
use domicile_core::money::Currency;
use domicile_postgres::types::ToSql;
use domicile_postgres::{Error, Query, Row, Tx};
use std::time::Duration;

const SET: &str = concat!(
    "INSERT INTO ledger.round_schedule AS s (operator_id, game, currency, params, jurisdictions, betting_ms, pause_ms, ",
    "enabled, revision) SELECT $2, $3, $4, $5, $6, $7, $8, $9, 1 WHERE ",
    in_term!(),
    " ON CONFLICT (operator_id, game, currency) DO UPDATE SET params = excluded.params, ",
    "jurisdictions = excluded.jurisdictions, betting_ms = excluded.betting_ms, pause_ms = excluded.pause_ms, ",
    "enabled = excluded.enabled, revision = s.revision + 1 WHERE ",
    in_term!()
);

const LIST: &str = "SELECT operator_id, game, currency, params, jurisdictions, betting_ms, pause_ms, enabled, revision \
     FROM ledger.round_schedule ORDER BY operator_id, game, currency LIMIT $1";

/// The tables that need an engine: those whose rounds are opened, and those with a round under way; at most `$1`.
pub const TABLES: &str = "SELECT operator_id, game, currency FROM ledger.round_schedule s WHERE enabled OR EXISTS (\
     SELECT 1 FROM ledger.round_engine e WHERE e.operator_id = s.operator_id AND e.game = s.game \
     AND e.currency = s.currency AND e.ordinal IS NOT NULL AND e.state IN ('open', 'closed')) \
     ORDER BY operator_id, game, currency LIMIT $1";

const FACTS: &str = "SELECT s.operator_id, s.game, s.currency, s.params, s.jurisdictions, s.betting_ms, s.pause_ms, \
     s.enabled, s.revision, e.id, e.state, e.ordinal, e.betting_ms, e.cut, e.jurisdictions, \
     (extract(epoch FROM clock_timestamp() - e.opened_at) * 1000)::bigint, \
     (extract(epoch FROM clock_timestamp() - e.betting_at) * 1000)::bigint, \
     (extract(epoch FROM clock_timestamp() - e.ended_at) * 1000)::bigint \
     FROM ledger.round_schedule s LEFT JOIN LATERAL (SELECT * FROM ledger.round_engine \
       WHERE operator_id = s.operator_id AND game = s.game AND currency = s.currency AND ordinal IS NOT NULL \
       ORDER BY ordinal DESC LIMIT 1) e ON true \
     WHERE s.operator_id = $1 AND s.game = $2 AND s.currency = $3";

const BEGIN_BETTING: &str = concat!(
    "UPDATE ledger.round_engine SET betting_at = now() WHERE id = $2 AND state = 'open' AND betting_at IS NULL AND ",
    in_term!()
);

const CUT: &str = concat!(
    "UPDATE ledger.round_engine SET cut = true WHERE state IN ('open', 'closed') AND NOT cut AND opened_in < $1 AND ",
    in_term!()
);

const CUT_IN_FLIGHT: &str = "SELECT id, operator_id FROM ledger.round_engine \
     WHERE cut AND state IN ('open', 'closed') ORDER BY id LIMIT $1";

const STAKES: &str = "SELECT count(*), coalesce(sum(stake_micro), 0)::bigint FROM ledger.bet \
     WHERE jurisdiction = ANY($1) AND round_id = $2";

/// Where timed rounds are run one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// Whose rounds.
    pub operator: OperatorId,
    /// Of which game.
    pub game: GameCode,
    /// In which currency.
    pub currency: Currency,
}

impl Table {
    /// Reads a row of [`TABLES`].
    pub fn from_row(row: &Row) -> Option<Self> {
        Some(Self {
            operator: OperatorId::parse(row.get(0)).ok()?,
            game: GameCode::parse(row.get(1)).ok()?,
            currency: Currency::parse(row.get(2)).ok()?,
        })
    }

    fn key(&self) -> [&str; 3] {
        [self.operator.as_str(), self.game.as_str(), self.currency.as_str()]
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.operator, self.game, self.currency)
    }
}

/// How a table's rounds are run.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Which table.
    pub table: Table,
    /// The game's parameters; the game's own when absent.
    pub params: Option<String>,
    /// Where bets are taken.
    pub jurisdictions: Vec<Jurisdiction>,
    /// How long a round takes bets, in milliseconds.
    pub betting_ms: i32,
    /// From a round's end to the next one, in milliseconds.
    pub pause_ms: i32,
    /// Whether rounds are opened.
    pub enabled: bool,
    /// How often it was set.
    pub revision: i64,
}

impl Schedule {
    fn from_row(row: &Row) -> Option<Self> {
        Some(Self {
            table: Table::from_row(row)?,
            params: row.get(3),
            jurisdictions: jurisdictions(&row.get::<_, Vec<String>>(4)),
            betting_ms: row.get(5),
            pause_ms: row.get(6),
            enabled: row.get(7),
            revision: row.get(8),
        })
    }
}

fn jurisdictions(codes: &[String]) -> Vec<Jurisdiction> {
    codes.iter().filter_map(|code| Jurisdiction::parse(code).ok()).collect()
}

/// A table's newest round.
#[derive(Debug, Clone)]
pub struct Latest {
    /// Which one.
    pub round: RoundId,
    /// Where it stands.
    pub state: RoundState,
    /// Its number.
    pub ordinal: i64,
    /// How long it takes bets.
    pub window: Duration,
    /// Whether it may only be voided.
    pub cut: bool,
    /// Where bets are taken.
    pub jurisdictions: Vec<Jurisdiction>,
    /// How long ago it was opened.
    pub open_for: Duration,
    /// How long it has taken bets.
    pub betting_for: Option<Duration>,
    /// How long ago it ended.
    pub ended_for: Option<Duration>,
}

impl Latest {
    fn from_row(row: &Row) -> Option<Self> {
        // A clock that went back counts as none passed.
        let span = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let passed = |column: usize| row.get::<_, Option<i64>>(column).map(span);
        Some(Self {
            round: RoundId(row.get::<_, Option<_>>(9)?),
            state: RoundState::parse(row.get(10))?,
            ordinal: row.get(11),
            window: span(i64::from(row.get::<_, i32>(12))),
            cut: row.get(13),
            jurisdictions: jurisdictions(&row.get::<_, Vec<String>>(14)),
            open_for: passed(15)?,
            betting_for: passed(16),
            ended_for: passed(17),
        })
    }
}

/// Sets a table's schedule.
pub async fn set(tx: &Tx<'_>, epoch: Epoch, schedule: &Schedule) -> Result<(), WriteError> {
    let codes: Vec<_> = schedule.jurisdictions.iter().map(Jurisdiction::as_str).collect();
    let [operator, game, currency] = schedule.table.key();
    let params: [&(dyn ToSql + Sync); 9] = [
        &term(epoch),
        &operator,
        &game,
        &currency,
        &schedule.params,
        &codes,
        &schedule.betting_ms,
        &schedule.pause_ms,
        &schedule.enabled,
    ];
    all_written(tx.execute(SET, &params).await?, 1)
}

/// All schedules, at most `most`.
pub async fn list(on: &impl Query, most: i64) -> Result<Vec<Schedule>, Error> {
    Ok(on.query(LIST, &[&most]).await?.iter().filter_map(Schedule::from_row).collect())
}

/// A table's schedule and its newest round.
pub async fn facts(
    on: &impl Query,
    table: &Table,
) -> Result<Option<(Schedule, Option<Latest>)>, Error> {
    let [operator, game, currency] = table.key();
    let rows = on.query(FACTS, &[&operator, &game, &currency]).await?;
    let facts = |row: &Row| Some((Schedule::from_row(row)?, Latest::from_row(row)));
    Ok(rows.first().and_then(facts))
}

/// Says that a round takes bets from now on; `Shortfall` when it does already, or is not open.
pub async fn begin_betting(tx: &Tx<'_>, epoch: Epoch, round: RoundId) -> Result<(), WriteError> {
    all_written(tx.execute(BEGIN_BETTING, &[&term(epoch), &round.0]).await?, 1)
}

/// Cuts off every round in flight that was opened before this epoch; says how many.
pub async fn cut(tx: &Tx<'_>, epoch: Epoch) -> Result<u64, Error> {
    tx.execute(CUT, &[&term(epoch)]).await
}

/// Some rounds in flight that were cut off.
pub async fn cut_in_flight(
    on: &impl Query,
    most: i64,
) -> Result<Vec<(RoundId, OperatorId)>, Error> {
    let rows = on.query(CUT_IN_FLIGHT, &[&most]).await?;
    let round = |row: &Row| Some((RoundId(row.get(0)), OperatorId::parse(row.get(1)).ok()?));
    Ok(rows.iter().filter_map(round).collect())
}

/// How many bets a round has, and their stakes together.
pub async fn stakes(
    on: &impl Query,
    round: RoundId,
    jurisdictions: &[Jurisdiction],
) -> Result<(i64, i64), Error> {
    let codes: Vec<_> = jurisdictions.iter().map(Jurisdiction::as_str).collect();
    let rows = on.query(STAKES, &[&codes, &round.0]).await?;
    Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
}
