//! Revoking sessions, and with them their tokens: one, all of a player, all of an operator.
//!
//! Routers learn of a revocation from [`super::feed`], readers by replication, the writer's own plays and bets from the session's
//! row; the sweep closes the chains. Invariants: a session and its published revocation are one statement; a batch is
//! bounded, so a mass revocation is many short transactions, each with its own entry in the operations log.

use crate::answer::{Acknowledged, Failure, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::revocations::{self, Whose};
use crate::limits;
use crate::operations::{self, Entry, MadeBy};
use domicile_core::error::Code;
use domicile_core::ids::{Jurisdiction, OperatorId, PlayerRef, SessionId};
use domicile_core::operation;
use serde::Deserialize;
use serde_json::json;

/// Whose sessions: exactly one of `session` and `operator`; `player` goes with `operator`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeBody {
    session: Option<SessionId>,
    operator: Option<OperatorId>,
    player: Option<PlayerRef>,
    /// Why.
    pub reason: String,
}

impl RevokeBody {
    fn whose(&self) -> Result<Whose<'_>, Failure> {
        match (&self.session, &self.operator, &self.player) {
            (Some(session), None, None) => Ok(Whose::Session(*session)),
            (None, Some(operator), Some(player)) => Ok(Whose::Player(operator, player)),
            (None, Some(operator), None) => Ok(Whose::Operator(operator)),
            _ => {
                let detail = "name a session, an operator, or a player of an operator";
                Err(Failure::with(Code::MalformedBody, detail))
            }
        }
    }

    /// How the log names them: a player only by a digest.
    fn subject(&self) -> String {
        match (&self.session, &self.operator, &self.player) {
            (Some(session), _, _) => format!("session {session}"),
            (None, Some(operator), Some(player)) => {
                format!("{operator}/player {}", operation::digest(player.as_str().as_bytes()))
            }
            (None, operator, _) => operator.as_ref().map_or_else(String::new, ToString::to_string),
        }
    }
}

/// Revokes sessions.
pub async fn revoke(engine: &Engine, body: &RevokeBody, by: &MadeBy) -> Handled {
    let whose = body.whose()?;
    let codes = codes(engine);
    let (mut revoked, mut batches) = (0_u64, 0_u64);
    loop {
        let mut session = engine.hands.session().await?;
        let tx = session.begin().await?;
        let count = revocations::revoke(&tx, engine.epoch, whose, &codes).await?;
        revoked = revoked.saturating_add(count);
        batches += 1;
        if count > 0 || batches == 1 {
            let (subject, after) = (body.subject(), Some(json!({ "sessions": count })));
            let entry =
                Entry { by, action: "session.revoke", subject: &subject, before: None, after };
            operations::append(engine, &tx, entry).await?;
        }
        let durable = operations::commit(engine, tx).await?;
        let is_last = i64::try_from(count).is_ok_and(|count| count < limits::REVOKE_SESSIONS);
        if is_last || batches >= limits::REVOKE_BATCHES {
            let answer = json!({ "sessions_revoked": revoked, "complete": is_last });
            return Ok(Acknowledged::new(&durable, Reply::json(200, &answer)));
        }
    }
}

fn codes(engine: &Engine) -> Vec<Jurisdiction> {
    engine.log.jurisdictions().into_iter().filter(|code| !operation::is_log(code)).collect()
}
