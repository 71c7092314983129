//! What a play has to know before it is prepared: one statement for a batch of plays.
//!
//! Each part is looked up by key (`LATERAL … LIMIT 1` keeps it so whatever the planner believes of the
//! tables' sizes).

use crate::answer::Failure;
use crate::lane::{BatchError, Executor};
use crate::ledger::limited::{SessionLimits, limit_columns};
use crate::ledger::requests::{RequestId, StoredAnswer};
use crate::limits;
use crate::order::Order;
use crate::player::Player;
use domicile_core::error::Code;
use domicile_core::ids::ChainId;
use domicile_postgres::{Pool, Row};
use uuid::Uuid;

const LOOK: &str = concat!(
    "SELECT r.body_hash, r.status, r.response, s.revoked, l.idx, p.note, c.id, c.ordinal, \
     c.params, c.length, c.commitment, c.seed_sealed, c.next_position, s.stake_limit_micro, s.loss_limit_micro, s.play_until, \
     s.lost_micro \
     FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::bigint[]) WITH ORDINALITY \
       AS i(jurisdiction, session, scope, key, size, n) \
     LEFT JOIN LATERAL (SELECT body_hash, status, response FROM ledger.request \
       WHERE scope = i.scope AND key = i.key LIMIT 1) r ON true \
     LEFT JOIN LATERAL (SELECT revoked_at IS NOT NULL AS revoked, ",
    limit_columns!(),
    " FROM ledger.session s \
       WHERE jurisdiction = i.jurisdiction AND id = i.session LIMIT 1) s ON true \
     LEFT JOIN LATERAL (SELECT * FROM ledger.chain WHERE jurisdiction = i.jurisdiction \
       AND session_id = i.session AND closed_at IS NULL ORDER BY ordinal LIMIT 1) c ON true \
     LEFT JOIN LATERAL (SELECT log_epoch, idx FROM log.subject WHERE jurisdiction = i.jurisdiction \
       AND subject = c.id AND kind = 'chain-commit' LIMIT 1) l ON true \
     LEFT JOIN LATERAL (SELECT note FROM log.checkpoint WHERE jurisdiction = i.jurisdiction \
       AND log_epoch = l.log_epoch AND size = i.size LIMIT 1) p ON true \
     ORDER BY i.n"
);

/// One play's keys.
#[derive(Debug)]
pub struct Look {
    jurisdiction: String,
    session: Uuid,
    scope: String,
    key: String,
    size: Option<i64>,
}

impl Look {
    /// The keys of this request.
    pub fn new(player: &Player, request: &RequestId, checkpoint_size: Option<u64>) -> Self {
        Self {
            jurisdiction: player.jurisdiction.to_string(),
            session: player.session.session.0,
            scope: request.scope.clone(),
            key: request.key.clone(),
            size: checkpoint_size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
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
    /// Where the chain's commitment stands in the log.
    pub commit_index: Option<u64>,
    /// The checkpoint the order names, as published.
    pub checkpoint: Option<String>,
    chain: Option<OpenChain>,
}

/// The session's chain in use.
#[derive(Debug)]
pub struct OpenChain {
    /// The chain.
    pub id: ChainId,
    /// Its number within the session.
    pub ordinal: i32,
    /// The game's parameters.
    pub params: String,
    /// How many plays it serves.
    pub length: u32,
    /// Its end.
    pub commitment: [u8; 32],
    /// Its start, sealed.
    pub seed_sealed: Vec<u8>,
    /// The position of the next play.
    pub next_position: u32,
}

impl Seen {
    /// The chain this order may use, or why it may not.
    pub fn usable_chain(&self, order: &Order, now_unix_s: u64) -> Result<&OpenChain, Failure> {
        if self.revoked.unwrap_or(true) {
            return Err(Failure::new(Code::SessionRevoked));
        }
        self.limits.check(order.stake, now_unix_s)?;
        let chain = self.chain.as_ref().ok_or(Failure::new(Code::ChainExhausted))?;
        if chain.commitment != order.commitment {
            return Err(Failure::new(Code::CommitmentMismatch));
        }
        Ok(chain)
    }

    fn from_row(row: &Row) -> Self {
        Self {
            stored: StoredAnswer::from_row(row, 0),
            revoked: row.get(3),
            limits: SessionLimits::from_row(row, 13),
            commit_index: row.get::<_, Option<i64>>(4).and_then(|idx| u64::try_from(idx).ok()),
            checkpoint: row.get(5),
            chain: open_chain(row),
        }
    }
}

fn open_chain(row: &Row) -> Option<OpenChain> {
    Some(OpenChain {
        id: ChainId(row.get::<_, Option<Uuid>>(6)?),
        ordinal: row.get(7),
        params: row.get(8),
        length: u32::try_from(row.get::<_, i32>(9)).ok()?,
        commitment: row.get::<_, Vec<u8>>(10).try_into().ok()?,
        seed_sealed: row.get(11),
        next_position: u32::try_from(row.get::<_, i32>(12)).ok()?,
    })
}

/// Looks for batches of plays.
#[derive(Debug)]
pub struct Looker {
    /// Connections.
    pub pool: Pool,
}

impl Executor for Looker {
    type Job = Look;
    type Done = Seen;
    const NAME: &'static str = "play-look";
    const WORKERS: usize = limits::LOOK_WORKERS;

    async fn run(&self, looks: &[Look]) -> Result<Vec<Seen>, BatchError> {
        let jurisdictions: Vec<_> = looks.iter().map(|look| look.jurisdiction.as_str()).collect();
        let sessions: Vec<_> = looks.iter().map(|look| look.session).collect();
        let scopes: Vec<_> = looks.iter().map(|look| look.scope.as_str()).collect();
        let keys: Vec<_> = looks.iter().map(|look| look.key.as_str()).collect();
        let sizes: Vec<_> = looks.iter().map(|look| look.size).collect();
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let session = self.pool.session().await.map_err(whole)?;
        let rows = session
            .query(LOOK, &[&jurisdictions, &sessions, &scopes, &keys, &sizes])
            .await
            .map_err(whole)?;
        Ok(rows.iter().map(Seen::from_row).collect())
    }
}
