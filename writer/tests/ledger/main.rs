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

#[path = "../../../topology/control/tests/main/cluster.rs"]
#[expect(dead_code, reason = "shared with the control plane's tests, which use more of it")]
mod etcd;

mod administration;
mod bench;
mod bets;
mod callers;
mod conservation;
mod fences;
mod floor;
mod gates;
mod leases;
mod losses;
mod operators;
mod plays;
mod processes;
mod protection;
mod revocations;
mod streams;
#[path = "../../../tests/src/wallet/mod.rs"]
#[expect(dead_code, unreachable_pub, reason = "the tests of whole clusters use all of it")]
mod wallet;
mod wallets;
