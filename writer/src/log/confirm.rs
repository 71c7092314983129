//! When a durable tree may be signed.
//!
//! With two copies a durable commit is enough. With one, a region that dies would take signed leaves with it: the
//! signature waits until a reader in another region has them on disk, which its replication slot tells. Invariants:
//! nothing is signed without a [`SafeToSign`]; waiting holds no database session; it ends when a reader has confirmed,
//! when the record says `two` – the standby had everything before it did – or when the writer stops.

use super::sequencer::{SequenceError, Sequencer};
use super::store;
use domicile_postgres::Durable;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Pause between two looks at the readers' slots, milliseconds.
const CONFIRM_POLL_MS: u64 = 20;
/// How long it is waited before that is told, milliseconds.
const PATIENCE_MS: u64 = 2_000;

/// Proof that a tree survives the loss of the writer's region.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SafeToSign(());

impl Sequencer {
    /// Waits until what `_durable` made durable may be signed; `None` when the writer stops first.
    pub(super) async fn safe_to_sign(
        &self,
        _durable: Durable,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<Option<SafeToSign>, SequenceError> {
        let standing = &self.terms.tenure.standing;
        if !standing.one_copy() {
            return Ok(Some(SafeToSign(())));
        }
        let position = store::position(&self.pool.session().await?).await?;
        let begun = Instant::now();
        let mut told = false;
        while standing.one_copy() && !self.confirmed(&position).await? {
            if *stopped.borrow() {
                self.show_unconfirmed(false);
                return Ok(None);
            }
            self.show_unconfirmed(true);
            if !told && begun.elapsed() >= Duration::from_millis(PATIENCE_MS) {
                told = true;
                let (jurisdiction, readers) = (&self.log.jurisdiction, &self.place.confirmers);
                tracing::warn!(%jurisdiction, ?readers, "the checkpoint waits for a reader in another region");
            }
            let pause = Duration::from_millis(CONFIRM_POLL_MS);
            let _stopping = tokio::time::timeout(pause, stopped.changed()).await;
        }
        self.show_unconfirmed(false);
        Ok(Some(SafeToSign(())))
    }

    async fn confirmed(&self, position: &str) -> Result<bool, SequenceError> {
        if self.place.confirmers.is_empty() {
            return Ok(false);
        }
        let session = self.pool.session().await?;
        Ok(store::confirmed(&session, &self.place.confirmers, position).await?)
    }

    fn show_unconfirmed(&self, unconfirmed: bool) {
        self.lane.unconfirmed.store(unconfirmed, Ordering::Release);
        let jurisdiction = self.log.jurisdiction.to_string();
        metrics::gauge!("domicile_log_unconfirmed", "jurisdiction" => jurisdiction)
            .set(if unconfirmed { 1.0 } else { 0.0 });
    }
}
