//! What each role may do, statement by statement.

#![cfg(test)]

#[path = "../../core/postgres/tests/cluster/mod.rs"]
mod cluster;

use cluster::Server;
use domicile_core::ids::Jurisdiction;
use domicile_migrations::{migrate_ledger, migrate_reader};
use domicile_postgres::{Class, Connection, connect};

async fn login(server: &Server, role: &str) -> Connection {
    let admin = server.superuser().await;
    let login = format!("ALTER ROLE {role} LOGIN PASSWORD 'p'");
    admin.batch_execute(&login).await.unwrap();
    connect(&server.config(role, "p")).await.unwrap()
}

/// Statements the role may run, and such that it may not. None of them changes anything.
async fn check(role: &Connection, allowed: &[&str], denied: &[&str]) {
    for sql in allowed {
        let sql = format!("BEGIN READ WRITE; {sql}; ROLLBACK");
        let outcome = role.batch_execute(&sql).await;
        outcome.unwrap_or_else(|error| panic!("allowed: {sql}: {error}"));
    }
    for sql in denied {
        let error = role.batch_execute(&format!("BEGIN READ WRITE; {sql}")).await.expect_err(sql);
        assert_eq!(error.class(), Class::Denied, "denied: {sql}: {error}");
        role.batch_execute("ROLLBACK").await.unwrap();
    }
}

const EVERYWHERE_DENIED: &[&str] = &[
    "CREATE TABLE public.t (i int)",
    "CREATE TABLE ledger.t (i int)",
    "CREATE TEMPORARY TABLE t (i int)",
    "CREATE SCHEMA s",
    "CREATE ROLE r",
    "CREATE PUBLICATION p",
    "SELECT lo_create(0)",
    "TRUNCATE ledger.bet",
    "TRUNCATE log.leaf",
    "UPDATE log.leaf SET entry = 'x'",
    "UPDATE log.leaf SET jurisdiction = 'DE'",
    "UPDATE log.node SET hash = hash",
    "UPDATE log.subject SET idx = idx",
    "UPDATE log.checkpoint SET note = 'x'",
    "DELETE FROM log.leaf",
    "DELETE FROM log.node",
    "DELETE FROM log.subject",
    "DELETE FROM log.checkpoint",
    "DELETE FROM ledger.bet",
    "DELETE FROM ledger.round",
    "DELETE FROM ledger.session_revocation",
    "DELETE FROM ledger.heartbeat",
    "SELECT * FROM domicile.schema_migration",
    "SELECT rolpassword FROM pg_authid",
    "SET ROLE domicile_migrator",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres' AND pid <> pg_backend_pid()",
];

const WRITER_ALLOWED: &[&str] = &[
    "SELECT max(epoch) FROM ledger.epoch",
    "SELECT * FROM ledger.operator, ledger.operator_credential, ledger.request, ledger.session",
    "SELECT * FROM ledger.session_revocation, ledger.chain, ledger.round_engine, ledger.round, ledger.bet",
    "SELECT * FROM ledger.heartbeat, log.pending, log.leaf, log.node, log.subject, log.checkpoint, log.head",
    "SELECT 1 FROM ledger.round_engine FOR SHARE",
    "SELECT 1 FROM ledger.chain FOR UPDATE",
    "SELECT 1 FROM ledger.session FOR UPDATE",
    "SELECT 1 FROM log.head FOR UPDATE",
    "UPDATE ledger.operator SET enabled = false",
    "UPDATE ledger.operator_credential SET revoked_at = now()",
    "UPDATE ledger.session SET revoked_at = now()",
    "UPDATE ledger.chain SET next_position = 1, closed_at = now()",
    "UPDATE ledger.round_engine SET state = 'closed', closed_at = now()",
    "UPDATE ledger.round SET state = 'closed', closed_at = now()",
    "UPDATE ledger.bet SET payout_micro = 1",
    "INSERT INTO ledger.heartbeat AS h VALUES ('MT', 1, 1) ON CONFLICT (jurisdiction) DO UPDATE SET beat = 2",
    "INSERT INTO ledger.session_revocation VALUES ('MT', gen_random_uuid(), now())",
    "INSERT INTO ledger.request VALUES ('op:a', 'k', decode(repeat('ab', 32), 'hex'), 200, '')",
    "INSERT INTO log.pending VALUES ('MT', gen_random_uuid(), gen_random_uuid(), 'play', 'x')",
    "DELETE FROM log.pending",
    "INSERT INTO log.leaf VALUES ('MT', 1, 0, 'x', decode(repeat('ab', 32), 'hex'))",
    "INSERT INTO log.head VALUES ('MT', 1, 0, decode(repeat('ab', 32), 'hex'), 1) ON CONFLICT DO NOTHING",
    "UPDATE log.head SET size = 1",
    "INSERT INTO log.standing VALUES ('MT', 1, 1, 'live', NULL, NULL)",
    "UPDATE log.standing SET epoch = 1, state = 'live', reason = NULL, evidence = 'x'",
    "SELECT pg_logical_emit_message(true, 'domicile.fence', '')",
    "SELECT pg_try_advisory_lock(1, 1), pg_notify('domicile_log', 'news')",
];

const WRITER_DENIED: &[&str] = &[
    "INSERT INTO ledger.epoch VALUES (9, 'r', 'n')",
    "UPDATE ledger.epoch SET epoch = 9",
    "DELETE FROM ledger.epoch",
    "UPDATE ledger.bet SET stake_micro = 1",
    "UPDATE ledger.bet SET record = 'x'",
    "UPDATE ledger.round SET commitment = commitment",
    "UPDATE ledger.round_engine SET seed_sealed = seed_sealed",
    "UPDATE ledger.chain SET seed_sealed = seed_sealed",
    "UPDATE ledger.session SET jurisdiction = 'DE'",
    "UPDATE ledger.request SET response = ''",
    "DELETE FROM ledger.request",
    "DELETE FROM ledger.session",
    "DELETE FROM ledger.chain",
    "DELETE FROM ledger.round_engine",
    "UPDATE log.pending SET entry = 'x'",
    "DELETE FROM log.head",
    "DELETE FROM log.standing",
    "ALTER PUBLICATION pub_mt_log SET (publish = 'insert, truncate')",
    "SELECT pg_create_physical_replication_slot('x')",
];

const REPLICATION_ALLOWED: &[&str] = &[
    "SELECT * FROM ledger.round, ledger.bet, ledger.session_revocation, ledger.heartbeat",
    "SELECT * FROM log.leaf, log.node, log.subject, log.checkpoint",
];

const REPLICATION_DENIED: &[&str] = &[
    "SELECT * FROM ledger.session",
    "SELECT * FROM ledger.chain",
    "SELECT * FROM ledger.round_engine",
    "SELECT * FROM ledger.request",
    "SELECT * FROM ledger.operator_credential",
    "SELECT * FROM ledger.epoch",
    "SELECT * FROM log.pending",
    "SELECT * FROM log.head",
    "SELECT * FROM log.standing",
    "INSERT INTO log.leaf VALUES ('MT', 1, 0, 'x', decode(repeat('ab', 32), 'hex'))",
    "UPDATE ledger.bet SET payout_micro = 1",
];

const READER_ALLOWED: &[&str] = &[
    "SELECT * FROM ledger.round, ledger.bet, ledger.session_revocation, ledger.heartbeat",
    "SELECT * FROM log.leaf, log.node, log.subject, log.checkpoint",
];

const READER_DENIED: &[&str] = &[
    "INSERT INTO log.leaf VALUES ('MT', 1, 0, 'x', decode(repeat('ab', 32), 'hex'))",
    "INSERT INTO ledger.session_revocation VALUES ('MT', gen_random_uuid(), now())",
    "UPDATE ledger.bet SET payout_micro = 1",
    "UPDATE ledger.heartbeat SET beat = 2",
    "SELECT 1 FROM ledger.bet FOR UPDATE",
    "CREATE SUBSCRIPTION s CONNECTION 'host=x password=y' PUBLICATION p WITH (connect = false)",
];

#[tokio::test]
async fn roles_of_the_ledger() {
    let server = Server::primary().await;
    let mut admin = server.superuser().await;
    migrate_ledger(&mut admin, &[Jurisdiction::parse("MT").unwrap()]).await.unwrap();
    let closed =
        "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'domicile%' AND rolcanlogin";
    let rows = admin.query(closed, &[]).await.unwrap();
    let logins: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        logins,
        ["domicile_replication"],
        "the writer has no login before its epoch is open"
    );

    let writer = login(&server, "domicile_writer").await;
    check(&writer, WRITER_ALLOWED, &[EVERYWHERE_DENIED, WRITER_DENIED].concat()).await;

    let replication = login(&server, "domicile_replication").await;
    check(&replication, REPLICATION_ALLOWED, &[EVERYWHERE_DENIED, REPLICATION_DENIED].concat())
        .await;
    let migrator_login =
        "SELECT 1 FROM pg_roles WHERE rolname = 'domicile_migrator' AND (rolcanlogin OR rolsuper)";
    assert!(admin.query(migrator_login, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_role_of_a_reader() {
    let server = Server::primary().await;
    migrate_reader(&mut server.superuser().await).await.unwrap();
    let config =
        domicile_postgres::PoolConfig { connect: server.config("domicile_reader", "p"), size: 1 };
    let reader = login(&server, "domicile_reader").await;
    check(&reader, READER_ALLOWED, &[EVERYWHERE_DENIED, READER_DENIED].concat()).await;
    let pool = domicile_postgres::Pool::new(config).unwrap();
    let session = pool.session().await.unwrap();
    assert_eq!(
        domicile_postgres::schema_version(&session).await.unwrap(),
        Some(domicile_postgres::READER_SCHEMA_VERSION)
    );
}
