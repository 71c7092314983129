//! The runner on a real server: twice is once, changed is refused, two at a time are one after the other.

#![cfg(test)]

#[path = "../../core/postgres/tests/cluster/mod.rs"]
mod cluster;

use cluster::Server;
use domicile_core::ids::Jurisdiction;
use domicile_migrations::{
    Error, LEDGER, Migration, READER, Report, migrate_ledger, migrate_reader,
};
use domicile_postgres::{Connection, LEDGER_SCHEMA_VERSION, schema_version};

fn jurisdictions(codes: &[&str]) -> Vec<Jurisdiction> {
    codes.iter().map(|code| Jurisdiction::parse(code).unwrap()).collect()
}

/// Everything that a migration could have changed, as text.
async fn catalog(admin: &Connection) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', n.nspname, c.relname, c.relkind, c.relacl, c.reloptions, c.relowner::regrole) \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE nspname IN ('ledger', 'log', 'domicile', 'public') \
               UNION ALL SELECT concat_ws(' ', attrelid::regclass, attname, format_type(atttypid, atttypmod), \
                 attstorage, attnotnull, attacl) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid \
                 WHERE relnamespace::regnamespace::text IN ('ledger', 'log') AND attnum > 0 \
               UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint \
               UNION ALL SELECT concat_ws(' ', pubname, tablename, attnames, rowfilter) FROM pg_publication_tables \
               UNION ALL SELECT concat_ws(' ', rolname, rolcanlogin, rolreplication, rolsuper, rolconfig) FROM pg_roles \
               UNION ALL SELECT concat_ws(' ', version, name, applied_at) FROM domicile.schema_migration \
               ORDER BY 1";
    let rows = admin.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn apply_files(admin: &Connection, sequence: &[Migration]) {
    for migration in sequence {
        let role = if migration.superuser { "postgres" } else { "domicile_migrator" };
        let sql = format!("BEGIN; SET LOCAL ROLE {role}; {}; COMMIT", migration.sql);
        admin
            .batch_execute(&sql)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", migration.name));
    }
}

/// How many migrations the ledger has.
fn all() -> u32 {
    u32::try_from(LEDGER.len()).unwrap()
}

#[tokio::test]
async fn a_second_run_and_every_file_again_change_nothing() {
    let ledger = Server::primary().await;
    let mut admin = ledger.superuser().await;
    // The agent makes this role before any migration, so that a standby can be cloned.
    let made_before = "CREATE ROLE domicile_replication LOGIN REPLICATION";
    admin.batch_execute(made_before).await.unwrap();
    assert_eq!(schema_version(&admin).await.unwrap(), None);

    let both = jurisdictions(&["MT", "US-NJ"]);
    let first = migrate_ledger(&mut admin, &both).await.unwrap();
    assert_eq!(
        first,
        Report { applied: all(), skipped: 0, published: 4, version: LEDGER_SCHEMA_VERSION }
    );
    assert_eq!(schema_version(&admin).await.unwrap(), Some(LEDGER_SCHEMA_VERSION));
    let before = catalog(&admin).await;
    let second = migrate_ledger(&mut admin, &both).await.unwrap();
    assert_eq!(
        second,
        Report { applied: 0, skipped: all(), published: 0, version: LEDGER_SCHEMA_VERSION }
    );
    apply_files(&admin, LEDGER).await;
    assert_eq!(catalog(&admin).await, before);

    let third = migrate_ledger(&mut admin, &jurisdictions(&["MT", "US-NJ", "DE"])).await.unwrap();
    assert_eq!((third.applied, third.published), (0, 2));
    // A publication that somebody changed by hand is not noticed by its comment, one without it is.
    admin.batch_execute("COMMENT ON PUBLICATION pub_mt_log IS NULL").await.unwrap();
    let fourth = migrate_ledger(&mut admin, &both).await.unwrap();
    assert_eq!((fourth.applied, fourth.published), (0, 1));

    let reader = Server::primary().await;
    let mut admin = reader.superuser().await;
    assert_eq!(migrate_reader(&mut admin).await.unwrap().applied, 4);
    let before = catalog(&admin).await;
    assert_eq!(migrate_reader(&mut admin).await.unwrap().applied, 0);
    apply_files(&admin, READER).await;
    assert_eq!(catalog(&admin).await, before);
    let reader_tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('ledger', 'log')";
    let tables: i64 = admin.query_one(reader_tables, &[]).await.unwrap().get(0);
    assert_eq!(tables, 8, "a reader has the published tables and no other");
}

#[tokio::test]
async fn what_was_applied_never_changes() {
    let server = Server::primary().await;
    let mut admin = server.superuser().await;
    migrate_ledger(&mut admin, &[]).await.unwrap();

    admin
        .batch_execute("UPDATE domicile.schema_migration SET sha256 = '\\x00' WHERE version = 3")
        .await
        .unwrap();
    let error = migrate_ledger(&mut admin, &jurisdictions(&["MT"])).await.unwrap_err();
    assert!(matches!(error, Error::Changed { name: "ledger/0003-writer" }), "{error}");
    let made = admin.query("SELECT 1 FROM pg_publication", &[]).await.unwrap();
    assert!(made.is_empty(), "a refused run changes nothing");

    admin
        .batch_execute(
            "UPDATE domicile.schema_migration SET name = 'ledger/0003-other' WHERE version = 3",
        )
        .await
        .unwrap();
    let error = migrate_ledger(&mut admin, &[]).await.unwrap_err();
    assert!(matches!(error, Error::Diverged { version: 3, .. }), "{error}");
}

#[tokio::test]
async fn two_runners_at_once_apply_everything_once() {
    let server = Server::primary().await;
    let (mut one, mut two) = (server.superuser().await, server.superuser().await);
    let wanted = jurisdictions(&["MT"]);
    let (one, two) =
        tokio::join!(migrate_ledger(&mut one, &wanted), migrate_ledger(&mut two, &wanted));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.applied + two.applied, one.published + two.published), (all(), 2));
}

#[tokio::test]
async fn a_publication_that_would_break_updates_is_not_committed() {
    let server = Server::primary().await;
    let mut admin = server.superuser().await;
    migrate_ledger(&mut admin, &[]).await.unwrap();
    let bad = "CREATE PUBLICATION by_hand FOR TABLE ledger.round WHERE (game = 'wheel')";
    admin.batch_execute(bad).await.unwrap();
    let error = migrate_ledger(&mut admin, &jurisdictions(&["MT"])).await.unwrap_err();
    assert!(error.to_string().contains("cannot update table"), "{error}");
    let made = admin.query("SELECT pubname FROM pg_publication", &[]).await.unwrap();
    assert_eq!(made.len(), 1);
}
