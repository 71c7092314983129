//! Revoking a session: published at once, its chains closed and their unused seeds revealed. And whether it was revoked, for
//! what asks no chain.

use crate::answer::{Failure, Reply};
use crate::chain::{self, CloseError};
use crate::change::{Applied, Change, Halt};
use crate::engine::Engine;
use crate::ledger::operators::Operator;
use crate::ledger::{rounds_seen, sessions};
use crate::player::Player;
use domicile_core::error::Code;
use domicile_core::ids::SessionId;
use domicile_core::leaf::CloseReason;
use domicile_postgres::Tx;
use serde_json::json;
use std::sync::Arc;

/// Whether the player's session was revoked.
pub async fn is_revoked(engine: &Engine, player: &Player) -> Result<bool, Failure> {
    let session = (player.jurisdiction.clone(), player.session.session);
    let ledger = engine.hands.session().await?;
    let revoked = rounds_seen::revoked(&*ledger, std::slice::from_ref(&session)).await?;
    Ok(!revoked.is_empty())
}

/// An operator revokes a session.
#[derive(Debug)]
pub struct RevokeSession {
    /// Who asks.
    pub operator: Arc<Operator>,
    /// Which session.
    pub session: SessionId,
}

impl Change for RevokeSession {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let (epoch, session) = (engine.epoch, self.session);
        let found =
            sessions::lock(tx, &self.operator.id, &self.operator.jurisdictions, session).await?;
        let missing = Failure::with(Code::NotFound, "the operator has no such session");
        let (jurisdiction, revoked) = found.ok_or(Halt::Refused(missing))?;
        let mut leaves_for = Vec::new();
        if !revoked {
            sessions::revoke(tx, epoch, &jurisdiction, session).await?;
            let secrets = (&*engine.keys, &engine.ids);
            let closed = chain::close_of_session(
                tx,
                epoch,
                (&jurisdiction, session),
                CloseReason::Revoked,
                secrets,
            );
            if closed.await? > 0 {
                leaves_for.push(jurisdiction.clone());
            }
        }
        let reply = Reply::json(
            200,
            &json!({ "session": session, "jurisdiction": jurisdiction, "revoked": true }),
        )?;
        Ok(Applied { leaves_for, ..Applied::quiet(reply) })
    }
}

impl From<CloseError> for Halt {
    fn from(error: CloseError) -> Self {
        match error {
            CloseError::Write(error) => error.into(),
            CloseError::Seed(failure) => Self::Failed(failure),
        }
    }
}
