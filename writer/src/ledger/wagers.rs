//! Stakes taken and payouts credited: the only place where the ledger's money is written.
//!
//! In this ledger money is a stake and a payout of a bet row. An operator's wallet joins here: the intent
//! before [`record`] and [`pay`], the result after their commit, each durable for itself.
//! Invariants: a stake is written once and never changed; a payout is written once, together with the
//! outcome it follows from; amounts are integer micro-units.

use super::{WriteError, all_written, term};
use crate::order::SaltedRecord;
use domicile_core::epoch::Epoch;
use domicile_core::ids::{BetId, Jurisdiction, RoundId};
use domicile_core::money::Micro;
use domicile_postgres::Tx;
use domicile_postgres::types::ToSql;
use uuid::Uuid;

const RECORD: &str = concat!(
    "INSERT INTO ledger.bet (jurisdiction, id, round_id, session_id, operator_id, player_ref, currency, ",
    "stake_micro, selection, client_seed, record, salt, record_commitment, checkpoint_size, payout_micro, ",
    "receipt, placed_at) SELECT i.*, now() FROM unnest($2::text[], $3::uuid[], $4::uuid[], $5::uuid[], ",
    "$6::text[], $7::text[], $8::text[], $9::bigint[], $10::text[], $11::bytea[], $12::text[], $13::bytea[], ",
    "$14::bytea[], $15::bigint[], $16::bigint[], $17::text[]) i WHERE ",
    in_term!()
);

const PAGE: &str = "SELECT id, stake_micro, selection, record_commitment FROM ledger.bet \
     WHERE jurisdiction = $1 AND round_id = $2 AND id > $3 ORDER BY id LIMIT $4";

const EXISTS: &str = "SELECT true FROM ledger.bet WHERE jurisdiction = $1 AND id = $2";

const PAY: &str = concat!(
    "UPDATE ledger.bet b SET payout_micro = i.payout FROM unnest($3::uuid[], $4::bigint[]) i(id, payout) ",
    "WHERE b.jurisdiction = $2 AND b.id = i.id AND b.payout_micro IS NULL AND ",
    in_term!()
);

/// A bet as it enters the ledger.
#[derive(Debug)]
pub struct Wager {
    /// The private record with its salt and commitment.
    pub salted: SaltedRecord,
    /// What the bet paid, where the outcome comes with it.
    pub payout: Option<Micro>,
    /// The signed receipt.
    pub receipt: String,
}

/// Records stakes (and the payouts of instant plays).
pub async fn record<'a>(
    tx: &Tx<'_>,
    epoch: Epoch,
    wagers: impl Iterator<Item = &'a Wager> + Clone,
) -> Result<(), WriteError> {
    let salted = || wagers.clone().map(|wager| &wager.salted);
    let records = || salted().map(|salted| &salted.record);
    let jurisdictions: Vec<_> = records().map(|record| record.jurisdiction.as_str()).collect();
    let ids: Vec<_> = records().map(|record| record.bet.0).collect();
    let rounds: Vec<_> = records().map(|record| record.round.0).collect();
    let sessions: Vec<_> = records().map(|record| record.session.0).collect();
    let operators: Vec<_> = records().map(|record| record.operator.as_str()).collect();
    let players: Vec<_> = records().map(|record| record.player.as_str()).collect();
    let currencies: Vec<_> = records().map(|record| record.currency.as_str()).collect();
    let stakes: Vec<_> = records().map(|record| record.stake.as_i64()).collect();
    let selections: Vec<_> = records().map(|record| record.selection.as_str()).collect();
    let client_seeds: Vec<_> = records().map(|record| &record.client_seed[..]).collect();
    let sizes: Vec<_> =
        records().map(|record| i64::try_from(record.checkpoint_size).unwrap_or(i64::MAX)).collect();
    let texts: Vec<_> = salted().map(|salted| salted.text.as_str()).collect();
    let salts: Vec<_> = salted().map(|salted| &salted.salt[..]).collect();
    let commitments: Vec<_> = salted().map(|salted| &salted.commitment[..]).collect();
    let payouts: Vec<_> = wagers.clone().map(|wager| wager.payout.map(Micro::as_i64)).collect();
    let receipts: Vec<_> = wagers.clone().map(|wager| wager.receipt.as_str()).collect();
    let written = tx
        .execute(
            RECORD,
            &[
                &term(epoch),
                &jurisdictions,
                &ids,
                &rounds,
                &sessions,
                &operators,
                &players,
                &currencies,
                &stakes,
                &selections,
                &client_seeds,
                &texts,
                &salts,
                &commitments,
                &sizes,
                &payouts,
                &receipts,
            ],
        )
        .await?;
    all_written(written, ids.len())
}

/// A bet of a round that is being ended.
#[derive(Debug)]
pub struct PlacedBet {
    /// The bet.
    pub id: Uuid,
    /// What was staked.
    pub stake: Micro,
    /// What was bet on.
    pub selection: String,
    /// The commitment to its private record.
    pub commitment: [u8; 32],
}

/// The next bets of a round in one jurisdiction after `after`, in order of id.
pub async fn page(
    tx: &Tx<'_>,
    jurisdiction: &Jurisdiction,
    round: RoundId,
    after: Uuid,
    limit: i64,
) -> Result<Vec<PlacedBet>, WriteError> {
    let rows = tx.query(PAGE, &[&jurisdiction.as_str(), &round.0, &after, &limit]).await?;
    rows.iter()
        .map(|row| {
            let stake = Micro::try_from(row.get::<_, i64>(1));
            let commitment = row.get::<_, Vec<u8>>(3).try_into();
            Ok(PlacedBet {
                id: row.get(0),
                stake: stake.map_err(|_out_of_range| WriteError::Shortfall)?,
                selection: row.get(2),
                commitment: commitment.map_err(|_length| WriteError::Shortfall)?,
            })
        })
        .collect()
}

/// Whether the ledger has a bet.
pub async fn exists(
    tx: &Tx<'_>,
    jurisdiction: &Jurisdiction,
    bet: BetId,
) -> Result<bool, domicile_postgres::Error> {
    let row = tx.query_opt(EXISTS, &[&jurisdiction.as_str(), &bet.0]).await?;
    Ok(row.is_some())
}

/// Credits payouts of a round's bets in one jurisdiction.
pub async fn pay(
    tx: &Tx<'_>,
    epoch: Epoch,
    jurisdiction: &Jurisdiction,
    payouts: &[(Uuid, Micro)],
) -> Result<(), WriteError> {
    let ids: Vec<_> = payouts.iter().map(|(id, _)| *id).collect();
    let amounts: Vec<_> = payouts.iter().map(|(_, amount)| amount.as_i64()).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&term(epoch), &jurisdiction.as_str(), &ids, &amounts];
    all_written(tx.execute(PAY, &params).await?, payouts.len())
}
