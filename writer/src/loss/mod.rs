//! Bets that a forced failover lost: their receipts are honoured, and what the lost tail may have revealed is taken out of
//! use.
//!
//! Invariants: a receipt counts by our signature alone, and once (the claim's primary key); an instant play whose outcome
//! was revealed is settled as it was revealed, after everything in the kept rows has been held against the receipt's
//! commitments and the seed's chain, never drawn again; every other lost bet is refunded; money moves by the same wallet
//! transactions as ever, under the ids the lost bet's had. Claims leave nothing in the log: see ADR 0006.
//! Deliberately absent: finding the kept rows, which lie with the nodes' agents.

mod claim;
pub mod cut;
mod kept;

pub use claim::{Claim, Claimant};
