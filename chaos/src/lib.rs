//! Experiments on a running system: load, faults, what clients were told and what exists afterwards.
//!
//! Invariants: nothing of a server is linked, so that a server's mistake cannot be repeated by its judge (the verdict
//! is `domicile-oracles`'); a fault whose injection was not seen to have happened makes the run NOT RUN, never passed.

pub mod crash;
pub mod database;
pub mod delay;
pub mod digest;
pub mod doctor;
pub mod experiment;
pub mod fault;
pub mod http;
pub mod load;
pub mod money;
pub mod namespaces;
pub mod observe;
pub mod page;
pub mod process;
pub mod recorder;
pub mod report;
pub mod run;
pub mod seed;
pub mod stage;
pub mod stop;
pub mod suite;
pub mod system;
pub mod term;
pub mod watch;
pub mod whole;
