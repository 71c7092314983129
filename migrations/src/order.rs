//! Which side of logical replication is migrated first.
//!
//! A subscriber without a published column stalls; a publisher cannot drop a column that is still published.

use crate::sequence::{LEDGER, READER};

/// The order in which one version is rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Additive: every reader, then the ledger, then its publications.
    SubscribersFirst,
    /// Removing: the ledger's publications and the ledger, then every reader.
    PublisherFirst,
}

/// The order for the next step of a cluster whose oldest schema has `version`; `None` when all is applied.
/// When the order changes between versions, a build that ends before the change has to be rolled out first.
pub fn next_order(version: Option<u32>) -> Option<Order> {
    let pending = |version: u32| move |migration: &&crate::Migration| migration.version > version;
    let version = version.unwrap_or(0);
    LEDGER
        .iter()
        .chain(READER)
        .filter(pending(version))
        .min_by_key(|migration| migration.version)
        .map(|migration| migration.order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_reach_subscribers_first() {
        assert_eq!(next_order(None), Some(Order::SubscribersFirst));
        assert_eq!(next_order(Some(3)), Some(Order::SubscribersFirst));
        assert_eq!(next_order(LEDGER.last().map(|last| last.version)), None);
    }
}
