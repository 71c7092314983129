//! What the handlers share: one [`Log`] per jurisdiction served here, access control, the bundle cache.

use crate::access::Access;
use crate::auditor::{Audit, VerifiedHead};
use crate::evidence::Evidence;
use crate::freshness::Freshness;
use crate::store::Store;
use bytes::Bytes;
use domicile_core::error::Code;
use domicile_core::ids::{Jurisdiction, NodeId, RoundId};
use domicile_service::problem::Problem;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Memory for finished bundles, in bytes.
const BUNDLE_CACHE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Bundles expected in the cache: sizes its tables.
const BUNDLE_CACHE_EXPECTED: usize = 16_384;

/// One jurisdiction's log as served here.
pub struct Log {
    /// Its rows and its key.
    pub evidence: Evidence,
    /// What the auditor has verified.
    pub audit: watch::Receiver<Audit>,
    /// How far behind the rows are.
    pub freshness: Freshness,
    /// The lag past which this node is not ready and gives out no rows, in milliseconds.
    pub lag_limit_ms: u64,
    /// Whether policy publishes the log's own paths.
    pub published: bool,
}

impl Log {
    /// Why rows this far behind are not given out.
    pub fn stale(&self, lag: Option<Duration>) -> Option<Problem> {
        stale(lag?, self.lag_limit_ms)
    }

    /// The verified head, or why nothing may be served.
    pub fn head(&self) -> Result<VerifiedHead, Problem> {
        verified(&self.audit.borrow())
    }

    /// Waits at most `wait` until the verified size reaches `size`.
    pub async fn head_at(&self, size: u64, wait: Duration) -> Result<VerifiedHead, Problem> {
        head_at(self.audit.clone(), size, wait).await
    }
}

fn stale(lag: Duration, limit_ms: u64) -> Option<Problem> {
    let detail = || format!("{} ms behind, permitted {limit_ms}", lag.as_millis());
    (lag > Duration::from_millis(limit_ms))
        .then(|| Problem::new(Code::StaleReplica).detail(detail()).retry_after_s(1))
}

async fn head_at(
    mut audit: watch::Receiver<Audit>,
    size: u64,
    wait: Duration,
) -> Result<VerifiedHead, Problem> {
    let reached = |audit: &Audit| match audit {
        Audit::Verified(head) => head.size >= size,
        Audit::Starting => false,
        Audit::Empty => size == 0,
        Audit::Broken(_) => true,
    };
    match tokio::time::timeout(wait, audit.wait_for(reached)).await {
        // Out of the guard at hand: a second look beside it waits for an auditor that waits for the first.
        Ok(Ok(audit)) => verified(&audit),
        Ok(Err(_)) | Err(_) => {
            Err(Problem::new(Code::PositionTimeout).retry_after_s(1).extra("wanted_size", size))
        }
    }
}

fn verified(audit: &Audit) -> Result<VerifiedHead, Problem> {
    match audit {
        Audit::Verified(head) => Ok(head.clone()),
        Audit::Starting | Audit::Empty => Err(Problem::new(Code::ProofNotReady)
            .detail("no checkpoint has been verified here yet")
            .retry_after_s(1)),
        Audit::Broken(_) => Err(Code::ReplicaUnverified.into()),
    }
}

/// A finished bundle as it is sent.
#[derive(Clone)]
pub struct CachedBundle {
    /// The body.
    pub body: Bytes,
    /// The strong entity tag, quotes included.
    pub etag: Arc<str>,
    /// The checkpoint size it is pinned to.
    pub size: u64,
}

#[derive(Clone)]
pub(crate) struct ByBytes;

impl Weighter<(Jurisdiction, RoundId), CachedBundle> for ByBytes {
    fn weight(&self, _key: &(Jurisdiction, RoundId), bundle: &CachedBundle) -> u64 {
        u64::try_from(bundle.body.len()).unwrap_or(u64::MAX).max(1)
    }
}

/// The cache of settled bundles, bounded in bytes.
pub(crate) type BundleCache = Cache<(Jurisdiction, RoundId), CachedBundle, ByBytes>;

/// Shared by all handlers.
pub struct Reader {
    /// This node, named in every answer.
    pub node: NodeId,
    /// The replica.
    pub store: Store,
    /// Token checks.
    pub access: Access,
    /// The logs served here.
    pub logs: BTreeMap<Jurisdiction, Log>,
    pub(crate) bundles: BundleCache,
}

impl Reader {
    /// Puts the parts together with an empty cache.
    pub fn new(
        node: NodeId,
        store: Store,
        access: Access,
        logs: BTreeMap<Jurisdiction, Log>,
    ) -> Self {
        let bundles = Cache::with_weighter(BUNDLE_CACHE_EXPECTED, BUNDLE_CACHE_MAX_BYTES, ByBytes);
        Self { node, store, access, logs, bundles }
    }

    /// The log of a jurisdiction served here.
    pub fn log(&self, jurisdiction: &Jurisdiction) -> Result<&Log, Problem> {
        self.logs.get(jurisdiction).ok_or_else(|| Code::JurisdictionForbidden.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_further_behind_than_permitted_are_refused() {
        assert!(stale(Duration::from_secs(5), 5_000).is_none());
        let refused = stale(Duration::from_millis(5_001), 5_000).expect("a refusal");
        assert_eq!(refused.code(), Code::StaleReplica);
    }

    #[test]
    fn looking_at_the_head_never_blocks_the_auditor() {
        let head = VerifiedHead { size: 7, root: [0; 32], note: "".into() };
        let (sender, audit) = watch::channel(Audit::Verified(head));
        let (done, ended) = std::sync::mpsc::channel();
        // On its own threads, so that a lock that is never given back fails the test and does not stop it.
        std::thread::spawn(move || {
            while !sender.is_closed() {
                sender.send_if_modified(|_audit| false);
            }
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(async {
                for _ in 0..LOOKS {
                    let head = head_at(audit.clone(), 7, Duration::from_secs(10)).await;
                    assert_eq!(head.unwrap().size, 7);
                }
            });
            done.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_mins(1)).expect("both go on");
    }

    const LOOKS: usize = 200_000;
}
