//! The replica's rows: every statement of the reader, all of them reads of one jurisdiction.
//!
//! Invariant: each statement names the jurisdiction, and each row is checked to be of it, so that a wrongly
//! subscribed replica is noticed here and not by a player.

use domicile_core::ids::{BetId, Jurisdiction, OperatorId, RoundId, SessionId};
use domicile_postgres::{Error, Pool, Session};
use std::time::Duration;
use tokio_postgres::Row;

mod log;

pub use log::{StoredCheckpoint, StoredEntry, StoredLeaf};

/// Which log: the jurisdiction and the log's own epoch.
#[derive(Debug, Clone)]
pub struct LogId {
    /// Whose log.
    pub jurisdiction: Jurisdiction,
    /// Its epoch, the last part of the origin.
    pub log_epoch: i32,
}

/// A round's facts.
#[derive(Debug, Clone)]
pub struct StoredRound {
    /// `round` or `play`.
    pub kind: String,
    /// The operator.
    pub operator: String,
    /// The game's code.
    pub game: String,
    /// The game's parameters, as in the commit leaf.
    pub params: String,
    /// The currency.
    pub currency: String,
    /// The commitment, 32 bytes.
    pub commitment: Vec<u8>,
    /// `open`, `closed`, `settled` or `voided`.
    pub state: String,
    /// The outcome once settled.
    pub outcome: Option<String>,
}

/// A bet's private record as replicated.
#[derive(Debug, Clone)]
pub struct StoredBet {
    /// The bet.
    pub id: BetId,
    /// Its round.
    pub round: RoundId,
    /// The operator of the player.
    pub operator: String,
    /// The player's pseudonym.
    pub player: String,
    /// The currency.
    pub currency: String,
    /// The stake in micro-units.
    pub stake_micro: i64,
    /// The selection.
    pub selection: String,
    /// The private record's exact text.
    pub record: String,
    /// The salt that hides it.
    pub salt: Vec<u8>,
    /// The commitment to record and salt.
    pub record_commitment: Vec<u8>,
    /// Size of the checkpoint the bet named.
    pub checkpoint_size: u64,
    /// The payout in micro-units once the round ended.
    pub payout_micro: Option<i64>,
    /// The signed receipt.
    pub receipt: String,
}

/// Reads of the replica. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

/// How long a read may wait for a database session, in milliseconds; then its caller has to ask again.
const SESSION_WAIT_MS: u64 = 1_000;

/// Every replicated table.
const TABLES: [&str; 8] = [
    "ledger.heartbeat",
    "ledger.round",
    "ledger.bet",
    "ledger.session_revocation",
    "log.leaf",
    "log.node",
    "log.subject",
    "log.checkpoint",
];

const BET_COLUMNS: &str = "id, round_id, operator_id, player_ref, currency, stake_micro, selection, \
     record, salt, record_commitment, checkpoint_size, payout_micro, receipt";

impl Store {
    /// Reads through `pool`, as `domicile_reader`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// More callers than sessions wait their turn, for a bounded time.
    async fn session(&self) -> Result<Session, Error> {
        self.pool.session_within(Duration::from_millis(SESSION_WAIT_MS)).await
    }

    /// A round's facts.
    pub async fn round(
        &self,
        jurisdiction: &Jurisdiction,
        round: RoundId,
    ) -> Result<Option<StoredRound>, Error> {
        let session = self.session().await?;
        let row = session
            .query_opt(
                "SELECT kind, operator_id, game, params, currency, commitment, state, outcome \
                 FROM ledger.round WHERE jurisdiction = $1 AND id = $2",
                &[&jurisdiction.as_str(), &round.0],
            )
            .await?;
        row.map(|row| {
            Ok(StoredRound {
                kind: row.try_get(0)?,
                operator: row.try_get(1)?,
                game: row.try_get(2)?,
                params: row.try_get(3)?,
                currency: row.try_get(4)?,
                commitment: row.try_get(5)?,
                state: row.try_get(6)?,
                outcome: row.try_get(7)?,
            })
        })
        .transpose()
        .map_err(|source| Error::decode("read a round", source))
    }

    /// One bet.
    pub async fn bet(
        &self,
        jurisdiction: &Jurisdiction,
        bet: BetId,
    ) -> Result<Option<StoredBet>, Error> {
        let session = self.session().await?;
        let row = session
            .query_opt(
                &format!(
                    "SELECT {BET_COLUMNS} FROM ledger.bet WHERE jurisdiction = $1 AND id = $2"
                ),
                &[&jurisdiction.as_str(), &bet.0],
            )
            .await?;
        row.map(|row| stored_bet(&row))
            .transpose()
            .map_err(|source| Error::decode("read a bet", source))
    }

    /// A player's bets, newest first, below `before`.
    pub async fn bets_of(
        &self,
        jurisdiction: &Jurisdiction,
        operator: &OperatorId,
        player: &str,
        before: Option<BetId>,
        limit: i64,
    ) -> Result<Vec<StoredBet>, Error> {
        let before = before.map_or(uuid::Uuid::max(), |bet| bet.0);
        let session = self.session().await?;
        let rows = session
            .query(
                &format!(
                    "SELECT {BET_COLUMNS} FROM ledger.bet WHERE jurisdiction = $1 \
                     AND operator_id = $2 AND player_ref = $3 AND id < $4 ORDER BY id DESC LIMIT $5"
                ),
                &[&jurisdiction.as_str(), &operator.as_str(), &player, &before, &limit],
            )
            .await?;
        rows.iter()
            .map(stored_bet)
            .collect::<Result<_, _>>()
            .map_err(|source| Error::decode("read a player's bets", source))
    }

    /// Record commitments of a shared round's bets, in the order of their ids.
    pub async fn record_commitments(
        &self,
        jurisdiction: &Jurisdiction,
        round: RoundId,
    ) -> Result<Vec<(BetId, Vec<u8>)>, Error> {
        let session = self.session().await?;
        let rows = session
            .query(
                "SELECT id, record_commitment FROM ledger.bet \
                 WHERE jurisdiction = $1 AND round_id = $2 ORDER BY id",
                &[&jurisdiction.as_str(), &round.0],
            )
            .await?;
        rows.iter()
            .map(|row| Ok((BetId(row.try_get(0)?), row.try_get(1)?)))
            .collect::<Result<_, _>>()
            .map_err(|source| Error::decode("read the record commitments of a round", source))
    }

    /// Those of these sessions that were revoked.
    pub async fn revoked(
        &self,
        jurisdiction: &Jurisdiction,
        sessions: &[SessionId],
    ) -> Result<Vec<SessionId>, Error> {
        let ids: Vec<uuid::Uuid> = sessions.iter().map(|session| session.0).collect();
        let session = self.session().await?;
        let rows = session
            .query(
                "SELECT session_id FROM ledger.session_revocation \
                 WHERE jurisdiction = $1 AND session_id = ANY ($2)",
                &[&jurisdiction.as_str(), &ids],
            )
            .await?;
        rows.iter()
            .map(|row| Ok(SessionId(row.try_get(0)?)))
            .collect::<Result<_, _>>()
            .map_err(|source| Error::decode("read revocations", source))
    }

    /// The last heartbeat that arrived.
    pub async fn heartbeat(&self, jurisdiction: &Jurisdiction) -> Result<Option<i64>, Error> {
        let session = self.session().await?;
        let row = session
            .query_opt(
                "SELECT beat FROM ledger.heartbeat WHERE jurisdiction = $1",
                &[&jurisdiction.as_str()],
            )
            .await?;
        row.map(|row| row.try_get(0))
            .transpose()
            .map_err(|source| Error::decode("read the heartbeat", source))
    }

    /// A jurisdiction found in this replica that `permitted` does not name, if any. Each table is stepped
    /// through by the first column of its key, so the cost does not grow with its rows.
    pub async fn foreign_row(&self, permitted: &[&str]) -> Result<Option<String>, Error> {
        let session = self.session().await?;
        for table in TABLES {
            let row = session
                .query_opt(
                    &format!(
                        "WITH RECURSIVE j (found) AS ( \
                           SELECT min(jurisdiction) FROM {table} UNION ALL \
                           SELECT (SELECT min(jurisdiction) FROM {table} WHERE jurisdiction > j.found) \
                           FROM j WHERE j.found IS NOT NULL) \
                         SELECT found FROM j WHERE found <> ALL ($1) LIMIT 1"
                    ),
                    &[&permitted],
                )
                .await?;
            if let Some(row) = row {
                let foreign = row.try_get(0);
                return foreign.map_err(|source| Error::decode("look for foreign rows", source));
            }
        }
        Ok(None)
    }
}

fn stored_bet(row: &Row) -> Result<StoredBet, tokio_postgres::Error> {
    Ok(StoredBet {
        id: BetId(row.try_get(0)?),
        round: RoundId(row.try_get(1)?),
        operator: row.try_get(2)?,
        player: row.try_get(3)?,
        currency: row.try_get(4)?,
        stake_micro: row.try_get(5)?,
        selection: row.try_get(6)?,
        record: row.try_get(7)?,
        salt: row.try_get(8)?,
        record_commitment: row.try_get(9)?,
        checkpoint_size: unsigned(row.try_get(10)?),
        payout_micro: row.try_get(11)?,
        receipt: row.try_get(12)?,
    })
}

/// A count as Postgres stores it. Counts here never come near 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count as Postgres returned it; the schema keeps it non-negative.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
