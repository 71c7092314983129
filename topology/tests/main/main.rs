//! The topology document, the residency law and the control record as their users meet them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails"
)]

mod diagnostics;
mod document;
mod limits;
mod plan;
mod record;
mod residency;
mod rules;
mod shape;
