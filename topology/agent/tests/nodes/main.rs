//! Agents on real Postgres servers. `DOMICILE_PG_BIN` names the servers' programs; without it the tests fail.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod api;
mod cluster;
mod ledger;
mod moves;
mod reader;
mod returns;
mod witness;
