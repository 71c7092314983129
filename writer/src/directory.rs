//! Operators, their credentials and the terms of their games, remembered for a moment.
//!
//! Invariants: at most a fixed number of entries; none is believed longer than
//! [`limits::DIRECTORY_MAX_AGE`], so a revocation, and a change of terms, takes hold within it in
//! every writer process. Secrets are zeroed when forgotten.

use crate::answer::Failure;
use crate::hands::Hands;
use crate::keys::Keys;
use crate::ledger::operators::{self, Operator};
use crate::limits;
use crate::terms::GameTerms;
use domicile_core::error::Code;
use domicile_core::ids::{GameCode, OperatorId};
use domicile_service::clock::Clock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
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
    hands: Hands,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    operators: Recent<OperatorId, Arc<Operator>>,
    credentials: Recent<String, Arc<Credential>>,
    origins: Recent<String, bool>,
    games: Recent<(OperatorId, GameCode), Arc<GameTerms>>,
}

impl Directory {
    /// An empty directory over this ledger.
    pub fn new(hands: Hands, keys: Arc<Keys>, clock: Arc<dyn Clock>) -> Self {
        Self {
            hands,
            keys,
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
        let credential = match self.credentials.get(&key, self.clock.monotonic()) {
            Some(credential) => credential,
            None => self.read_credential(key).await?,
        };
        let valid = credential.is_valid(self.clock.now_unix_s());
        if valid { Ok(credential) } else { Err(Failure::new(Code::OperatorKeyUnknown)) }
    }

    async fn read_credential(&self, key_id: String) -> Result<Arc<Credential>, Failure> {
        let session = self.hands.session().await?;
        let sealed = operators::read_credential(&session, &key_id).await?;
        drop(session);
        let sealed = sealed.ok_or(Failure::new(Code::OperatorKeyUnknown))?;
        let credential = Arc::new(Credential {
            secret: self.keys.open(&seal_context(&key_id), &sealed.secret_sealed)?,
            operator: sealed.operator,
            revoked: sealed.revoked,
            not_before_unix_s: sealed.not_before_unix_s,
            not_after_unix_s: sealed.not_after_unix_s,
        });
        self.credentials.put(key_id, Arc::clone(&credential), self.clock.monotonic());
        Ok(credential)
    }

    /// An operator that may act.
    pub async fn operator(&self, id: &OperatorId) -> Result<Arc<Operator>, Failure> {
        let known = self.operators.get(id, self.clock.monotonic());
        let operator = if let Some(operator) = known {
            operator
        } else {
            let session = self.hands.session().await?;
            let read = operators::read(&*session, id).await?;
            let read = Arc::new(read.ok_or(Failure::new(Code::OperatorForbidden))?);
            self.operators.put(id.clone(), Arc::clone(&read), self.clock.monotonic());
            read
        };
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
        if let Some(known) = self.games.get(&key, self.clock.monotonic()) {
            return Ok(known);
        }
        let session = self.hands.session().await?;
        let terms = Arc::new(GameTerms::read(&*session, operator, code).await?);
        drop(session);
        self.games.put(key, Arc::clone(&terms), self.clock.monotonic());
        Ok(terms)
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
        if let Some(known) = self.origins.get(&key, self.clock.monotonic()) {
            return Ok(known);
        }
        let session = self.hands.session().await?;
        let known = operators::origin_known(&session, origin).await?;
        self.origins.put(key, known, self.clock.monotonic());
        Ok(known)
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

/// A few values, each for a short time.
struct Recent<K, V> {
    entries: Mutex<HashMap<K, (Duration, V)>>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    fn get(&self, key: &K, now: Duration) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (read_at, value) = entries.get(key)?;
        is_fresh(*read_at, now).then(|| value.clone())
    }

    fn forget(&self, key: &K) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn put(&self, key: K, value: V, now: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= limits::DIRECTORY_ENTRIES {
            entries.retain(|_, (read_at, _)| is_fresh(*read_at, now));
        }
        if entries.len() < limits::DIRECTORY_ENTRIES {
            entries.insert(key, (now, value));
        }
    }
}

fn is_fresh(read_at: Duration, now: Duration) -> bool {
    now.saturating_sub(read_at) < limits::DIRECTORY_MAX_AGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_few_and_short_lived() {
        let recent = Recent::default();
        let start = Duration::from_secs(100);
        for key in 0..limits::DIRECTORY_ENTRIES + 10 {
            recent.put(key, key, start);
        }
        assert_eq!(recent.entries.lock().unwrap().len(), limits::DIRECTORY_ENTRIES);
        assert_eq!(recent.get(&1, start), Some(1));
        let later = start + limits::DIRECTORY_MAX_AGE;
        assert_eq!(recent.get(&1, later), None, "an old entry is read again");
        recent.put(usize::MAX, 7, later);
        assert_eq!(recent.entries.lock().unwrap().len(), 1, "old entries make room");
    }

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
