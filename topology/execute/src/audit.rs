//! The audit file: every journal entry as one JSON line, chained by hashes.
//!
//! Invariants: a line carries the SHA-256 of the line before, so that none can be changed, left out or moved without
//! every later line changing; what a killed executor had not written is added when the plan goes on, from the journal in
//! the control plane, which is the authority. Written by a thread of its own: no step waits for the disk of whoever runs
//! the plan. Deliberately absent: a signature, which a report puts over the last hash.

mod chain;
mod file;

pub use chain::{Fault, GENESIS, Line, Verified, alone, verify};
pub(crate) use file::AuditFile;
