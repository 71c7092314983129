//! Operators' seamless wallets, as far as no wallet is needed to decide: what is asked, what an answer means,
//! when to ask again, when to stop asking.
//!
//! A stake leaves the player's wallet by a *bet*, comes back by a *rollback* that names the bet, and is paid by a *win*
//! that names it. Invariants: a transaction's id follows from the request it stands for, so that a repetition –
//! by another process, in another epoch, after a crash – is the same transaction to the wallet; each bet ends in
//! at most one of win and rollback, and which of them never changes.
//! Deliberately absent: connections, clocks, randomness, storage – the writer has them.

pub mod answer;
pub mod breaker;
pub mod exchange;
pub mod job;
pub mod reconcile;

use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid, Variant, Version};

/// What a wallet is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Take a stake.
    Bet,
    /// Pay what a bet has won.
    Win,
    /// Give a bet's stake back, or see to it that it is never taken.
    Rollback,
}

impl Call {
    /// All calls.
    pub const ALL: [Self; 3] = [Self::Bet, Self::Win, Self::Rollback];

    /// The name in the ledger and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bet => "bet",
            Self::Win => "win",
            Self::Rollback => "rollback",
        }
    }

    /// Where it is sent, below the wallet's address.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Bet => "/transaction/bet",
            Self::Win => "/transaction/win",
            Self::Rollback => "/transaction/rollback",
        }
    }

    /// Reads the ledger's text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.as_str() == text)
    }
}

/// The transaction id of the bet that a request of this scope and key stands for.
pub fn bet_id(scope: &str, key: &str) -> Uuid {
    derived("domicile/wallet/bet/v1\n", &[scope.as_bytes(), b"\n", key.as_bytes()])
}

/// The transaction id of what a bet won.
pub fn win_id(bet: Uuid) -> Uuid {
    derived("domicile/wallet/win/v1\n", &[bet.as_bytes()])
}

/// The transaction id of a bet's rollback.
pub fn rollback_id(bet: Uuid) -> Uuid {
    derived("domicile/wallet/rollback/v1\n", &[bet.as_bytes()])
}

/// A version 8 id over a domain and what it names.
fn derived(domain: &str, parts: &[&[u8]]) -> Uuid {
    let hash = parts.iter().fold(Sha256::new_with_prefix(domain), Sha256::chain_update);
    let hash: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash) {
        *to = from;
    }
    Builder::from_bytes(bytes)
        .with_variant(Variant::RFC4122)
        .with_version(Version::Custom)
        .into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_follow_from_the_request_and_nothing_else() {
        let bet = bet_id("sess:1", "k");
        assert_eq!(bet, bet_id("sess:1", "k"));
        // A change of these would make repetitions across a release other transactions: fixed for ever.
        assert_eq!(bet.to_string(), "3498296f-0785-88fc-af82-34b29827a86b");
        assert_eq!(win_id(bet).to_string(), "b8b02670-514a-8f56-925e-b8a0a44d4b9b");
        assert_eq!(rollback_id(bet).to_string(), "ddd922f0-3bdb-897e-8769-a835acb27713");
        let ids: BTreeSet<_> =
            [bet, bet_id("sess:1", "l"), bet_id("sess:2", "k"), win_id(bet), rollback_id(bet)]
                .into();
        assert_eq!(ids.len(), 5);
        assert_eq!(bet.get_version_num(), 8);
    }

    #[test]
    fn calls_round_trip() {
        for call in Call::ALL {
            assert_eq!(Call::parse(call.as_str()), Some(call));
        }
        assert_eq!(Call::parse("balance"), None);
    }
}
