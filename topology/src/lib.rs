//! Who is where and who may hold what: the topology document, the residency law, the control record,
//! what agents observe of running nodes and the interface they are asked through.
//!
//! Invariants: pure – no IO, clock, randomness or runtime; a [`document::Topology`] obtained from text,
//! JSON or serde has passed every check.
//! Deliberately absent: how the document travels (`domicile-control`) and anything secret.

pub mod address;
pub mod agent_api;
pub mod diagnostic;
pub mod document;
mod keys;
pub mod lease;
pub mod limits;
pub mod member;
pub mod observed;
pub mod pin;
pub mod plan;
pub mod record;
pub mod residency;

mod check;
mod read;
mod rules;

pub use diagnostic::{Diagnostic, Severity};
pub use document::Topology;
pub use member::{JoinId, Member};
pub use record::Record;
