//! The writer over a real Postgres.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot set itself up fails"
)]

#[path = "../../../core/postgres/tests/cluster/mod.rs"]
mod cluster;

mod bench;
mod bets;
mod fences;
mod operators;
mod plays;
