//! Judges of a run: what clients were told, compared with what exists afterwards.
//!
//! Invariants: pure; nothing of the system under test is linked or known beyond what it publishes, so that a
//! mistake of the system cannot be repeated by its judge; an oracle that checked nothing says so.
//! Deliberately absent: clocks, processes, connections. Others record and observe; here it is judged.

pub mod availability;
pub mod effects;
pub mod epochs;
pub mod history;
pub mod log;
mod merkle;
pub mod money;
pub mod observation;
pub mod replicas;
pub mod server_log;
pub mod verdict;

pub use history::{Event, History};
pub use observation::{Observation, Observations};
pub use verdict::{Limits, Oracle, Verdict, judge};
