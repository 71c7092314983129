//! Operators, their credentials and the terms of their games, remembered for a moment.
//!
//! Invariants: what is believed is as `recent.rs` has it, so a revocation, and a change of terms, takes hold within
//! [`crate::limits::DIRECTORY_MAX_AGE`] in every writer process. Secrets are zeroed when forgotten.

use crate::answer::Failure;
use crate::hands::Hands;
use crate::keys::Keys;
use crate::ledger::operators::{self, Operator};
use crate::recent::Recent;
use crate::terms::GameTerms;
use domicile_core::error::Code;
use domicile_core::ids::{GameCode, OperatorId};
use domicile_service::clock::Clock;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A credential with its secret.
pub struct Credential {
    /// Whose it is.
    pub operator: OperatorId,
    /// The shared secret.
    pub secret: Zeroizing<Vec<u8>>,
    revoked: bool,
    not_before_unix_s: u64,
    not_after_unix_s: Option<u64>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("operator", &self.operator).finish_non_exhaustive()
    }
}

impl Credential {
    fn is_valid(&self, now_unix_s: u64) -> bool {
        !self.revoked
            && self.not_before_unix_s <= now_unix_s
            && self.not_after_unix_s.is_none_or(|end| now_unix_s < end)
    }
}

/// The context a credential's secret is sealed for.
pub fn seal_context(key_id: &str) -> String {
    format!("credential:{key_id}")
}

/// What the ledger knows of operators.
pub struct Directory {
    source: Arc<Source>,
    clock: Arc<dyn Clock>,
    operators: Recent<OperatorId, Arc<Operator>>,
    credentials: Recent<String, Arc<Credential>>,
    origins: Recent<String, bool>,
    games: Recent<(OperatorId, GameCode), Arc<GameTerms>>,
}

/// Where it is read.
struct Source {
    hands: Hands,
    keys: Arc<Keys>,
}

impl Source {
    async fn credential(&self, key_id: &str) -> Result<Credential, Failure> {
        let session = self.hands.session().await?;
        let sealed = operators::read_credential(&session, key_id).await?;
        drop(session);
        let sealed = sealed.ok_or(Failure::new(Code::OperatorKeyUnknown))?;
        Ok(Credential {
            secret: self.keys.open(&seal_context(key_id), &sealed.secret_sealed)?,
            operator: sealed.operator,
            revoked: sealed.revoked,
            not_before_unix_s: sealed.not_before_unix_s,
            not_after_unix_s: sealed.not_after_unix_s,
        })
    }

    async fn operator(&self, id: &OperatorId) -> Result<Operator, Failure> {
        let session = self.hands.session().await?;
        let read = operators::read(&*session, id).await?;
        read.ok_or(Failure::new(Code::OperatorForbidden))
    }
}

impl Directory {
    /// An empty directory over this ledger.
    pub fn new(hands: Hands, keys: Arc<Keys>, clock: Arc<dyn Clock>) -> Self {
        Self {
            source: Arc::new(Source { hands, keys }),
            clock,
            operators: Recent::default(),
            credentials: Recent::default(),
            origins: Recent::default(),
            games: Recent::default(),
        }
    }

    /// A credential that is valid now.
    pub async fn credential(&self, key_id: &str) -> Result<Arc<Credential>, Failure> {
        let key = key_id.to_owned();
        let read = || {
            let (source, key) = (Arc::clone(&self.source), key.clone());
            async move { source.credential(&key).await.map(Arc::new) }
        };
        let credential = self.credentials.get(&key, self.clock.monotonic(), read).await?;
        let valid = credential.is_valid(self.clock.now_unix_s());
        if valid { Ok(credential) } else { Err(Failure::new(Code::OperatorKeyUnknown)) }
    }

    /// An operator that may act.
    pub async fn operator(&self, id: &OperatorId) -> Result<Arc<Operator>, Failure> {
        let read = || {
            let (source, id) = (Arc::clone(&self.source), id.clone());
            async move { source.operator(&id).await.map(Arc::new) }
        };
        let operator = self.operators.get(id, self.clock.monotonic(), read).await?;
        if operator.enabled {
            Ok(operator)
        } else {
            Err(Failure::with(Code::OperatorForbidden, "the operator is disabled"))
        }
    }

    /// On what terms an operator offers a game at present.
    pub async fn game(
        &self,
        operator: &OperatorId,
        code: &GameCode,
    ) -> Result<Arc<GameTerms>, Failure> {
        let key = (operator.clone(), code.clone());
        let read = || {
            let (source, (operator, code)) = (Arc::clone(&self.source), key.clone());
            async move {
                let session = source.hands.session().await?;
                Ok(Arc::new(GameTerms::read(&*session, &operator, &code).await?))
            }
        };
        self.games.get(&key, self.clock.monotonic(), read).await
    }

    /// Forgets an operator that this process changed.
    pub fn forget_operator(&self, id: &OperatorId) {
        self.operators.forget(id);
    }

    /// Forgets a credential that this process changed.
    pub fn forget_credential(&self, key_id: &str) {
        self.credentials.forget(&key_id.to_owned());
    }

    /// Forgets terms that this process changed.
    pub fn forget_game(&self, operator: &OperatorId, code: &GameCode) {
        self.games.forget(&(operator.clone(), code.clone()));
    }

    /// Whether players of any operator come from this browser origin.
    pub async fn origin_known(&self, origin: &str) -> Result<bool, Failure> {
        let key = origin.to_owned();
        let read = || {
            let (source, origin) = (Arc::clone(&self.source), key.clone());
            async move {
                let session = source.hands.session().await?;
                Ok(operators::origin_known(&session, &origin).await?)
            }
        };
        self.origins.get(&key, self.clock.monotonic(), read).await
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_has_a_time_and_an_end() {
        let credential = |revoked, not_after_unix_s| Credential {
            operator: OperatorId::parse("acme").unwrap(),
            secret: Zeroizing::new(vec![1]),
            revoked,
            not_before_unix_s: 100,
            not_after_unix_s,
        };
        assert!(!credential(false, None).is_valid(99));
        assert!(credential(false, None).is_valid(100));
        assert!(credential(false, Some(200)).is_valid(199));
        assert!(!credential(false, Some(200)).is_valid(200));
        assert!(!credential(true, None).is_valid(100));
    }
}
