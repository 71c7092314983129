//! Timed rounds as the players of one jurisdiction see them.
//!
//! Invariants: a round that is not open to a jurisdiction is not there; a round's state is that jurisdiction's, so where
//! its bets were voided alone it is voided. What is read here may be told only after a commit that waited for the second
//! region.

use crate::keys::{Keys, SeedOf};
use crate::ledger::floor::Table;
use crate::round_state::RoundState;
use domicile_core::ids::{Jurisdiction, RoundId, SessionId};
use domicile_postgres::{Error, Query, Row};

const SEEN: &str = "SELECT c.n, e.id, e.ordinal, e.game, r.params, e.currency, r.commitment, r.state, r.outcome, k.size, \
     e.betting_ms - (extract(epoch FROM clock_timestamp() - e.betting_at) * 1000)::bigint, e.seed_sealed \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY \
       c(operator_id, game, currency, jurisdiction, n) \
     CROSS JOIN LATERAL (SELECT * FROM ledger.round_engine WHERE operator_id = c.operator_id AND game = c.game \
       AND currency = c.currency AND ordinal IS NOT NULL ORDER BY ordinal DESC LIMIT $5) e \
     JOIN LATERAL (SELECT * FROM ledger.round WHERE jurisdiction = c.jurisdiction AND id = e.id LIMIT 1) r ON true \
     LEFT JOIN LATERAL (SELECT p.size FROM log.subject s JOIN log.checkpoint p ON p.jurisdiction = s.jurisdiction \
       AND p.log_epoch = s.log_epoch AND p.size > s.idx WHERE s.jurisdiction = c.jurisdiction AND s.subject = e.id \
       AND s.kind = 'round-commit' ORDER BY p.size LIMIT 1) k ON true \
     ORDER BY c.n, e.ordinal";

const REVOKED: &str = "SELECT s.id FROM unnest($1::text[], $2::uuid[]) i(jurisdiction, id) \
     JOIN ledger.session s ON s.jurisdiction = i.jurisdiction AND s.id = i.id WHERE s.revoked_at IS NOT NULL";

/// What one kind of player watches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// The table.
    pub table: Table,
    /// Where the player is.
    pub jurisdiction: Jurisdiction,
}

/// A round as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundSeen {
    /// The round.
    pub round: RoundId,
    /// Its number.
    pub ordinal: u64,
    /// Its game.
    pub game: String,
    /// The game's parameters.
    pub params: String,
    /// The currency of its bets.
    pub currency: String,
    /// The commitment to bet under.
    pub commitment: Vec<u8>,
    /// Where it stands.
    pub state: RoundState,
    /// Its outcome, once it has one.
    pub outcome: Option<String>,
    /// The smallest published checkpoint that covers the commitment.
    pub checkpoint_size: Option<u64>,
    /// Whether bets are or were taken.
    pub has_begun: bool,
    /// The seed, once it is told.
    pub seed_hex: Option<String>,
}

/// A round, and for how long it still takes bets: what changes all the time is kept apart.
pub type Timed = (RoundSeen, u64);

fn timed(row: &Row, keys: &Keys) -> Option<Timed> {
    let unsigned = |number: i64| u64::try_from(number).ok();
    let (round, state) = (RoundId(row.get(1)), RoundState::parse(row.get(7))?);
    let left_ms: Option<i64> = row.get(10);
    let sealed: &[u8] = row.get(11);
    let seed = state.is_terminal().then(|| keys.open_seed(SeedOf::Round(round), sealed).ok());
    let told = RoundSeen {
        round,
        ordinal: unsigned(row.get(2))?,
        game: row.get(3),
        params: row.get(4),
        currency: row.get(5),
        commitment: row.get(6),
        state,
        outcome: row.get(8),
        checkpoint_size: row.get::<_, Option<i64>>(9).and_then(unsigned),
        has_begun: left_ms.is_some(),
        seed_hex: seed.flatten().map(|seed| seed.reveal_hex()),
    };
    Some((told, left_ms.and_then(unsigned).unwrap_or(0)))
}

/// The newest rounds of each view, oldest first.
pub async fn seen(
    on: &impl Query,
    views: &[View],
    newest: i64,
    keys: &Keys,
) -> Result<Vec<Vec<Timed>>, Error> {
    let column = |of: fn(&View) -> &str| views.iter().map(of).collect::<Vec<_>>();
    let operators = column(|view| view.table.operator.as_str());
    let games = column(|view| view.table.game.as_str());
    let currencies = column(|view| view.table.currency.as_str());
    let jurisdictions = column(|view| view.jurisdiction.as_str());
    let rows = on.query(SEEN, &[&operators, &games, &currencies, &jurisdictions, &newest]).await?;
    let mut all = vec![Vec::new(); views.len()];
    for row in &rows {
        let place = usize::try_from(row.get::<_, i64>(0)).ok().and_then(|n| n.checked_sub(1));
        let rounds = place.and_then(|place| all.get_mut(place));
        if let (Some(rounds), Some(timed)) = (rounds, timed(row, keys)) {
            rounds.push(timed);
        }
    }
    Ok(all)
}

/// Those of these sessions that were revoked.
pub async fn revoked(
    on: &impl Query,
    sessions: &[(Jurisdiction, SessionId)],
) -> Result<Vec<SessionId>, Error> {
    let codes: Vec<_> = sessions.iter().map(|(code, _)| code.as_str()).collect();
    let ids: Vec<_> = sessions.iter().map(|(_, id)| id.0).collect();
    let rows = on.query(REVOKED, &[&codes, &ids]).await?;
    Ok(rows.iter().map(|row| SessionId(row.get(0))).collect())
}
