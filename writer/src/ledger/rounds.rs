//! Rounds: the engine's row that changes state, and the published facts of each jurisdiction.
//!
//! Invariants: a bet holds a share lock on the engine's row until its own outcome is known, so a round never
//! closes past a bet in flight, in whichever process; state and published facts change in one transaction. Row locks alone
//! would let bets of other processes pass a waiting close for ever: both sides queue at the round's *door* first, an
//! advisory lock that is given in the order of asking.

use super::{WriteError, all_written, term};
use crate::round_state::RoundState;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{GameCode, Jurisdiction, OperatorId, RoundId};
use domicile_core::money::Currency;
use domicile_postgres::types::ToSql;
use domicile_postgres::{Row, Tx};
use std::collections::HashSet;

const INSERT: &str = concat!(
    "INSERT INTO ledger.round (jurisdiction, id, kind, operator_id, game, params, currency, commitment, ",
    "state, outcome, opened_at, closed_at, ended_at) SELECT i.*, now(), ",
    "CASE WHEN i.outcome IS NOT NULL THEN now() END, CASE WHEN i.outcome IS NOT NULL THEN now() END ",
    "FROM unnest($2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], ",
    "$9::bytea[], $10::text[], $11::text[]) i(jurisdiction, id, kind, operator_id, game, params, currency, ",
    "commitment, state, outcome) WHERE ",
    in_term!()
);

const INSERT_ENGINE: &str = concat!(
    "INSERT INTO ledger.round_engine (id, operator_id, game, params, currency, jurisdictions, commitment, ",
    "seed_sealed, state, opened_at, opened_in, ordinal, betting_ms) ",
    "SELECT $2, $3, $4, $5, $6, $7, $8, $9, 'open', now(), $1, $10, $11 WHERE ",
    in_term!()
);

const LOCK_ENGINE: &str = "SELECT id, operator_id, game, params, currency, jurisdictions, commitment, \
     seed_sealed, state, cut FROM ledger.round_engine WHERE id = $1 AND operator_id = $2 FOR UPDATE";

const READ_ENGINE: &str = "SELECT id, operator_id, game, params, currency, jurisdictions, commitment, \
     seed_sealed, state, cut FROM ledger.round_engine WHERE id = $1 AND operator_id = $2";

const OUTCOME: &str = "SELECT outcome FROM ledger.round WHERE jurisdiction = ANY($1) AND id = $2 AND outcome IS NOT NULL LIMIT 1";

const ENTER: &str = "SELECT pg_advisory_xact_lock_shared(door) FROM unnest($1::bigint[]) door";

const SHUT: &str = "SELECT pg_advisory_xact_lock($1)";

const SHARE_OPEN: &str = "SELECT id FROM ledger.round_engine WHERE id = ANY($1) AND state = 'open' \
     AND NOT cut ORDER BY id FOR SHARE";

const MOVE_ENGINE: &str = concat!(
    "UPDATE ledger.round_engine SET state = $3, ",
    "closed_at = coalesce(closed_at, now()), ended_at = CASE WHEN $4 THEN now() END WHERE id = $2 AND ",
    in_term!()
);

const MOVE_FACTS: &str = concat!(
    "UPDATE ledger.round SET state = CASE WHEN jurisdiction = ANY($7) THEN 'voided' ELSE $4 END, ",
    "outcome = CASE WHEN jurisdiction = ANY($7) THEN NULL ELSE $5 END, closed_at = coalesce(closed_at, now()), ",
    "ended_at = CASE WHEN $6 THEN now() END WHERE jurisdiction = ANY($2) AND id = $3 AND ",
    in_term!()
);

const COMMIT_INDEXES: &str = "SELECT jurisdiction, idx FROM log.subject WHERE jurisdiction = ANY($1) \
     AND subject = $2 AND kind = 'round-commit'";

/// One jurisdiction's published facts of a round.
#[derive(Debug, Clone)]
pub struct RoundFacts {
    /// The jurisdiction.
    pub jurisdiction: Jurisdiction,
    /// The round.
    pub id: RoundId,
    /// `round` or `play`.
    pub kind: &'static str,
    /// Whose round it is.
    pub operator: OperatorId,
    /// The game.
    pub game: GameCode,
    /// The game's parameters.
    pub params: String,
    /// The currency of its bets.
    pub currency: Currency,
    /// The commitment its outcome follows from.
    pub commitment: [u8; 32],
    /// Where it stands.
    pub state: RoundState,
    /// Its outcome, once it has one.
    pub outcome: Option<String>,
}

/// Publishes rounds' facts.
pub async fn insert<'a>(
    tx: &Tx<'_>,
    epoch: Epoch,
    rounds: impl Iterator<Item = &'a RoundFacts> + Clone,
) -> Result<(), WriteError> {
    let jurisdictions: Vec<_> = rounds.clone().map(|round| round.jurisdiction.as_str()).collect();
    let ids: Vec<_> = rounds.clone().map(|round| round.id.0).collect();
    let kinds: Vec<_> = rounds.clone().map(|round| round.kind).collect();
    let operators: Vec<_> = rounds.clone().map(|round| round.operator.as_str()).collect();
    let games: Vec<_> = rounds.clone().map(|round| round.game.as_str()).collect();
    let params: Vec<_> = rounds.clone().map(|round| round.params.as_str()).collect();
    let currencies: Vec<_> = rounds.clone().map(|round| round.currency.as_str()).collect();
    let commitments: Vec<_> = rounds.clone().map(|round| &round.commitment[..]).collect();
    let states: Vec<_> = rounds.clone().map(|round| round.state.as_str()).collect();
    let outcomes: Vec<_> = rounds.map(|round| round.outcome.as_deref()).collect();
    let written = tx
        .execute(
            INSERT,
            &[
                &term(epoch),
                &jurisdictions,
                &ids,
                &kinds,
                &operators,
                &games,
                &params,
                &currencies,
                &commitments,
                &states,
                &outcomes,
            ],
        )
        .await?;
    all_written(written, ids.len())
}

/// The engine's row of a shared round.
#[derive(Debug, Clone)]
pub struct RoundEngine {
    /// The round.
    pub id: RoundId,
    /// Whose round it is.
    pub operator: OperatorId,
    /// The game.
    pub game: GameCode,
    /// The game's parameters.
    pub params: String,
    /// The currency of its bets.
    pub currency: Currency,
    /// Where bets are taken, sorted.
    pub jurisdictions: Vec<Jurisdiction>,
    /// SHA-256 of the seed.
    pub commitment: [u8; 32],
    /// The seed, sealed.
    pub seed_sealed: Vec<u8>,
    /// Where the round stands.
    pub state: RoundState,
    /// Whether a forced move of the writer has cut it off: it takes no bet and is never settled.
    pub cut: bool,
    /// Its place in the line of its schedule. Only of use when it is opened.
    pub slot: Option<Slot>,
}

/// A timed round's place in the line of its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its number, from 1.
    pub ordinal: i64,
    /// How long it takes bets, in milliseconds.
    pub betting_ms: i32,
}

impl RoundEngine {
    fn from_row(row: &Row) -> Option<Self> {
        let jurisdictions: Vec<String> = row.get(5);
        Some(Self {
            id: RoundId(row.get(0)),
            operator: OperatorId::parse(row.get(1)).ok()?,
            game: GameCode::parse(row.get(2)).ok()?,
            params: row.get(3),
            currency: Currency::parse(row.get(4)).ok()?,
            jurisdictions: jurisdictions
                .iter()
                .map(|code| Jurisdiction::parse(code).ok())
                .collect::<Option<_>>()?,
            commitment: row.get::<_, Vec<u8>>(6).try_into().ok()?,
            seed_sealed: row.get(7),
            state: RoundState::parse(row.get(8))?,
            cut: row.get(9),
            slot: None,
        })
    }

    fn codes(&self) -> Vec<&str> {
        self.jurisdictions.iter().map(Jurisdiction::as_str).collect()
    }
}

/// Adds the engine's row of a round that opens.
pub async fn insert_engine(
    tx: &Tx<'_>,
    epoch: Epoch,
    round: &RoundEngine,
) -> Result<(), WriteError> {
    let written = tx
        .execute(
            INSERT_ENGINE,
            &[
                &term(epoch),
                &round.id.0,
                &round.operator.as_str(),
                &round.game.as_str(),
                &round.params,
                &round.currency.as_str(),
                &round.codes(),
                &&round.commitment[..],
                &round.seed_sealed,
                &round.slot.map(|slot| slot.ordinal),
                &round.slot.map(|slot| slot.betting_ms),
            ],
        )
        .await?;
    all_written(written, 1)
}

/// Locks an operator's round for a change of state; waits for every bet in flight.
pub async fn lock(
    tx: &Tx<'_>,
    operator: &OperatorId,
    round: RoundId,
) -> Result<Option<RoundEngine>, domicile_postgres::Error> {
    tx.query(SHUT, &[&door(round)]).await?;
    let row = tx.query_opt(LOCK_ENGINE, &[&round.0, &operator.as_str()]).await?;
    Ok(row.as_ref().and_then(RoundEngine::from_row))
}

/// Reads an operator's round with its outcome.
pub async fn read(
    tx: &Tx<'_>,
    operator: &OperatorId,
    round: RoundId,
) -> Result<Option<(RoundEngine, Option<String>)>, domicile_postgres::Error> {
    let row = tx.query_opt(READ_ENGINE, &[&round.0, &operator.as_str()]).await?;
    let Some(engine) = row.as_ref().and_then(RoundEngine::from_row) else { return Ok(None) };
    let outcome = tx.query_opt(OUTCOME, &[&engine.codes(), &round.0]).await?;
    let outcome = outcome.map(|row| row.get(0));
    Ok(Some((engine, outcome)))
}

/// A round's door: the random part of its id. Two rounds with one door only wait for each other.
fn door(round: RoundId) -> i64 {
    let (_, low) = round.0.as_u64_pair();
    i64::from_be_bytes(low.to_be_bytes())
}

/// Queues at the doors of rounds that bets are about to be written for; before anything of theirs is locked.
pub async fn enter(tx: &Tx<'_>, rounds: &[RoundId]) -> Result<(), domicile_postgres::Error> {
    let mut doors: Vec<_> = rounds.iter().copied().map(door).collect();
    doors.sort_unstable();
    tx.query(ENTER, &[&doors]).await.map(drop)
}

/// Share-locks the rounds of this list that are open, until the transaction's outcome is known.
pub async fn share_open(
    tx: &Tx<'_>,
    rounds: &[RoundId],
) -> Result<HashSet<RoundId>, domicile_postgres::Error> {
    let ids: Vec<_> = rounds.iter().map(|round| round.0).collect();
    let rows = tx.query(SHARE_OPEN, &[&ids]).await?;
    Ok(rows.iter().map(|row| RoundId(row.get(0))).collect())
}

/// Moves a locked round to `state`, in the engine's row and in every jurisdiction's facts, but for those in which it is
/// voided.
pub async fn move_to(
    tx: &Tx<'_>,
    epoch: Epoch,
    round: &RoundEngine,
    (state, outcome): (RoundState, Option<&str>),
    voided: &[Jurisdiction],
) -> Result<(), WriteError> {
    let voided: Vec<_> = voided.iter().map(Jurisdiction::as_str).collect();
    let (term, ended) = (term(epoch), state.is_terminal());
    let codes = round.codes();
    let engine: [&(dyn ToSql + Sync); 4] = [&term, &round.id.0, &state.as_str(), &ended];
    let facts: [&(dyn ToSql + Sync); 7] =
        [&term, &codes, &round.id.0, &state.as_str(), &outcome, &ended, &voided];
    let (moved, published) =
        tokio::join!(tx.execute(MOVE_ENGINE, &engine), tx.execute(MOVE_FACTS, &facts));
    all_written(moved?, 1)?;
    all_written(published?, codes.len())
}

/// Where the round's commitment stands in each of its logs; `None` until all are sequenced.
pub async fn commit_indexes(
    tx: &Tx<'_>,
    round: &RoundEngine,
) -> Result<Option<Vec<(Jurisdiction, u64)>>, domicile_postgres::Error> {
    let rows = tx.query(COMMIT_INDEXES, &[&round.codes(), &round.id.0]).await?;
    let found: Vec<(&str, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let index_of = |jurisdiction: &Jurisdiction| {
        let (_, idx) = found.iter().find(|(code, _)| *code == jurisdiction.as_str())?;
        Some((jurisdiction.clone(), u64::try_from(*idx).ok()?))
    };
    Ok(round.jurisdictions.iter().map(index_of).collect())
}
