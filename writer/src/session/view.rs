//! What a player sees of a session: the chain to bet on and the checkpoint that covers it.

use crate::answer::{Failure, Handled, Reply};
use crate::engine::Engine;
use crate::player::Player;
use domicile_core::error::Code;
use domicile_core::hex;
use domicile_core::ids::{ChainId, SessionId};
use domicile_postgres::Row;
use serde::Serialize;

const VIEW: &str = "SELECT s.revoked_at IS NOT NULL, c.id, c.params, c.length, c.commitment, c.next_position \
     FROM ledger.session s LEFT JOIN LATERAL (SELECT * FROM ledger.chain WHERE jurisdiction = s.jurisdiction \
       AND session_id = s.id AND closed_at IS NULL ORDER BY ordinal LIMIT 1) c ON true \
     WHERE s.jurisdiction = $1 AND s.id = $2";

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
}

struct OpenChain {
    id: ChainId,
    params: String,
    length: u32,
    commitment: Vec<u8>,
    next_position: u32,
}

/// The session's present state, once its chain's commitment is covered by a published checkpoint.
pub async fn view(engine: &Engine, player: &Player) -> Handled {
    let id = player.session.session;
    let chain = match open_chain(engine, player).await? {
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
    };
    engine.acknowledge(Reply::json(200, &view)).await
}

async fn open_chain(
    engine: &Engine,
    player: &Player,
) -> Result<Result<OpenChain, Failure>, Failure> {
    let session = engine.pool.session().await?;
    let id = player.session.session.0;
    let row = session.query_opt(VIEW, &[&player.jurisdiction.as_str(), &id]).await?;
    Ok(match row {
        Some(row) if !row.get::<_, bool>(0) => {
            chain_of(&row).ok_or(Failure::new(Code::ChainExhausted))
        }
        _ => Err(Failure::new(Code::SessionRevoked)),
    })
}

fn chain_of(row: &Row) -> Option<OpenChain> {
    Some(OpenChain {
        id: ChainId(row.get::<_, Option<uuid::Uuid>>(1)?),
        params: row.get(2),
        length: u32::try_from(row.get::<_, i32>(3)).ok()?,
        commitment: row.get(4),
        next_position: u32::try_from(row.get::<_, i32>(5)).ok()?,
    })
}
