//! Who may read what here: a valid token, of a jurisdiction that this node serves, of a session not revoked.
//!
//! The router is not trusted with any of this: the reader checks the token itself (DESIGN invariant 6).

use crate::problem;
use crate::shared_reads::{Revocations, SharedReads};
use crate::store::Store;
use domicile_core::claims::{Bearer, Validated};
use domicile_core::error::Code;
use domicile_core::ids::{Jurisdiction, SessionId};
use domicile_service::problem::Problem;
use domicile_service::token::TokenVerifier;
use http::HeaderMap;
use quick_cache::sync::Cache;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long "not revoked" may be remembered, in milliseconds: the delay with which a revocation bites.
const REVOCATION_MEMORY_MS: u64 = 1_000;
/// Sessions remembered, at most.
const SESSIONS_REMEMBERED: usize = 50_000;

/// Checks tokens for the jurisdictions of this node.
pub struct Access {
    verifier: TokenVerifier,
    served: BTreeMap<Jurisdiction, SharedReads<Revocations>>,
    seen: Cache<SessionId, Instant>,
}

impl Access {
    /// Serves exactly `served`.
    pub fn new(verifier: TokenVerifier, store: &Store, served: Vec<Jurisdiction>) -> Self {
        let revocations = |jurisdiction: Jurisdiction| {
            let store = store.clone();
            let read = Revocations { store, jurisdiction: jurisdiction.clone() };
            (jurisdiction, SharedReads::start(read))
        };
        let served = served.into_iter().map(revocations).collect();
        Self { verifier, served, seen: Cache::new(SESSIONS_REMEMBERED) }
    }

    /// The key set, to be replaced when the topology changes.
    pub fn verifier(&self) -> &TokenVerifier {
        &self.verifier
    }

    /// The claims of the request's token, if it may read here.
    pub async fn check(&self, headers: &HeaderMap) -> Result<Arc<Validated>, Problem> {
        let claims = self.verifier.verify_request(headers)?;
        let Some(revocations) = self.served.get(&claims.jurisdiction) else {
            metrics::counter!("domicile_foreign_tokens_total").increment(1);
            return Err(Code::JurisdictionForbidden.into());
        };
        if let Bearer::Player(player) = &claims.bearer {
            self.check_session(revocations, player.session).await?;
        }
        Ok(claims)
    }

    async fn check_session(
        &self,
        revocations: &SharedReads<Revocations>,
        session: SessionId,
    ) -> Result<(), Problem> {
        let memory = Duration::from_millis(REVOCATION_MEMORY_MS);
        if self.seen.get(&session).is_some_and(|checked| checked.elapsed() < memory) {
            return Ok(());
        }
        let revoked = revocations.get(session).await;
        if revoked.map_err(|cause| problem::unread(&cause))? {
            return Err(Code::SessionRevoked.into());
        }
        self.seen.insert(session, Instant::now());
        Ok(())
    }
}
