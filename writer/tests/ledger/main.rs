//! The writer over a real PostgreSQL.

#[path = "../../../core/postgres/tests/cluster/mod.rs"]
mod cluster;

mod bench;
mod bets;
mod fences;
mod operators;
mod plays;
