//! The harness: real clusters from real binaries, clients that behave like real ones, and a record of what
//! was promised to them.
//!
//! Invariants: every wait has a deadline; a missing dependency fails the test; when a test fails the
//! cluster's folder is kept and named. Deliberately absent: any in-process shortcut into a server.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says why on standard error"
)]

pub mod answer_table;
pub mod cluster;
pub mod database;
pub mod eventually;
pub mod meter;
pub mod operator;
pub mod player;
pub mod purse;
pub mod raw;
pub mod stream;
pub mod topology;
pub mod wallet;
