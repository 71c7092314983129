//! Which schema version the services of this build stand on.
//!
//! Invariant: versions only grow, and a newer schema serves an older service: a service asks for "at least".
//! Deliberately absent: changing the schema. That is the agents' alone, with `domicile-migrations`.

use crate::connection::Query;
use crate::error::Error;

/// Version of the ledger schema that the writer needs at least.
pub const LEDGER_SCHEMA_VERSION: u32 = 4;
/// Version of the reader schema that the reader needs at least.
pub const READER_SCHEMA_VERSION: u32 = 4;

/// The version the database has; `None` before the first migration.
pub async fn schema_version(database: &impl Query) -> Result<Option<u32>, Error> {
    let decode = |source| Error::decode("schema version", source);
    let exists = "SELECT to_regclass('domicile.schema_migration') IS NOT NULL";
    let known = database.query(exists, &[]).await?;
    let known = known.first().map(|row| row.try_get::<_, bool>(0).map_err(decode)).transpose()?;
    if known != Some(true) {
        return Ok(None);
    }
    let latest = database.query("SELECT max(version) FROM domicile.schema_migration", &[]).await?;
    let latest =
        latest.first().map(|row| row.try_get::<_, Option<i32>>(0).map_err(decode)).transpose()?;
    Ok(latest.flatten().and_then(|version| u32::try_from(version).ok()))
}
