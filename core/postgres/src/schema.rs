//! Which schema version the services of this build stand on.
//!
//! Invariant: versions only grow, and a newer schema serves an older service: a service asks for "at least".
//! Deliberately absent: changing the schema. That is the agents' alone, with `domicile-migrations`.

use crate::connection::Query;
use crate::error::Error;

/// Version of the ledger schema that the writer needs at least.
pub const LEDGER_SCHEMA_VERSION: u32 = 12;
/// Version of the reader schema that the reader needs at least.
pub const READER_SCHEMA_VERSION: u32 = 4;
/// An SQL expression for the version of the schema: null before the first migration. It stands in the
/// comment of the schema that holds the migrations' bookkeeping, so that every role can read it.
pub const SCHEMA_VERSION_SQL: &str =
    "(SELECT obj_description(to_regnamespace('domicile')::oid, 'pg_namespace')::int)";

/// The version the database has; `None` before the first migration.
pub async fn schema_version(database: &impl Query) -> Result<Option<u32>, Error> {
    let rows = database.query(&format!("SELECT {SCHEMA_VERSION_SQL}"), &[]).await?;
    let version = rows.first().map(|row| row.try_get::<_, Option<i32>>(0)).transpose();
    let version = version.map_err(|source| Error::decode("schema version", source))?.flatten();
    Ok(version.and_then(|version| u32::try_from(version).ok()))
}
