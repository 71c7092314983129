//! What a bet has to know before it is prepared: one statement for a batch of bets.

use crate::answer::Failure;
use crate::lane::{BatchError, Executor};
use crate::ledger::limited::{SessionLimits, limit_columns};
use crate::ledger::requests::{RequestId, StoredAnswer};
use crate::limits;
use crate::order::Order;
use crate::player::Player;
use crate::round_state::RoundState;
use domicile_core::error::Code;
use domicile_core::ids::RoundId;
use domicile_postgres::{Pool, Row};
use uuid::Uuid;

const LOOK: &str = concat!(
    "SELECT r.body_hash, r.status, r.response, s.revoked, l.idx, p.note, \
     g.operator_id, g.game, g.params, g.currency, g.commitment, g.state, s.stake_limit_micro, \
     s.loss_limit_micro, s.play_until, s.lost_micro \
     FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::uuid[]) WITH ORDINALITY \
       AS i(jurisdiction, session, scope, key, size, round, n) \
     LEFT JOIN LATERAL (SELECT body_hash, status, response FROM ledger.request \
       WHERE scope = i.scope AND key = i.key LIMIT 1) r ON true \
     LEFT JOIN LATERAL (SELECT revoked_at IS NOT NULL AS revoked, ",
    limit_columns!(),
    " FROM ledger.session s \
       WHERE jurisdiction = i.jurisdiction AND id = i.session LIMIT 1) s ON true \
     LEFT JOIN LATERAL (SELECT * FROM ledger.round WHERE jurisdiction = i.jurisdiction \
       AND id = i.round AND kind = 'round' LIMIT 1) g ON true \
     LEFT JOIN LATERAL (SELECT log_epoch, idx FROM log.subject WHERE jurisdiction = i.jurisdiction \
       AND subject = g.id AND kind = 'round-commit' LIMIT 1) l ON true \
     LEFT JOIN LATERAL (SELECT note FROM log.checkpoint WHERE jurisdiction = i.jurisdiction \
       AND log_epoch = l.log_epoch AND size = i.size LIMIT 1) p ON true \
     ORDER BY i.n"
);

/// One bet's keys.
#[derive(Debug)]
pub struct Look {
    jurisdiction: String,
    session: Uuid,
    scope: String,
    key: String,
    size: Option<i64>,
    round: Uuid,
}

impl Look {
    /// The keys of this request.
    pub fn new(
        player: &Player,
        request: &RequestId,
        round: RoundId,
        checkpoint_size: Option<u64>,
    ) -> Self {
        Self {
            jurisdiction: player.jurisdiction.to_string(),
            session: player.session.session.0,
            scope: request.scope.clone(),
            key: request.key.clone(),
            size: checkpoint_size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
            round: round.0,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Seen {
    /// The answer of an earlier request of the same key.
    pub stored: Option<StoredAnswer>,
    /// Whether the session was revoked; `None` where there is no such session.
    revoked: Option<bool>,
    /// The session's limits.
    pub limits: SessionLimits,
    /// Where the round's commitment stands in this jurisdiction's log.
    pub commit_index: Option<u64>,
    /// The checkpoint the order names, as published.
    pub checkpoint: Option<String>,
    round: Option<RoundSeen>,
}

#[derive(Debug)]
struct RoundSeen {
    operator: String,
    game: String,
    params: String,
    currency: String,
    commitment: Vec<u8>,
    state: String,
}

impl Seen {
    /// Refuses a bet that the session or the round does not permit. The lock decides again.
    pub fn check(&self, player: &Player, order: &Order, now_unix_s: u64) -> Result<(), Failure> {
        if self.revoked.unwrap_or(true) {
            return Err(Failure::new(Code::SessionRevoked));
        }
        self.limits.check(order.stake, now_unix_s)?;
        let mine = |round: &&RoundSeen| round.operator == player.session.operator.as_str();
        let round = self.round.as_ref().filter(mine).ok_or(Failure::new(Code::RoundNotFound))?;
        if round.state != RoundState::Open.as_str() {
            return Err(Failure::new(Code::RoundState));
        }
        if round.game != player.session.game.as_str() {
            return Err(Failure::with(Code::BetInvalid, "the session is for another game"));
        }
        if round.currency != player.session.currency.as_str() {
            return Err(Failure::with(Code::BetInvalid, "the round is in another currency"));
        }
        if round.commitment != order.commitment {
            return Err(Failure::new(Code::CommitmentMismatch));
        }
        Ok(())
    }

    /// The round's parameters.
    pub fn params(&self) -> &str {
        self.round.as_ref().map_or("", |round| &round.params)
    }

    fn from_row(row: &Row) -> Self {
        Self {
            stored: StoredAnswer::from_row(row, 0),
            revoked: row.get(3),
            limits: SessionLimits::from_row(row, 12),
            commit_index: row.get::<_, Option<i64>>(4).and_then(|idx| u64::try_from(idx).ok()),
            checkpoint: row.get(5),
            round: row.get::<_, Option<String>>(6).map(|operator| RoundSeen {
                operator,
                game: row.get(7),
                params: row.get(8),
                currency: row.get(9),
                commitment: row.get(10),
                state: row.get(11),
            }),
        }
    }
}

/// Looks for batches of bets.
#[derive(Debug)]
pub struct Looker {
    /// Connections.
    pub pool: Pool,
}

impl Executor for Looker {
    type Job = Look;
    type Done = Seen;
    const NAME: &'static str = "bet-look";
    const WORKERS: usize = limits::LOOK_WORKERS;

    async fn run(&self, looks: &[Look]) -> Result<Vec<Seen>, BatchError> {
        let jurisdictions: Vec<_> = looks.iter().map(|look| look.jurisdiction.as_str()).collect();
        let sessions: Vec<_> = looks.iter().map(|look| look.session).collect();
        let scopes: Vec<_> = looks.iter().map(|look| look.scope.as_str()).collect();
        let keys: Vec<_> = looks.iter().map(|look| look.key.as_str()).collect();
        let sizes: Vec<_> = looks.iter().map(|look| look.size).collect();
        let rounds: Vec<_> = looks.iter().map(|look| look.round).collect();
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let session = self.pool.session().await.map_err(whole)?;
        let rows = session
            .query(LOOK, &[&jurisdictions, &sessions, &scopes, &keys, &sizes, &rounds])
            .await
            .map_err(whole)?;
        Ok(rows.iter().map(Seen::from_row).collect())
    }
}
