//! What a player sees of a session: the chain to bet on and the checkpoint that covers it.

use crate::answer::{Failure, Handled, Reply};
use crate::engine::Engine;
use crate::lane::{BatchError, Executor, JobError};
use crate::ledger::limited::{SessionLimits, limit_columns};
use crate::limits;
use crate::player::Player;
use crate::session::limits::LimitsView;
use domicile_core::error::Code;
use domicile_core::hex;
use domicile_core::ids::{ChainId, Jurisdiction, SessionId};
use domicile_postgres::{Pool, Row};
use serde::Serialize;

const VIEW: &str = concat!(
    "SELECT s.revoked, c.id, c.params, c.length, c.commitment, c.next_position, s.stake_limit_micro, \
     s.loss_limit_micro, s.play_until, s.lost_micro \
     FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS i(jurisdiction, session, n) \
     LEFT JOIN LATERAL (SELECT revoked_at IS NOT NULL AS revoked, ",
    limit_columns!(),
    " FROM ledger.session s \
       WHERE jurisdiction = i.jurisdiction AND id = i.session LIMIT 1) s ON true \
     LEFT JOIN LATERAL (SELECT * FROM ledger.chain WHERE jurisdiction = i.jurisdiction \
       AND session_id = i.session AND closed_at IS NULL ORDER BY ordinal LIMIT 1) c ON true \
     ORDER BY i.n"
);

#[derive(Serialize)]
struct SessionView<'a> {
    session: SessionId,
    jurisdiction: &'a str,
    game: &'a str,
    currency: &'a str,
    params: String,
    chain: ChainId,
    commitment: String,
    commit_index: u64,
    checkpoint_size: u64,
    checkpoint: &'a str,
    next_position: u32,
    remaining: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<LimitsView>,
}

/// The session's chain in use.
#[derive(Debug)]
pub struct OpenChain {
    id: ChainId,
    params: String,
    length: u32,
    commitment: Vec<u8>,
    next_position: u32,
    limits: SessionLimits,
}

/// The session's present state, once its chain's commitment is covered by a published checkpoint.
pub async fn view(engine: &Engine, player: &Player) -> Handled {
    let id = player.session.session;
    let look = (player.jurisdiction.clone(), id);
    let chain = match engine.views.submit(look).await.map_err(JobError::unraced)? {
        Ok(chain) => chain,
        Err(refusal) => return engine.acknowledge(Err(refusal)).await,
    };
    let covered = engine.covering(&player.jurisdiction, chain.id.0).await?;
    let view = SessionView {
        session: id,
        jurisdiction: player.jurisdiction.as_str(),
        game: player.session.game.as_str(),
        currency: player.session.currency.as_str(),
        params: chain.params,
        chain: chain.id,
        commitment: hex::encode(&chain.commitment),
        commit_index: covered.index,
        checkpoint_size: covered.size,
        checkpoint: &covered.note,
        next_position: chain.next_position,
        remaining: chain.length.saturating_sub(chain.next_position),
        limits: chain.limits.view(),
    };
    engine.acknowledge(Reply::json(200, &view)).await
}

/// Looks at sessions for their players.
#[derive(Debug)]
pub struct Viewer {
    /// Connections.
    pub pool: Pool,
}

impl Executor for Viewer {
    type Job = (Jurisdiction, SessionId);
    type Done = Result<OpenChain, Failure>;
    const NAME: &'static str = "session-look";
    const WORKERS: usize = limits::LOOK_WORKERS;

    async fn run(&self, looks: &[Self::Job]) -> Result<Vec<Self::Done>, BatchError> {
        let codes: Vec<_> = looks.iter().map(|(jurisdiction, _)| jurisdiction.as_str()).collect();
        let sessions: Vec<_> = looks.iter().map(|(_, session)| session.0).collect();
        let whole = |error: domicile_postgres::Error| BatchError::Whole(error.into());
        let session = self.pool.session().await.map_err(whole)?;
        let rows = session.query(VIEW, &[&codes, &sessions]).await.map_err(whole)?;
        Ok(rows.iter().map(open_chain).collect())
    }
}

fn open_chain(row: &Row) -> Result<OpenChain, Failure> {
    if row.get::<_, Option<bool>>(0).unwrap_or(true) {
        return Err(Failure::new(Code::SessionRevoked));
    }
    chain_of(row).ok_or(Failure::new(Code::ChainExhausted))
}

fn chain_of(row: &Row) -> Option<OpenChain> {
    Some(OpenChain {
        id: ChainId(row.get::<_, Option<uuid::Uuid>>(1)?),
        params: row.get(2),
        length: u32::try_from(row.get::<_, i32>(3)).ok()?,
        commitment: row.get(4),
        next_position: u32::try_from(row.get::<_, i32>(5)).ok()?,
        limits: SessionLimits::from_row(row, 6),
    })
}
