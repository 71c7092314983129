//! Transactions with operators' wallets: the outbox and its history in one table.
//!
//! Invariants: a transaction is written before its wallet is asked, and its end before anyone is told; a row is
//! taken for a while by moving its due time (`FOR UPDATE SKIP LOCKED`), so no lock is held while a wallet is
//! asked; an end is written on a pending row only, so that whoever is late finds a shortfall.

use super::{WriteError, all_written, term};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{
    BetId, GameCode, Jurisdiction, OperatorId, PlayerRef, RoundId, SessionId,
};
use domicile_core::money::{Currency, Micro};
use domicile_core::wallet::exchange::Transaction;
use domicile_core::wallet::job::JobState;
use domicile_core::wallet::{Call, rollback_id, win_id};
use domicile_postgres::types::ToSql;
use domicile_postgres::{Query, Row, Tx};
use std::time::Duration;
use uuid::Uuid;

const INTEND: &str = concat!(
    "INSERT INTO ledger.wallet_job (id, call, operator_id, jurisdiction, player_ref, session_id, game, round_id, ",
    "bet_id, currency, amount_micro, body_hash, state, attempts, due_at) SELECT i.id, 'bet', i.operator, ",
    "i.jurisdiction, i.player, i.session, i.game, i.round, i.bet, i.currency, i.amount, i.hash, 'pending', 1, ",
    "now() + i.lease_ms * interval '1 millisecond' FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], ",
    "$6::uuid[], $7::text[], $8::uuid[], $9::uuid[], $10::text[], $11::bigint[], $12::bytea[], $13::bigint[]) ",
    "i(id, operator, jurisdiction, player, session, game, round, bet, currency, amount, hash, lease_ms) WHERE ",
    in_term!(),
    " ON CONFLICT DO NOTHING"
);

const INTENDED: &str = "SELECT j.id, j.state, j.answer, j.body_hash, j.round_id, j.bet_id FROM unnest($1::uuid[]) i(id) \
     JOIN ledger.wallet_job j ON j.id = i.id";

const TAKE: &str = concat!(
    "UPDATE ledger.wallet_job j SET state = 'done', answer = i.answer, ended_at = now() ",
    "FROM unnest($2::uuid[], $3::text[]) i(id, answer) WHERE j.id = i.id AND j.state = 'pending' AND j.call = 'bet' AND ",
    in_term!()
);

const FOLLOW: &str = concat!(
    "INSERT INTO ledger.wallet_job (id, call, reference, operator_id, jurisdiction, player_ref, session_id, game, ",
    "round_id, bet_id, currency, amount_micro, state, attempts, due_at, answer, ended_at) SELECT i.id, i.call, b.id, ",
    "b.operator_id, b.jurisdiction, b.player_ref, b.session_id, b.game, b.round_id, b.bet_id, b.currency, ",
    "coalesce(i.amount, b.amount_micro), CASE WHEN i.withheld IS NULL THEN 'pending' ELSE 'dead' END, 0, now(), ",
    "i.withheld, CASE WHEN i.withheld IS NOT NULL THEN now() END ",
    "FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::bigint[], $6::text[]) i(id, call, bet, amount, withheld) ",
    "JOIN ledger.wallet_job b ON b.id = i.bet WHERE ",
    in_term!()
);

const OF_BETS: &str = "SELECT j.id, j.bet_id FROM unnest($1::uuid[]) i(bet) \
     JOIN ledger.wallet_job j ON j.bet_id = i.bet AND j.call = 'bet' AND j.state = 'done'";

const END: &str = concat!(
    "UPDATE ledger.wallet_job j SET state = i.state, answer = i.answer, ",
    "due_at = now() + i.pause_ms * interval '1 millisecond', ",
    "ended_at = CASE WHEN i.state <> 'pending' THEN now() END ",
    "FROM unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[]) i(id, state, answer, pause_ms) ",
    "WHERE j.id = i.id AND j.state = 'pending' AND ",
    in_term!()
);

const CLAIM: &str = concat!(
    "WITH due AS (SELECT d.id FROM unnest($2::text[], $3::bigint[]) o(operator, places) ",
    "CROSS JOIN LATERAL (SELECT id FROM ledger.wallet_job WHERE operator_id = o.operator ",
    "AND state = 'pending' AND due_at <= now() ORDER BY due_at LIMIT o.places FOR UPDATE SKIP LOCKED) d) ",
    "UPDATE ledger.wallet_job j SET attempts = j.attempts + 1, ",
    "due_at = now() + $4::bigint * interval '1 millisecond' ",
    "FROM due WHERE j.id = due.id AND ",
    in_term!(),
    " RETURNING j.id, j.call, j.reference, j.operator_id, j.jurisdiction, j.player_ref, j.session_id, j.game, ",
    "j.round_id, j.bet_id, j.currency, j.amount_micro, j.attempts, ",
    "extract(epoch FROM now() - j.armed_at)::bigint"
);

const CUT: &str = concat!(
    "UPDATE ledger.wallet_job SET state = 'undone', answer = $2, ended_at = now() WHERE id IN ",
    "(SELECT id FROM ledger.wallet_job WHERE state = 'pending' AND call = 'bet' LIMIT $3) AND ",
    in_term!(),
    " RETURNING id"
);

const RECOVER: &str = concat!(
    "UPDATE ledger.wallet_job SET due_at = now() WHERE state = 'pending' AND call <> 'bet' AND due_at > now() AND ",
    in_term!()
);

const WAITING: &str = "SELECT operator_id, call, state, count(*), \
     coalesce(extract(epoch FROM now() - min(created_at))::bigint, 0) FROM ledger.wallet_job \
     WHERE state IN ('pending', 'dead') GROUP BY 1, 2, 3";

/// A bet that is about to be asked for.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The bet.
    pub transaction: Transaction,
    /// The hash of the request it stands for.
    pub body_hash: [u8; 32],
    /// How long it is left to its request before it counts as abandoned.
    pub lease: Duration,
}

/// A bet's row as its request finds it.
#[derive(Debug, Clone)]
pub struct Intended {
    /// The transaction.
    pub id: Uuid,
    /// Where it stands.
    pub state: JobState,
    /// What the wallet said last.
    pub answer: Option<String>,
    /// The hash of the request it stands for.
    pub body_hash: [u8; 32],
    /// Its round.
    pub round: RoundId,
    /// Its bet.
    pub bet: BetId,
}

impl Intended {
    fn from_row(row: &Row) -> Option<Self> {
        Some(Self {
            id: row.get(0),
            state: JobState::parse(row.get(1))?,
            answer: row.get(2),
            body_hash: row.get::<_, Option<Vec<u8>>>(3)?.try_into().ok()?,
            round: RoundId(row.get(4)),
            bet: BetId(row.get(5)),
        })
    }
}

/// Writes intents, where they are not there yet, and says how each one stands.
pub async fn intend(
    tx: &Tx<'_>,
    epoch: Epoch,
    intents: &[Intent],
) -> Result<Vec<Intended>, WriteError> {
    let all = || intents.iter().map(|intent| &intent.transaction);
    let ids: Vec<_> = all().map(|bet| bet.id).collect();
    let operators: Vec<_> = all().map(|bet| bet.operator.as_str()).collect();
    let jurisdictions: Vec<_> = all().map(|bet| bet.jurisdiction.as_str()).collect();
    let players: Vec<_> = all().map(|bet| bet.player.as_str()).collect();
    let sessions: Vec<_> = all().map(|bet| bet.session.0).collect();
    let games: Vec<_> = all().map(|bet| bet.game.as_str()).collect();
    let rounds: Vec<_> = all().map(|bet| bet.round.0).collect();
    let bets: Vec<_> = all().map(|bet| bet.bet.0).collect();
    let currencies: Vec<_> = all().map(|bet| bet.currency.as_str()).collect();
    let amounts: Vec<_> = all().map(|bet| bet.amount.as_i64()).collect();
    let hashes: Vec<_> = intents.iter().map(|intent| &intent.body_hash[..]).collect();
    let leases: Vec<_> = intents.iter().map(|intent| as_ms(intent.lease)).collect();
    tx.execute(
        INTEND,
        &[
            &term(epoch),
            &ids,
            &operators,
            &jurisdictions,
            &players,
            &sessions,
            &games,
            &rounds,
            &bets,
            &currencies,
            &amounts,
            &hashes,
            &leases,
        ],
    )
    .await?;
    let rows = tx.query(INTENDED, &[&ids]).await?;
    let found: Vec<_> = rows.iter().filter_map(Intended::from_row).collect();
    let of = |id: &Uuid| found.iter().find(|row| row.id == *id).cloned();
    ids.iter().map(|id| of(id).ok_or(WriteError::Shortfall)).collect()
}

/// A bet that the wallet has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The transaction.
    pub id: Uuid,
    /// The wallet's word for it.
    pub answer: &'static str,
}

/// Ends bets as done; one that is no longer pending is a shortfall.
pub async fn take(
    tx: &Tx<'_>,
    epoch: Epoch,
    bets: impl Iterator<Item = Taken> + Clone,
) -> Result<(), WriteError> {
    let ids: Vec<_> = bets.clone().map(|bet| bet.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let answers: Vec<_> = bets.map(|bet| bet.answer).collect();
    all_written(tx.execute(TAKE, &[&term(epoch), &ids, &answers]).await?, ids.len())
}

/// What follows a bet: its win or its rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The bet won this.
    Win(Uuid, Micro),
    /// The stake goes back.
    Rollback(Uuid),
    /// The stake goes back once a person says so: a lost tail may have paid its win.
    Withheld(Uuid),
}

/// Stands in place of a wallet's answer while a rollback is withheld.
pub const WITHHELD: &str = "withheld";

/// Queues what follows bets. A bet that has one already, of whatever kind, is a duplicate.
pub async fn follow(
    tx: &Tx<'_>,
    epoch: Epoch,
    follows: impl Iterator<Item = Follow>,
) -> Result<(), WriteError> {
    let (mut ids, mut calls, mut bets, mut amounts) = (vec![], vec![], vec![], vec![]);
    let mut withheld = vec![];
    for follow in follows {
        let (call, id, bet, amount) = match follow {
            Follow::Win(bet, amount) => (Call::Win, win_id(bet), bet, Some(amount.as_i64())),
            Follow::Rollback(bet) | Follow::Withheld(bet) => {
                (Call::Rollback, rollback_id(bet), bet, None)
            }
        };
        withheld.push(matches!(follow, Follow::Withheld(_)).then_some(WITHHELD));
        ids.push(id);
        calls.push(call.as_str());
        bets.push(bet);
        amounts.push(amount);
    }
    if ids.is_empty() {
        return Ok(());
    }
    let params: [&(dyn ToSql + Sync); 6] = [&term(epoch), &ids, &calls, &bets, &amounts, &withheld];
    all_written(tx.execute(FOLLOW, &params).await?, ids.len())
}

/// Undoes every bet that is pending, and withholds its rollback: what the lost tail made of it is not known. Says how many.
pub async fn cut(tx: &Tx<'_>, epoch: Epoch) -> Result<u64, WriteError> {
    let mut all = 0;
    loop {
        let rows = tx.query(CUT, &[&term(epoch), &WITHHELD, &limits::WALLET_CUT_BETS]).await?;
        follow(tx, epoch, rows.iter().map(|row| Follow::Withheld(row.get(0)))).await?;
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        all = u64::try_from(count).unwrap_or(0).saturating_add(all);
        if count < limits::WALLET_CUT_BETS {
            return Ok(all);
        }
    }
}

/// The transactions that took the stakes of these bets; bets without a wallet have none.
pub async fn of_bets(
    tx: &Tx<'_>,
    bets: &[Uuid],
) -> Result<Vec<(Uuid, Uuid)>, domicile_postgres::Error> {
    let rows = tx.query(OF_BETS, &[&bets]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// How a pending transaction goes on.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// The transaction.
    pub id: Uuid,
    /// Its new state; `pending` is due again after the pause.
    pub state: JobState,
    /// What the wallet said.
    pub answer: &'static str,
    /// The pause.
    pub pause: Duration,
}

/// Moves pending transactions on; the rollbacks of bets that are undone are queued with it.
pub async fn end(tx: &Tx<'_>, epoch: Epoch, ends: &[End]) -> Result<(), WriteError> {
    let ids: Vec<_> = ends.iter().map(|end| end.id).collect();
    let states: Vec<_> = ends.iter().map(|end| end.state.as_str()).collect();
    let answers: Vec<_> = ends.iter().map(|end| end.answer).collect();
    let pauses: Vec<_> = ends.iter().map(|end| as_ms(end.pause)).collect();
    let moved = tx.execute(END, &[&term(epoch), &ids, &states, &answers, &pauses]).await?;
    all_written(moved, ids.len())?;
    let undone = ends.iter().filter(|end| end.state == JobState::Undone);
    follow(tx, epoch, undone.map(|end| Follow::Rollback(end.id))).await
}

/// A transaction that was taken to be carried out.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The transaction.
    pub transaction: Transaction,
    /// The attempt that begins, from 1.
    pub attempts: u32,
    /// Since it was intended.
    pub age: Duration,
}

impl Claimed {
    fn from_row(row: &Row) -> Option<Self> {
        Some(Self {
            transaction: Transaction {
                id: row.get(0),
                call: Call::parse(row.get(1))?,
                reference: row.get(2),
                operator: OperatorId::parse(row.get(3)).ok()?,
                jurisdiction: Jurisdiction::parse(row.get(4)).ok()?,
                player: PlayerRef::parse(row.get(5)).ok()?,
                session: SessionId(row.get(6)),
                game: GameCode::parse(row.get(7)).ok()?,
                round: RoundId(row.get(8)),
                bet: BetId(row.get(9)),
                currency: Currency::parse(row.get(10)).ok()?,
                amount: Micro::try_from(row.get::<_, i64>(11)).ok()?,
            },
            attempts: u32::try_from(row.get::<_, i32>(12)).ok()?,
            age: Duration::from_secs(u64::try_from(row.get::<_, i64>(13)).unwrap_or(0)),
        })
    }
}

/// Takes due transactions, up to so many of each operator, for `lease`.
pub async fn claim(
    tx: &Tx<'_>,
    epoch: Epoch,
    places: &[(OperatorId, usize)],
    lease: Duration,
) -> Result<Vec<Claimed>, domicile_postgres::Error> {
    let operators: Vec<_> = places.iter().map(|(operator, _)| operator.as_str()).collect();
    let limits: Vec<_> =
        places.iter().map(|(_, n)| i64::try_from(*n).unwrap_or(i64::MAX)).collect();
    let rows = tx.query(CLAIM, &[&term(epoch), &operators, &limits, &as_ms(lease)]).await?;
    Ok(rows.iter().filter_map(Claimed::from_row).collect())
}

/// Makes everything due that a process may have been about to carry out when it ended. What is carried out
/// twice by that is the same transaction to its wallet.
pub async fn recover(tx: &Tx<'_>, epoch: Epoch) -> Result<u64, domicile_postgres::Error> {
    tx.execute(RECOVER, &[&term(epoch)]).await
}

/// Transactions that are not done, by operator, call and state.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The operator.
    pub operator: String,
    /// The call.
    pub call: String,
    /// `pending` or `dead`.
    pub state: String,
    /// How many.
    pub count: i64,
    /// The age of the oldest one.
    pub oldest_s: i64,
}

/// What is not done yet.
pub async fn waiting(on: &impl Query) -> Result<Vec<Waiting>, domicile_postgres::Error> {
    let rows = on.query(WAITING, &[]).await?;
    let waiting = |row: &Row| Waiting {
        operator: row.get(0),
        call: row.get(1),
        state: row.get(2),
        count: row.get(3),
        oldest_s: row.get(4),
    };
    Ok(rows.iter().map(waiting).collect())
}

fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
