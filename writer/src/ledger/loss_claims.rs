//! Lost bets whose receipts were handed in, and the cut of an epoch that began by force.
//!
//! Invariants: a claim is filed once and decided once; what was decided is never changed.

use super::{WriteError, all_written, term};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{
    BetId, GameCode, Jurisdiction, OperatorId, PlayerRef, RoundId, SessionId,
};
use domicile_core::money::Micro;
use domicile_core::receipt::Receipt;
use domicile_core::wallet::job::JobState;
use domicile_postgres::types::ToSql;
use domicile_postgres::{Query, Row, Tx};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

const CUT: &str = concat!(
    "WITH stale AS (SELECT DISTINCT jurisdiction, session_id FROM ledger.chain WHERE closed_at IS NULL), ",
    "mark AS (INSERT INTO ledger.forced_cut (epoch, revoked_sessions) SELECT $1, (SELECT count(*) FROM stale) WHERE ",
    in_term!(),
    " ON CONFLICT DO NOTHING RETURNING revoked_sessions), ",
    "revoked AS (UPDATE ledger.session s SET revoked_at = now() FROM stale, mark WHERE s.jurisdiction = stale.jurisdiction ",
    "AND s.id = stale.session_id AND s.revoked_at IS NULL RETURNING s.jurisdiction, s.id), ",
    "published AS (INSERT INTO ledger.session_revocation (jurisdiction, session_id, revoked_at) ",
    "SELECT jurisdiction, id, now() FROM revoked) SELECT revoked_sessions FROM mark"
);

const COLUMNS: &str = "jurisdiction, round_id, bet_id, operator_id, currency, stake_micro, accepted_epoch, state, outcome, \
     payout_micro, money, filed_by, decided_by, decided_in, receipt";

const FILE: &str = concat!(
    "INSERT INTO ledger.loss_claim (jurisdiction, bet_id, round_id, session_id, operator_id, currency, stake_micro, ",
    "accepted_epoch, receipt, state, filed_by) SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10, 'filed', $11 WHERE ",
    in_term!()
);

const DECIDE: &str = concat!(
    "UPDATE ledger.loss_claim SET operator_id = $4, state = $5, outcome = $6, payout_micro = $7, money = $8, evidence = $9, ",
    "decided_by = $10, decided_in = $1, decided_at = now() WHERE jurisdiction = $2 AND bet_id = $3 AND state = 'filed' AND ",
    in_term!()
);

const RESTORE: &str = concat!(
    "INSERT INTO ledger.wallet_job (id, call, operator_id, jurisdiction, player_ref, session_id, game, round_id, bet_id, ",
    "currency, amount_micro, body_hash, state, attempts, due_at, answer, ended_at) SELECT $2, 'bet', $3, $4, $5, $6, $7, ",
    "$8, $9, $10, $11, $12, $13, 1, now(), 'RS_OK', now() WHERE ",
    in_term!()
);

const STAKE: &str =
    "SELECT id, state FROM ledger.wallet_job WHERE bet_id = $1 AND call = 'bet' FOR UPDATE";

const OPERATOR: &str = "SELECT operator_id FROM ledger.session WHERE jurisdiction = $1 AND id = $2";

const GAME: &str = "SELECT game, params FROM ledger.chain WHERE jurisdiction = $1 AND session_id = $2 AND commitment = $3 \
     UNION ALL SELECT game, params FROM ledger.round WHERE jurisdiction = $1 AND id = $4 AND commitment = $3 LIMIT 1";

/// Takes the sessions of former epochs out of use; says how many, or `None` when this epoch's cut was made before.
pub async fn cut(tx: &Tx<'_>, epoch: Epoch) -> Result<Option<i64>, domicile_postgres::Error> {
    let row = tx.query_opt(CUT, &[&term(epoch)]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Where a claim stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Settled as it was revealed.
    Settled,
    /// The stake goes back.
    Refunded,
}

impl State {
    /// As the ledger stores it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Refunded => "refunded",
        }
    }
}

/// Who moves the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Money {
    /// A transaction with the operator's wallet.
    Wallet,
    /// Nobody: the operator has no wallet, and the claim is what is owed.
    Ledger,
    /// A person: the transaction that took the stake is not known.
    ByHand,
}

impl Money {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Wallet => "wallet",
            Self::Ledger => "ledger",
            Self::ByHand => "by-hand",
        }
    }
}

/// A claim as it is told.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    jurisdiction: String,
    round: Uuid,
    bet: Uuid,
    operator: String,
    currency: String,
    stake_micro: i64,
    accepted_epoch: i64,
    state: String,
    outcome: Option<String>,
    payout_micro: Option<i64>,
    money: Option<String>,
    filed_by: String,
    decided_by: Option<String>,
    decided_in: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
}

impl View {
    fn from_row(row: &Row) -> Self {
        Self {
            jurisdiction: row.get(0),
            round: row.get(1),
            bet: row.get(2),
            operator: row.get(3),
            currency: row.get(4),
            stake_micro: row.get(5),
            accepted_epoch: row.get(6),
            state: row.get(7),
            outcome: row.get(8),
            payout_micro: row.get(9),
            money: row.get(10),
            filed_by: row.get(11),
            decided_by: row.get(12),
            decided_in: row.get(13),
            receipt: None,
        }
    }
}

/// A claim that is there.
#[derive(Debug)]
pub struct Found {
    /// As it is told.
    pub view: View,
    /// Not decided yet.
    pub is_open: bool,
}

/// Finds and locks a claim.
pub async fn find(
    tx: &Tx<'_>,
    (jurisdiction, bet): (&Jurisdiction, BetId),
) -> Result<Option<Found>, domicile_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM ledger.loss_claim WHERE jurisdiction = $1 AND bet_id = $2 FOR UPDATE"
    );
    let row = tx.query_opt(&sql, &[&jurisdiction.as_str(), &bet.0]).await?;
    Ok(row.map(|row| {
        let view = View::from_row(&row);
        Found { is_open: view.state == "filed", view }
    }))
}

/// Claims in the order of their keys, with their receipts while they are open; of those after `after`.
pub async fn list(
    on: &impl Query,
    only_open: bool,
    (jurisdiction, bet): (&str, Uuid),
    limit: i64,
) -> Result<Vec<View>, domicile_postgres::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM ledger.loss_claim WHERE (jurisdiction, bet_id) > ($1, $2) AND (NOT $3 OR state = 'filed') \
         ORDER BY jurisdiction, bet_id LIMIT $4"
    );
    let rows = on.query(&sql, &[&jurisdiction, &bet, &only_open, &limit]).await?;
    let view = |row: &Row| {
        let view = View::from_row(row);
        let receipt = (view.state == "filed").then(|| row.get(14));
        View { receipt, ..view }
    };
    Ok(rows.iter().map(view).collect())
}

/// A receipt to be filed.
#[derive(Debug)]
pub struct Filing<'a> {
    /// What it says.
    pub receipt: &'a Receipt,
    /// The signed text.
    pub note: &'a str,
    /// Whose bet it was.
    pub operator: &'a OperatorId,
    /// Who hands it in.
    pub by: &'a str,
}

/// Files a receipt; a second copy is a duplicate.
pub async fn file(tx: &Tx<'_>, epoch: Epoch, filing: &Filing<'_>) -> Result<(), WriteError> {
    let receipt = filing.receipt;
    let accepted = term(receipt.accepted_epoch);
    let params: [&(dyn ToSql + Sync); 11] = [
        &term(epoch),
        &receipt.jurisdiction.as_str(),
        &receipt.bet.0,
        &receipt.round.0,
        &receipt.session.0,
        &filing.operator.as_str(),
        &receipt.currency.as_str(),
        &receipt.stake_micro.as_i64(),
        &accepted,
        &filing.note,
        &filing.by,
    ];
    all_written(tx.execute(FILE, &params).await?, 1)
}

/// What a claim comes to.
#[derive(Debug)]
pub struct Decision {
    /// Whose bet it was.
    pub operator: OperatorId,
    /// How it ends.
    pub state: State,
    /// The outcome of a settled one.
    pub outcome: Option<String>,
    /// What it pays beside its stake's return; zero for a refund.
    pub payout: Micro,
    /// Who moves the money.
    pub money: Money,
    /// The kept rows.
    pub evidence: Option<Value>,
    /// Who decided.
    pub by: String,
}

/// Decides a filed claim, once.
pub async fn decide(
    tx: &Tx<'_>,
    epoch: Epoch,
    (jurisdiction, bet): (&Jurisdiction, BetId),
    decision: &Decision,
) -> Result<(), WriteError> {
    let params: [&(dyn ToSql + Sync); 10] = [
        &term(epoch),
        &jurisdiction.as_str(),
        &bet.0,
        &decision.operator.as_str(),
        &decision.state.as_str(),
        &decision.outcome,
        &decision.payout.as_i64(),
        &decision.money.as_str(),
        &decision.evidence,
        &decision.by,
    ];
    all_written(tx.execute(DECIDE, &params).await?, 1)
}

/// Whose session it is, where the ledger has it.
pub async fn operator_of(
    tx: &Tx<'_>,
    (jurisdiction, session): (&Jurisdiction, SessionId),
) -> Result<Option<OperatorId>, domicile_postgres::Error> {
    let row = tx.query_opt(OPERATOR, &[&jurisdiction.as_str(), &session.0]).await?;
    Ok(row.and_then(|row| OperatorId::parse(row.get(0)).ok()))
}

/// The game and parameters of the session's chain, or of the round, with this commitment, where the ledger has it.
pub async fn game_of(
    tx: &Tx<'_>,
    (jurisdiction, session): (&Jurisdiction, SessionId),
    (commitment, round): (&[u8; 32], RoundId),
) -> Result<Option<(String, String)>, domicile_postgres::Error> {
    let params: [&(dyn ToSql + Sync); 4] =
        [&jurisdiction.as_str(), &session.0, &commitment.as_slice(), &round.0];
    let row = tx.query_opt(GAME, &params).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// The wallet transaction that took the stake of a bet, where the ledger has it.
pub async fn stake_of(
    tx: &Tx<'_>,
    bet: BetId,
) -> Result<Option<(Uuid, JobState)>, domicile_postgres::Error> {
    let row = tx.query_opt(STAKE, &[&bet.0]).await?;
    Ok(row.and_then(|row| Some((row.get(0), JobState::parse(row.get(1))?))))
}

/// The transaction that took a lost bet's stake.
#[derive(Debug, Clone)]
pub struct Stake {
    /// Its id, by which the wallet knows it.
    pub id: Uuid,
    /// The operator.
    pub operator: OperatorId,
    /// The operator's pseudonym of the player.
    pub player: PlayerRef,
    /// The game.
    pub game: GameCode,
    /// The hash of the request it stood for.
    pub body_hash: [u8; 32],
}

/// Writes the transaction that took a lost bet's stake as it was, so that its win or return refers to it.
pub async fn restore_stake(
    tx: &Tx<'_>,
    epoch: Epoch,
    receipt: &Receipt,
    stake: &Stake,
    end: JobState,
) -> Result<(), WriteError> {
    let params: [&(dyn ToSql + Sync); 13] = [
        &term(epoch),
        &stake.id,
        &stake.operator.as_str(),
        &receipt.jurisdiction.as_str(),
        &stake.player.as_str(),
        &receipt.session.0,
        &stake.game.as_str(),
        &receipt.round.0,
        &receipt.bet.0,
        &receipt.currency.as_str(),
        &receipt.stake_micro.as_i64(),
        &stake.body_hash.as_slice(),
        &end.as_str(),
    ];
    all_written(tx.execute(RESTORE, &params).await?, 1)
}
