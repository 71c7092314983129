//! Seed chains of sessions: one row per chain, advanced by its plays, closed once.
//!
//! Invariants: a chain's position moves by exactly one per play and only while the chain is open; a chain is
//! closed once, in the transaction that enqueues its terminal leaf; the row is the session's own, so no
//! two sessions ever wait for each other's lock.

use super::{WriteError, all_written, term};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{ChainId, GameCode, Jurisdiction, SessionId};
use domicile_postgres::types::ToSql;
use domicile_postgres::{Row, Session, Tx};

const INSERT: &str = concat!(
    "INSERT INTO ledger.chain (jurisdiction, id, session_id, ordinal, game, params, length, commitment, ",
    "seed_sealed, next_position) SELECT i.*, 0 FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::int[], ",
    "$6::text[], $7::text[], $8::int[], $9::bytea[], $10::bytea[]) i WHERE ",
    in_term!()
);

const ADVANCE: &str = concat!(
    "UPDATE ledger.chain c SET next_position = i.position + 1, ",
    "closed_at = CASE WHEN i.position + 1 >= c.length THEN now() END ",
    "FROM unnest($2::text[], $3::uuid[], $4::int[]) i(jurisdiction, id, position) ",
    "WHERE c.jurisdiction = i.jurisdiction AND c.id = i.id AND c.next_position = i.position ",
    "AND c.closed_at IS NULL AND ",
    in_term!()
);

const OPEN_OF_SESSION: &str = "SELECT c.jurisdiction, c.id, c.game, c.length, c.seed_sealed, c.next_position, s.idx \
     FROM ledger.chain c LEFT JOIN log.subject s ON s.jurisdiction = c.jurisdiction AND s.subject = c.id \
     AND s.kind = 'chain-commit' WHERE c.jurisdiction = $1 AND c.session_id = $2 AND c.closed_at IS NULL \
     ORDER BY c.ordinal FOR UPDATE OF c";

const CLOSE: &str = concat!(
    "UPDATE ledger.chain SET closed_at = now() WHERE jurisdiction = $2 AND id = ANY($3) ",
    "AND closed_at IS NULL AND ",
    in_term!()
);

const ENDED_SESSIONS: &str = "SELECT DISTINCT s.jurisdiction, s.id, s.revoked_at IS NOT NULL \
     FROM ledger.chain c JOIN ledger.session s ON s.jurisdiction = c.jurisdiction AND s.id = c.session_id \
     JOIN log.subject l ON l.jurisdiction = c.jurisdiction AND l.subject = c.id AND l.kind = 'chain-commit' \
     WHERE c.closed_at IS NULL AND (s.revoked_at IS NOT NULL OR s.expires_at < to_timestamp($1::bigint)) \
     LIMIT $2";

/// A chain as it enters the ledger.
#[derive(Debug)]
pub struct NewChain {
    /// Where its session is.
    pub jurisdiction: Jurisdiction,
    /// The chain.
    pub id: ChainId,
    /// Whose chain it is.
    pub session: SessionId,
    /// Its number within the session, from 0.
    pub ordinal: i32,
    /// The game it is for.
    pub game: GameCode,
    /// The game's parameters.
    pub params: String,
    /// How many plays it serves.
    pub length: u32,
    /// The chain's end.
    pub commitment: [u8; 32],
    /// The chain's start, sealed.
    pub seed_sealed: Vec<u8>,
}

/// Adds chains.
pub async fn insert<'a>(
    tx: &Tx<'_>,
    epoch: Epoch,
    chains: impl Iterator<Item = &'a NewChain> + Clone,
) -> Result<(), WriteError> {
    let ids: Vec<_> = chains.clone().map(|chain| chain.id.0).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let jurisdictions: Vec<_> = chains.clone().map(|chain| chain.jurisdiction.as_str()).collect();
    let sessions: Vec<_> = chains.clone().map(|chain| chain.session.0).collect();
    let ordinals: Vec<_> = chains.clone().map(|chain| chain.ordinal).collect();
    let games: Vec<_> = chains.clone().map(|chain| chain.game.as_str()).collect();
    let params: Vec<_> = chains.clone().map(|chain| chain.params.as_str()).collect();
    let lengths: Vec<_> = chains.clone().map(|chain| as_int(chain.length)).collect();
    let commitments: Vec<_> = chains.clone().map(|chain| &chain.commitment[..]).collect();
    let seeds: Vec<_> = chains.map(|chain| chain.seed_sealed.as_slice()).collect();
    let written = tx
        .execute(
            INSERT,
            &[
                &term(epoch),
                &jurisdictions,
                &ids,
                &sessions,
                &ordinals,
                &games,
                &params,
                &lengths,
                &commitments,
                &seeds,
            ],
        )
        .await?;
    all_written(written, ids.len())
}

/// One step of a chain: the play at `position` uses it up.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where the session is.
    pub jurisdiction: Jurisdiction,
    /// The chain.
    pub chain: ChainId,
    /// The position the play found.
    pub position: u32,
}

/// Advances chains by one play each; a chain that moved or was closed meanwhile is a shortfall.
pub async fn advance<'a>(
    tx: &Tx<'_>,
    epoch: Epoch,
    steps: impl Iterator<Item = &'a Step> + Clone,
) -> Result<(), WriteError> {
    let jurisdictions: Vec<_> = steps.clone().map(|step| step.jurisdiction.as_str()).collect();
    let ids: Vec<_> = steps.clone().map(|step| step.chain.0).collect();
    let positions: Vec<_> = steps.map(|step| as_int(step.position)).collect();
    let written = tx.execute(ADVANCE, &[&term(epoch), &jurisdictions, &ids, &positions]).await?;
    all_written(written, ids.len())
}

/// An open chain, locked for closing.
#[derive(Debug)]
pub struct OpenChain {
    /// Where its session is.
    pub jurisdiction: Jurisdiction,
    /// The chain.
    pub id: ChainId,
    /// Plays it has served.
    pub plays: u32,
    /// The chain's start, sealed.
    pub seed_sealed: Vec<u8>,
    /// Where its commitment stands in the log; `None` until sequenced.
    pub commit_index: Option<u64>,
}

impl OpenChain {
    fn from_row(row: &Row) -> Option<Self> {
        Some(Self {
            jurisdiction: Jurisdiction::parse(row.get(0)).ok()?,
            id: ChainId(row.get(1)),
            seed_sealed: row.get(4),
            plays: u32::try_from(row.get::<_, i32>(5)).ok()?,
            commit_index: row.get::<_, Option<i64>>(6).and_then(|idx| u64::try_from(idx).ok()),
        })
    }
}

/// Locks and returns the open chains of a session.
pub async fn lock_open(
    tx: &Tx<'_>,
    jurisdiction: &Jurisdiction,
    session: SessionId,
) -> Result<Vec<OpenChain>, domicile_postgres::Error> {
    let rows = tx.query(OPEN_OF_SESSION, &[&jurisdiction.as_str(), &session.0]).await?;
    Ok(rows.iter().filter_map(OpenChain::from_row).collect())
}

/// Marks chains closed.
pub async fn close(
    tx: &Tx<'_>,
    epoch: Epoch,
    jurisdiction: &Jurisdiction,
    chains: &[ChainId],
) -> Result<(), WriteError> {
    let ids: Vec<_> = chains.iter().map(|chain| chain.0).collect();
    let params: [&(dyn ToSql + Sync); 3] = [&term(epoch), &jurisdiction.as_str(), &ids];
    all_written(tx.execute(CLOSE, &params).await?, chains.len())
}

/// A session that ended with chains still open.
#[derive(Debug)]
pub struct EndedSession {
    /// Where it is.
    pub jurisdiction: Jurisdiction,
    /// The session.
    pub id: SessionId,
    /// Whether it was revoked (else it expired).
    pub revoked: bool,
}

/// Sessions that were revoked or expired before `expired_before_unix_s` and have sequenced open chains.
pub async fn ended_sessions(
    session: &Session,
    expired_before_unix_s: u64,
    limit: i64,
) -> Result<Vec<EndedSession>, domicile_postgres::Error> {
    let before = i64::try_from(expired_before_unix_s).unwrap_or(i64::MAX);
    let rows = session.query(ENDED_SESSIONS, &[&before, &limit]).await?;
    let ended = rows.iter().filter_map(|row| {
        Some(EndedSession {
            jurisdiction: Jurisdiction::parse(row.get(0)).ok()?,
            id: SessionId(row.get(1)),
            revoked: row.get(2),
        })
    });
    Ok(ended.collect())
}

fn as_int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
