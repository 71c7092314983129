//! A writer's lease: what stands in for the second region's fence while writes have one copy.
//!
//! Each writer of the record's region keeps one key `writer-lease/<node>` on a lease of the control plane, put there by a
//! transaction that requires the record it has seen. While the record says `one` it answers nothing after the deadline,
//! counted on a clock that runs through suspend from when the last good keep-alive was *sent*. A forced failover waits
//! until no such key of an earlier epoch is left; taking one away does not shorten the wait. A degradation waits until each
//! such key says *enforcing*; of a writer without a key – dead, frozen, cut off – the primary's agent ends the database
//! sessions before commits stop waiting. Deliberately absent: IO.

use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use serde::{Deserialize, Serialize};

/// How long a lease runs without a keep-alive, seconds.
pub const TTL_S: i64 = 3;
/// How often it is kept alive, milliseconds.
pub const RENEW_EVERY_MS: u64 = 750;
/// How long before its end nothing is answered any more, milliseconds.
pub const MARGIN_MS: u64 = 500;
/// The folder of the leases' keys.
pub const KEY_FOLDER: &str = "writer-lease";

/// The value of a lease's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterLease {
    /// The writer.
    pub node: NodeId,
    /// Where it stands.
    pub region: RegionId,
    /// The epoch of the record it has seen.
    pub epoch: Epoch,
    /// Whether it answers under this lease only.
    pub enforcing: bool,
}

/// How a writer's database sessions are named, so that the agent beside the database knows whose they are.
pub fn session_name(writer: &NodeId) -> String {
    format!("domicile-writer/{writer}")
}
