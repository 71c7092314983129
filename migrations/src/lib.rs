//! The schemas of the ledger and of a reader, their roles and publications, and the runner that applies them.
//!
//! Invariants: a migration never changes once it was applied anywhere (its checksum is kept in the database);
//! every file can be applied twice; a run changes everything or nothing; two runs never overlap.
//! Deliberately absent: going back. A wrong migration is mended by the next one.

mod order;
mod publications;
mod runner;
mod sequence;

pub use domicile_postgres::SCHEMA_VERSION_SQL as VERSION_SQL;
pub use order::{Order, next_order};
pub use publications::{Part, Publication, TABLES, Table, publications};
pub use runner::{Error, Report, migrate_ledger, migrate_reader};
pub use sequence::{LEDGER, Migration, READER};

/// How long a migration waits for a lock, also for another runner's, ms.
pub const LOCK_WAIT_MS: u64 = 5_000;
/// How long a run waits for its commit to reach the second region, ms.
pub const COMMIT_WAIT_MS: u64 = 30_000;
