//! Every plan, killed everywhere, against a simulated world with an independent auditor.
//!
//! The world is a deterministic state machine in virtual time: two ledger nodes with logs, a synchronous standby, readers,
//! writers with leases, the control record with its real rules, the journal with its lock. Players write at every
//! moment. The auditor knows nothing of the executor: it looks at what was acknowledged, by whom, and what is left.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod agents;
mod audit_file;
mod auditor;
mod cluster;
mod crashes;
mod failures;
mod faults;
#[expect(dead_code, reason = "a replay needs neither the model's seeded faults nor its properties")]
mod model;
mod plane;
mod replay;
mod scenario;
mod world;
