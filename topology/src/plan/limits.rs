//! How old, how far behind and how long: every number a plan rests on, with its unit.

use crate::agent_api::limits::{CLONE_TIMEOUT_MS, OPERATION_TIMEOUT_MS};
use crate::lease;

/// How old an observation may be for a plan to rest on it, milliseconds.
pub const MAX_FACT_AGE_MS: u64 = 5_000;
/// How far a standby or a slot may be behind and still count as near, bytes: what is sent and replayed in a moment.
pub const NEAR_BYTES: u64 = 16 * 1024 * 1024;

/// A switchover's pause as writers see it, milliseconds; measured by drills.
pub const SWITCHOVER_PAUSE_MS: u64 = 500;
/// From the decision to the first write after a failover, milliseconds; measured by drills.
pub const FAILOVER_PAUSE_MS: u64 = 1_000;
/// The longest a forced failover waits for leases to end by themselves, milliseconds.
pub const LEASE_END_MS: u64 = lease::TTL_S.unsigned_abs() * 1_000;

/// How long the writer may take to finish what is in flight before a move is called off, milliseconds.
pub(super) const DRAIN_TIMEOUT_MS: u64 = 2_000;
/// Drain and clean stop of the primary, milliseconds.
pub(super) const DEMOTE_TIMEOUT_MS: u64 = 10_000;
/// Replay of a stopped primary's last bytes, milliseconds.
pub(super) const REPLAY_TIMEOUT_MS: u64 = 5_000;
/// A change of the control record, milliseconds.
pub(super) const RECORD_TIMEOUT_MS: u64 = 5_000;
/// A checkpoint before the pause, milliseconds.
pub(super) const CHECKPOINT_TIMEOUT_MS: u64 = OPERATION_TIMEOUT_MS;
/// Making or dropping slots, milliseconds.
pub(super) const SLOT_TIMEOUT_MS: u64 = 10_000;
/// Promotion, with what is left to replay, milliseconds.
pub(super) const PROMOTE_TIMEOUT_MS: u64 = OPERATION_TIMEOUT_MS;
/// Opening an epoch; its commit may wait for the second region, milliseconds.
pub(super) const EPOCH_TIMEOUT_MS: u64 = OPERATION_TIMEOUT_MS;
/// Until the writer serves: the log gate waits for its holders meanwhile, milliseconds.
pub(super) const WRITER_TIMEOUT_MS: u64 = OPERATION_TIMEOUT_MS;
/// Rejoining: a copy of the whole database at worst, milliseconds.
pub(super) const REJOIN_TIMEOUT_MS: u64 = CLONE_TIMEOUT_MS;
/// Naming the sync member and its confirmation, milliseconds.
pub(super) const SYNC_TIMEOUT_MS: u64 = OPERATION_TIMEOUT_MS;
/// Following the record, or copying anew, milliseconds.
pub(super) const SUBSCRIPTIONS_TIMEOUT_MS: u64 = OPERATION_TIMEOUT_MS;
/// Until readers' slots are ready on the standby, milliseconds. Nobody is promotable meanwhile.
pub(super) const SLOTS_READY_TIMEOUT_MS: u64 = 30_000;
/// Until leases have ended or are enforced: their whole life several times, milliseconds.
pub(super) const LEASE_TIMEOUT_MS: u64 = 10 * LEASE_END_MS;
