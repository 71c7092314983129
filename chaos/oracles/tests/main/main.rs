//! The judges judged: good histories pass, and every seeded mistake is found by the oracle it belongs to.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod bad;
mod good;
mod scene;
