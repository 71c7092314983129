//! Applies migrations and publications, once, in one transaction.
//!
//! Invariants: only one runner at a time (an advisory lock); what was applied has the checksum it had then;
//! a database that was migrated by a diverging history is left alone; a run that has nothing to do writes
//! nothing.

use crate::publications::{Publication, proofs, publications};
use crate::sequence::{LEDGER, Migration, READER};
use crate::{COMMIT_WAIT_MS, LOCK_WAIT_MS};
use domicile_core::ids::Jurisdiction;
use domicile_postgres::{CommitError, Connection, Tx};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Key of the advisory lock: "domicile" in ASCII.
const LOCK_KEY: i64 = 0x646f_6d69_6369_6c65;

const BOOKKEEPING: &str = "CREATE SCHEMA IF NOT EXISTS domicile; \
     CREATE TABLE IF NOT EXISTS domicile.schema_migration (\
     version int PRIMARY KEY, name text NOT NULL, sha256 bytea NOT NULL, \
     applied_at timestamptz NOT NULL DEFAULT now())";

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Migrations applied now.
    pub applied: u32,
    /// Migrations that were there.
    pub skipped: u32,
    /// Publications made or altered now.
    pub published: u32,
    /// The schema's version afterwards.
    pub version: u32,
}

/// Why nothing was changed – or, for [`Error::Commit`] with an unknown outcome, perhaps all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("{step}: {source}")]
    Statement {
        /// The migration or publication.
        step: String,
        /// What the database said.
        source: domicile_postgres::Error,
    },
    /// The file is not the one that was applied.
    #[error(
        "migration {name} was applied with another content; files that were applied never change"
    )]
    Changed {
        /// The migration.
        name: &'static str,
    },
    /// The database has a migration below this build's version that this build does not know.
    #[error("the database has migration {version} ({name}), which this build does not know")]
    Diverged {
        /// Its version.
        version: i32,
        /// Its name.
        name: String,
    },
    /// The commit failed or is unknown; running again finds out.
    #[error("commit of the migrations: {0}")]
    Commit(#[from] CommitError),
}

/// Brings a ledger to this build's version and publishes `jurisdictions`. The connection is a superuser's.
pub async fn migrate_ledger(
    connection: &mut Connection,
    jurisdictions: &[Jurisdiction],
) -> Result<Report, Error> {
    run(connection, LEDGER, &publications(jurisdictions)).await
}

/// Brings a reader to this build's version. The connection is a superuser's.
pub async fn migrate_reader(connection: &mut Connection) -> Result<Report, Error> {
    run(connection, READER, &[]).await
}

pub(crate) async fn run(
    connection: &mut Connection,
    sequence: &[Migration],
    publications: &[Publication],
) -> Result<Report, Error> {
    let step = |name: &str| {
        let step = name.to_owned();
        move |source| Error::Statement { step, source }
    };
    let tx = connection.begin().await.map_err(step("begin"))?;
    let lock = format!(
        "SET LOCAL lock_timeout = {LOCK_WAIT_MS}; SELECT pg_advisory_xact_lock({LOCK_KEY})"
    );
    tx.batch_execute(&lock).await.map_err(step("wait for another runner"))?;
    tx.batch_execute(BOOKKEEPING).await.map_err(step("bookkeeping"))?;
    let known = known(&tx).await?;
    let mut report = Report { applied: 0, skipped: 0, published: 0, version: 0 };
    refuse_divergence(&known, sequence)?;
    for migration in sequence {
        report.version = report.version.max(migration.version);
        if is_applied(&known, migration)? {
            report.skipped += 1;
        } else {
            apply(&tx, migration).await.map_err(step(migration.name))?;
            report.applied += 1;
        }
    }
    for publication in publications {
        if publish(&tx, publication).await.map_err(step(&publication.name))? {
            report.published += 1;
        }
    }
    if report.applied == 0 && report.published == 0 {
        tx.rollback().await.map_err(step("rollback"))?;
    } else {
        tx.commit(Duration::from_millis(COMMIT_WAIT_MS)).await?;
    }
    tracing::info!(
        applied = report.applied,
        skipped = report.skipped,
        published = report.published,
        version = report.version,
        "schema migrated"
    );
    Ok(report)
}

struct Known {
    version: i32,
    name: String,
    sha256: Vec<u8>,
}

async fn known(tx: &Tx<'_>) -> Result<Vec<Known>, Error> {
    let failed =
        |source| Error::Statement { step: "read the applied migrations".to_owned(), source };
    let decode = |source| failed(domicile_postgres::Error::decode("migrations", source));
    let sql = "SELECT version, name, sha256 FROM domicile.schema_migration ORDER BY version";
    let rows = tx.query(sql, &[]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(Known { version: row.try_get(0)?, name: row.try_get(1)?, sha256: row.try_get(2)? })
        })
        .collect::<Result<_, _>>()
        .map_err(decode)
}

/// A newer build's migrations are welcome; one in the middle that this build never had is not.
fn refuse_divergence(known: &[Known], sequence: &[Migration]) -> Result<(), Error> {
    let latest = sequence.last().map_or(0, |migration| migration.version);
    let foreign = known.iter().find(|known| {
        u32::try_from(known.version).is_ok_and(|version| version <= latest)
            && !sequence.iter().any(|migration| migration.name == known.name)
    });
    match foreign {
        Some(known) => Err(Error::Diverged { version: known.version, name: known.name.clone() }),
        None => Ok(()),
    }
}

fn is_applied(known: &[Known], migration: &Migration) -> Result<bool, Error> {
    let Some(known) = known.iter().find(|known| known.name == migration.name) else {
        return Ok(false);
    };
    if known.sha256 == checksum(migration.sql) {
        Ok(true)
    } else {
        Err(Error::Changed { name: migration.name })
    }
}

async fn apply(tx: &Tx<'_>, migration: &Migration) -> Result<(), domicile_postgres::Error> {
    let Migration { version, name, sql, superuser, .. } = migration;
    if *superuser {
        tx.batch_execute(sql).await?;
    } else {
        tx.batch_execute(&format!("SET LOCAL ROLE domicile_migrator; {sql}; RESET ROLE")).await?;
    }
    let number = i32::try_from(*version).unwrap_or(i32::MAX);
    tx.execute(
        "INSERT INTO domicile.schema_migration (version, name, sha256) VALUES ($1, $2, $3)",
        &[&number, name, &checksum(sql).as_slice()],
    )
    .await?;
    // Where everybody may read it, also before there is any schema.
    tx.batch_execute(&format!("COMMENT ON SCHEMA domicile IS '{version}'")).await
}

/// Makes or alters a publication unless it is already what it has to be, which its comment tells.
async fn publish(tx: &Tx<'_>, publication: &Publication) -> Result<bool, domicile_postgres::Error> {
    let mark = domicile_core::hex::encode(&checksum(&publication.create()));
    let found = tx
        .query_opt(
            "SELECT coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_publication \
             WHERE pubname = $1",
            &[&publication.name],
        )
        .await?;
    let found = found.map(|row| row.try_get::<_, String>(0)).transpose();
    let statement =
        match found.map_err(|source| domicile_postgres::Error::decode("publish", source))? {
            Some(present) if present == mark => return Ok(false),
            Some(_) => publication.alter(),
            None => publication.create(),
        };
    let name = &publication.name;
    let mark = format!("COMMENT ON PUBLICATION {name} IS '{mark}'");
    tx.batch_execute(&format!("SET LOCAL ROLE domicile_migrator; {statement}; {mark}")).await?;
    for proof in proofs() {
        tx.batch_execute(&proof).await?;
    }
    tx.batch_execute("RESET ROLE").await?;
    Ok(true)
}

fn checksum(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}
