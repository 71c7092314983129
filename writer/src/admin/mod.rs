//! What persons administer: operators, their games and credentials, their players' sessions.
//!
//! Invariant: every change is one transaction that also enters who made it and why into the operations log.

pub mod credentials;
pub mod feed;
pub mod games;
pub mod operators;
pub mod records;
pub mod sessions;
pub mod suspension;
