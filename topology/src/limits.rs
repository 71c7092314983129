//! The bounds of a topology document, each with its unit in the name.
//!
//! A document that exceeds one is refused, so that nothing derived from it (routes, subscriptions,
//! probes) can grow without a bound.

/// Longest document as text, bytes.
pub const MAX_DOCUMENT_BYTES: usize = 512 * 1024;
/// Most regions.
pub const MAX_REGIONS: usize = 32;
/// Most jurisdictions.
pub const MAX_JURISDICTIONS: usize = 64;
/// Most nodes of all kinds together.
pub const MAX_NODES: usize = 128;
/// Most writers of one region: their pools share the connections of one Postgres.
pub const MAX_WRITERS_PER_REGION: usize = 4;
/// Most control-plane members; more only slow its consensus down.
pub const MAX_ETCD_MEMBERS: usize = 7;
/// Most session verification keys, rotated ones included.
pub const MAX_SESSION_KEYS: usize = 64;
/// Most log verification keys, past log epochs included.
pub const MAX_LOG_KEYS: usize = 1024;
/// Most receipt verification keys, rotated ones included.
pub const MAX_RECEIPT_KEYS: usize = 64;
/// Longest public key in PEM, bytes.
pub const MAX_PUBLIC_KEY_BYTES: usize = 1024;
/// Longest key id of a session key, bytes.
pub const MAX_KID_BYTES: usize = 64;
/// Longest host part of an address, bytes (a DNS name).
pub const MAX_HOST_BYTES: usize = 253;
/// Smallest lag limit of a jurisdiction, milliseconds: below it ordinary replication would breach it.
pub const MIN_LAG_LIMIT_MS: u64 = 100;
/// Largest lag limit of a jurisdiction, milliseconds: one day.
pub const MAX_LAG_LIMIT_MS: u64 = 86_400_000;
/// Most diagnostics in one report; the rest is summed up in a last line.
pub const MAX_DIAGNOSTICS: usize = 200;
/// Largest generation or epoch number: what every JSON reader can hold exactly.
pub const MAX_GENERATION: u64 = (1 << 53) - 1;
