//! The ledger's money, row by row in pages: every bet with its round and its wallet, every wallet transaction with its bet.
//!
//! Invariant: all pages of a judgement are read in one transaction of one snapshot.

use domicile_core::conservation::{Account, Auditor, Bet, End, Ended, Job, Moved};
use domicile_core::wallet::job::JobState;
use domicile_postgres::{Error, Row, Tx};
use uuid::Uuid;

/// Everything below is of one moment.
const SNAPSHOT: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";

/// The next jurisdiction that has bets.
const JURISDICTION: &str = "SELECT min(jurisdiction) FROM ledger.bet WHERE jurisdiction > $1";

/// A wallet that was just set need not have been known to a bet under way.
const BETS: &str = "SELECT b.id, b.operator_id, b.currency, b.stake_micro, b.selection, b.payout_micro, \
     r.state, r.game, r.params, r.outcome, coalesce(w.set_at + interval '1 minute' < b.placed_at, false), \
     j.id, j.state, j.amount_micro, j.operator_id, j.currency, j.jurisdiction, \
     e.id, e.state, e.amount_micro, e.operator_id, e.currency, e.jurisdiction, e.call \
     FROM (SELECT * FROM ledger.bet WHERE jurisdiction = $1 AND id > $2 ORDER BY id LIMIT $3) b \
     LEFT JOIN LATERAL (SELECT state, game, params, outcome FROM ledger.round \
       WHERE jurisdiction = b.jurisdiction AND id = b.round_id LIMIT 1) r ON true \
     LEFT JOIN ledger.wallet w ON w.operator_id = b.operator_id \
     LEFT JOIN LATERAL (SELECT * FROM ledger.wallet_job WHERE bet_id = b.id AND call = 'bet' \
       ORDER BY (state = 'done') DESC LIMIT 1) j ON true \
     LEFT JOIN LATERAL (SELECT * FROM ledger.wallet_job WHERE reference = j.id LIMIT 1) e ON true \
     ORDER BY b.id";

/// The stake of a lost bet whose receipt was honoured stands without its bet.
const JOBS: &str = "SELECT j.id, j.state, j.amount_micro, j.operator_id, j.currency, j.jurisdiction, j.call, \
     b.id IS NOT NULL, s.id IS NOT NULL, (SELECT count(*) FROM ledger.wallet_job d \
       WHERE d.bet_id = j.bet_id AND d.call = 'bet' AND d.state = 'done'), \
     e.id, e.state, e.amount_micro, e.operator_id, e.currency, e.jurisdiction, e.call \
     FROM (SELECT * FROM ledger.wallet_job WHERE id > $1 ORDER BY id LIMIT $2) j \
     LEFT JOIN LATERAL (SELECT id FROM ledger.bet WHERE jurisdiction = j.jurisdiction AND id = j.bet_id \
       UNION ALL SELECT bet_id FROM ledger.loss_claim WHERE jurisdiction = j.jurisdiction AND bet_id = j.bet_id \
       AND state = 'settled' LIMIT 1) b ON true \
     LEFT JOIN LATERAL (SELECT id FROM ledger.wallet_job WHERE id = j.reference AND call = 'bet' \
       LIMIT 1) s ON true \
     LEFT JOIN LATERAL (SELECT * FROM ledger.wallet_job WHERE reference = j.id LIMIT 1) e ON true \
     ORDER BY j.id";

/// Makes the transaction one snapshot; before anything is read in it.
pub async fn begin(tx: &Tx<'_>) -> Result<(), Error> {
    tx.batch_execute(SNAPSHOT).await
}

/// The jurisdiction after this one that has bets.
pub async fn next_jurisdiction(tx: &Tx<'_>, after: &str) -> Result<Option<String>, Error> {
    let rows = tx.query(JURISDICTION, &[&after]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// Judges the next bets of a jurisdiction; the last one's id, where there may be more.
pub async fn bets(
    tx: &Tx<'_>,
    auditor: &mut Auditor,
    jurisdiction: &str,
    (after, limit): (Uuid, i64),
) -> Result<Option<Uuid>, Error> {
    let rows = tx.query(BETS, &[&jurisdiction, &after, &limit]).await?;
    for row in &rows {
        bet(auditor, jurisdiction, row);
    }
    Ok(more(&rows, limit))
}

/// Judges the next wallet transactions, as [`bets`] does.
pub async fn jobs(
    tx: &Tx<'_>,
    auditor: &mut Auditor,
    (after, limit): (Uuid, i64),
) -> Result<Option<Uuid>, Error> {
    let rows = tx.query(JOBS, &[&after, &limit]).await?;
    for row in &rows {
        if let Some(job) = job(row) {
            auditor.job(&job);
        }
    }
    Ok(more(&rows, limit))
}

fn more(rows: &[Row], limit: i64) -> Option<Uuid> {
    let full = i64::try_from(rows.len()) == Ok(limit);
    rows.last().filter(|_last| full).map(|last| last.get(0))
}

fn bet(auditor: &mut Auditor, jurisdiction: &str, row: &Row) {
    let selection: String = row.get(4);
    let text = |column: usize| row.get::<_, Option<String>>(column).unwrap_or_default();
    let (game, params, outcome) = (text(7), text(8), text(9));
    let round = row.get::<_, Option<String>>(6).map(|state| match &*state {
        "settled" => Ended::Settled { game: &game, params: &params, outcome: &outcome },
        "voided" => Ended::Voided,
        _ => Ended::No,
    });
    auditor.bet(&Bet {
        account: Account {
            operator: row.get(1),
            currency: row.get(2),
            jurisdiction: jurisdiction.to_owned(),
        },
        id: row.get(0),
        stake_micro: row.get(3),
        selection: &selection,
        payout_micro: row.get(5),
        round,
        stake: moved(row, 11),
        needs_stake: row.get(10),
        end: end(row, 17),
    });
}

fn job(row: &Row) -> Option<Job> {
    let moved = moved(row, 0)?;
    let call: String = row.get(6);
    Some(if call == "bet" {
        Job::Stake { moved, bet_stands: row.get(7), taken_for_bet: row.get(9), end: end(row, 10) }
    } else {
        Job::End { end: End { is_win: call == "win", moved }, stake_stands: row.get(8) }
    })
}

/// Id, state, amount and account, from this column on.
fn moved(row: &Row, from: usize) -> Option<Moved> {
    Some(Moved {
        id: row.get::<_, Option<Uuid>>(from)?,
        state: JobState::parse(row.get(from.saturating_add(1)))?,
        amount_micro: row.get(from.saturating_add(2)),
        account: Account {
            operator: row.get(from.saturating_add(3)),
            currency: row.get(from.saturating_add(4)),
            jurisdiction: row.get(from.saturating_add(5)),
        },
    })
}

fn end(row: &Row, from: usize) -> Option<End> {
    let moved = moved(row, from)?;
    let call: String = row.get(from.saturating_add(6));
    Some(End { is_win: call == "win", moved })
}
