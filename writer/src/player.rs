//! The player a request speaks for, as its token states it.

use crate::answer::Failure;
use domicile_core::claims::{PlayerSession, Validated};
use domicile_core::ids::Jurisdiction;

/// A player in a session. Personal data: never logged.
#[derive(Debug, Clone)]
pub struct Player {
    /// The jurisdiction of everything the player does.
    pub jurisdiction: Jurisdiction,
    /// The session.
    pub session: PlayerSession,
}

impl Player {
    /// Takes the player from a verified token; an inspector's token is refused.
    pub fn from_token(token: &Validated) -> Result<Self, Failure> {
        let session = token.player()?.clone();
        Ok(Self { jurisdiction: token.jurisdiction.clone(), session })
    }

    /// The scope of this session's idempotency keys.
    pub fn request_scope(&self) -> String {
        format!("sess:{}", self.session.session)
    }
}
