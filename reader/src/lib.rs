//! The reader: proofs of one jurisdiction (or a few), from the replica beside it, verified before they leave.
//!
//! Flow: routers and tools connect with mutual TLS; [`access`] checks the token again; [`auditor`] has
//! recomputed every checkpoint from this replica's rows; [`proofs`] builds bundles against them.
//! Invariants: no row and no token of another jurisdiction is served; nothing that is not verified is served;
//! a finished bundle never changes. Deliberately absent: any write to the database.

pub mod access;
pub mod auditor;
pub mod config;
pub mod evidence;
pub mod freshness;
mod handlers;
mod problem;
pub mod proofs;
mod readiness;
pub mod routes;
pub mod shared_reads;
pub mod state;
pub mod store;
pub mod tiles;

mod start;

pub use handlers::page::verify as verification_page;
pub use start::run;
