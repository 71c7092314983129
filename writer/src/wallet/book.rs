//! The wallets this writer knows, read from the ledger before anything is served and again all the time.
//!
//! Invariants: an operator whose wallet cannot be used is refused, never served as if it had none; a wallet that did not
//! change keeps its connections and its breaker.

use super::line::Line;
use super::seal_context;
use super::signing::WalletKey;
use crate::answer::Failure;
use crate::keys::Keys;
use crate::ledger::wallets::{self, SealedWallet};
use crate::limits;
use arc_swap::ArcSwap;
use domicile_core::error::Code;
use domicile_core::ids::OperatorId;
use domicile_postgres::Query;
use domicile_service::clock::Clock;
use domicile_service::tls::ClientTls;
use std::collections::HashMap;
use std::sync::Arc;

/// Why the wallets are not known.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Database(#[from] domicile_postgres::Error),
    /// There are more wallets than a writer keeps.
    #[error("more than {} wallets are configured", limits::WALLETS)]
    TooMany,
}

/// The wallets by operator; `None` for one that cannot be used.
type Lines = HashMap<OperatorId, Option<Arc<Line>>>;

/// Operators' wallets.
pub struct Book {
    lines: ArcSwap<Lines>,
    keys: Arc<Keys>,
    tls: Arc<ClientTls>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

impl Book {
    /// An empty book; `tls` trusts the authority of the wallets' certificates.
    pub fn new(keys: Arc<Keys>, tls: Arc<ClientTls>, clock: Arc<dyn Clock>) -> Self {
        Self { lines: ArcSwap::default(), keys, tls, clock }
    }

    /// What its wallets' certificates are checked by.
    pub const fn tls(&self) -> &Arc<ClientTls> {
        &self.tls
    }

    /// Reads the wallets.
    pub async fn refresh(&self, on: &impl Query) -> Result<(), BookError> {
        let most = i64::try_from(limits::WALLETS).unwrap_or(i64::MAX);
        let rows = wallets::all(on, most.saturating_add(1)).await?;
        if rows.len() > limits::WALLETS {
            return Err(BookError::TooMany);
        }
        let known = self.lines.load_full();
        let is_current = rows.len() == known.len() && rows.iter().all(|row| is_known(&known, row));
        if !is_current {
            let lines = rows.into_iter().filter_map(|row| self.line_of(&known, row)).collect();
            self.lines.store(Arc::new(lines));
        }
        Ok(())
    }

    fn line_of(
        &self,
        known: &Lines,
        row: (String, Option<SealedWallet>),
    ) -> Option<(OperatorId, Option<Arc<Line>>)> {
        let kept = is_known(known, &row);
        let operator = OperatorId::parse(&row.0).ok()?;
        if kept {
            return known.get(&operator).map(|line| (operator, line.clone()));
        }
        let line = row.1.and_then(|wallet| self.open(wallet));
        if line.is_none() {
            tracing::error!(%operator, "the operator's wallet cannot be used: its bets are refused");
        }
        Some((operator, line.map(Arc::new)))
    }

    fn open(&self, wallet: SealedWallet) -> Option<Line> {
        let key =
            self.keys.open(&seal_context(&wallet.settings.operator), &wallet.key_sealed).ok()?;
        let key = WalletKey::read(wallet.settings.signing, &key)?;
        Some(Line::new(wallet.settings, wallet.revision, key, &self.tls, Arc::clone(&self.clock)))
    }

    /// The wallet of an operator, if it has one.
    pub fn line(&self, operator: &OperatorId) -> Result<Option<Arc<Line>>, Failure> {
        match self.lines.load().get(operator) {
            None => Ok(None),
            Some(Some(line)) => Ok(Some(Arc::clone(line))),
            Some(None) => {
                Err(Failure::with(Code::WalletUnavailable, "the wallet's key is unusable"))
            }
        }
    }

    /// Every wallet that can be used.
    pub fn lines(&self) -> Vec<Arc<Line>> {
        self.lines.load().values().flatten().cloned().collect()
    }
}

fn is_known(known: &Lines, (operator, wallet): &(String, Option<SealedWallet>)) -> bool {
    let line = OperatorId::parse(operator).ok().and_then(|operator| known.get(&operator));
    match (line, wallet) {
        (Some(Some(line)), Some(wallet)) => line.revision == wallet.revision,
        _ => false,
    }
}
