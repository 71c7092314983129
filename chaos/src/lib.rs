//! Judges of what a system promised, written without knowledge of how it works.
//!
//! Invariant: nothing of a server is linked here, so that a server's mistake cannot be repeated by its judge.
//! Deliberately absent: injectors. Faults are injected by whoever runs the system.

pub mod history;
