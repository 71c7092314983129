//! Sessions and statements on one server: what is reused, what is refused, what errors tell.

#![cfg(test)]

mod cluster;

use cluster::{Server, eventually};
use domicile_postgres::{Class, CommitError, Pool, PoolState, connect, schema_version};
use std::sync::Arc;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(10);

async fn server() -> (Server, Pool) {
    let server = Server::primary().await;
    let admin = server.superuser().await;
    admin
        .batch_execute("CREATE TABLE thing (id int PRIMARY KEY, name text CHECK (name <> ''))")
        .await
        .unwrap();
    let pool = Pool::new(server.pool_config(2)).unwrap();
    (server, pool)
}

#[tokio::test]
async fn a_clean_session_is_reused_and_a_busy_one_is_not() {
    let (_server, pool) = server().await;
    let mut session = pool.session().await.unwrap();
    let tx = session.begin().await.unwrap();
    let insert = "INSERT INTO thing VALUES ($1, $2)";
    let both = tokio::join!(tx.execute(insert, &[&1, &"a"]), tx.execute(insert, &[&2, &"b"]));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (1, 1));
    tx.commit(LONG).await.unwrap();
    drop(session);
    assert_eq!(pool.state(), PoolState { size: 2, taken: 0, abandoned: 0, idle: 1 });

    // Dropped without commit: rolled back, and clean again.
    let mut session = pool.session().await.unwrap();
    let tx = session.begin().await.unwrap();
    tx.execute("DELETE FROM thing", &[]).await.unwrap();
    drop(tx);
    assert_eq!(session.query("SELECT 1 FROM thing", &[]).await.unwrap().len(), 2);
    drop(session);
    assert_eq!(pool.state().idle, 1);

    // Given up on in a statement: its place is taken until the server is done with it.
    let session = pool.session().await.unwrap();
    let slow = session.query("SELECT pg_sleep(1)", &[]);
    assert!(tokio::time::timeout(Duration::from_millis(100), slow).await.is_err());
    drop(session);
    assert_eq!(pool.state(), PoolState { size: 2, taken: 1, abandoned: 1, idle: 0 });
    eventually("the place", async || pool.state().taken == 0).await;
}

#[tokio::test]
async fn connections_are_opened_ahead_and_ended_by_closing() {
    let (server, pool) = server().await;
    let size = pool.state().size;
    let busy = pool.session().await.unwrap();
    pool.warm(size + 5).await;
    let state = pool.state();
    assert_eq!((state.idle, state.taken), (size - 1, 1), "never more than the pool's size");
    pool.close();
    assert_eq!(pool.state().idle, 0);
    pool.session().await.unwrap_err();
    busy.query("SELECT 1", &[]).await.unwrap();
    drop(busy);
    let admin = server.superuser().await;
    let others = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend' \
        AND pid <> pg_backend_pid()";
    eventually("the sessions end", async || admin.query(others, &[]).await.unwrap().is_empty())
        .await;
}

#[tokio::test]
async fn a_transaction_with_a_failed_statement_is_not_executed() {
    let (_server, pool) = server().await;
    let mut session = pool.session().await.unwrap();
    let tx = session.begin().await.unwrap();
    tx.execute("INSERT INTO thing VALUES (1, 'kept')", &[]).await.unwrap();
    tx.execute("INSERT INTO thing VALUES (1, 'again')", &[]).await.unwrap_err();
    assert!(matches!(tx.commit(LONG).await, Err(CommitError::NotExecuted(_))));
    assert!(session.query("SELECT 1 FROM thing", &[]).await.unwrap().is_empty());

    // A constraint that is checked by COMMIT itself is a refusal, too, and the session lives on.
    let tx = session.begin().await.unwrap();
    let deferred = "CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    tx.batch_execute(deferred).await.unwrap();
    tx.execute("INSERT INTO late VALUES (1), (1)", &[]).await.unwrap();
    match tx.commit(LONG).await {
        Err(CommitError::NotExecuted(error)) => assert_eq!(error.class(), Class::Duplicate),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.query("SELECT 1", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn who_falls_silent_inside_a_transaction_gives_its_row_locks_back() {
    let (server, pool) = server().await;
    let admin = server.superuser().await;
    admin.execute("INSERT INTO thing VALUES (1, 'a')", &[]).await.unwrap();
    let mut frozen = pool.session().await.unwrap();
    let held = frozen.begin().await.unwrap();
    held.execute("UPDATE thing SET name = 'frozen' WHERE id = 1", &[]).await.unwrap();

    let mut other = pool.session().await.unwrap();
    let tx = other.begin().await.unwrap();
    let free = tx.execute("UPDATE thing SET name = 'other' WHERE id = 1", &[]);
    let free = tokio::time::timeout(LONG, free).await.expect("the row is free again");
    assert_eq!(free.unwrap(), 1);
    tx.commit(LONG).await.unwrap();

    // It wakes up, and what it goes on to write is not executed.
    held.execute("UPDATE thing SET name = 'late' WHERE id = 1", &[]).await.unwrap_err();
    assert!(matches!(held.commit(LONG).await, Err(CommitError::NotExecuted(_))));
    let name: String = admin.query("SELECT name FROM thing", &[]).await.unwrap()[0].get(0);
    assert_eq!(name, "other");
}

#[tokio::test]
async fn a_session_writes_in_transactions_only() {
    let (_server, pool) = server().await;
    let session = pool.session().await.unwrap();
    for write in ["INSERT INTO thing VALUES (1, 'a')", "SELECT 1 FROM thing FOR UPDATE"] {
        let refused = session.query(write, &[]).await.unwrap_err();
        assert_eq!(refused.class(), Class::ReadOnly, "{refused}");
    }
    assert_eq!(schema_version(&session).await.unwrap(), None);
}

#[tokio::test]
async fn errors_tell_their_class_and_no_value() {
    let (server, pool) = server().await;
    let admin = server.superuser().await;
    admin.execute("INSERT INTO thing VALUES (4711, 'secret')", &[]).await.unwrap();
    let insert = "INSERT INTO thing VALUES ($1, $2)";
    let cases = [
        (admin.execute(insert, &[&4711, &"secret"]).await, Class::Duplicate, Some("thing_pkey")),
        (admin.execute(insert, &[&5, &""]).await, Class::Constraint, Some("thing_name_check")),
        (admin.execute("SELECT $1::text::uuid", &[&"secret"]).await, Class::Fault, None),
        (admin.execute(insert, &[&"secret", &"secret"]).await, Class::Fault, None),
        (admin.execute("SELECT 1 FROM nothing", &[]).await, Class::Fault, None),
    ];
    for (outcome, class, constraint) in cases {
        let error = outcome.unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!((error.class(), error.constraint()), (class, constraint), "{text}");
        assert!(!text.contains("4711") && !text.contains("secret"), "{text}");
    }

    let holder = async {
        let mut session = pool.session().await.unwrap();
        let tx = session.begin().await.unwrap();
        tx.execute("LOCK TABLE thing", &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let waiter = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        admin.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
        admin.query("SELECT 1 FROM thing", &[]).await.unwrap_err().class()
    };
    assert_eq!(tokio::join!(holder, waiter).1, Class::Contention);
    admin.batch_execute("SET statement_timeout = '50ms'").await.unwrap();
    let slow = admin.query("SELECT pg_sleep(5)", &[]).await.unwrap_err();
    assert_eq!(slow.class(), Class::Timeout);
}

#[tokio::test]
async fn an_unfit_server_or_login_is_refused() {
    let (server, _pool) = server().await;
    let admin = server.superuser().await;
    let roles = "CREATE ROLE local LOGIN PASSWORD 'p'; ALTER ROLE local SET synchronous_commit = local; \
                 CREATE ROLE outsider NOLOGIN PASSWORD 'p'";
    admin.batch_execute(roles).await.unwrap();
    let error = connect(&server.config("local", "p")).await.unwrap_err();
    assert!(error.to_string().contains("synchronous_commit is local"), "{error}");
    let error = connect(&server.config("local", "wrong")).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{error}");
    let error = connect(&server.config("outsider", "p")).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied, "{error}");

    // With TLS configured, a server without it is no server.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut config = server.config("postgres", "irrelevant");
    config.tls = Some(Arc::new(tls));
    connect(&config).await.unwrap_err();

    let mut config = server.config("postgres", "irrelevant");
    config.port = 1;
    assert_eq!(connect(&config).await.unwrap_err().class(), Class::Unavailable);
    let debug = format!("{:?}", server.pool_config(1));
    assert!(!debug.contains(&server.password), "{debug}");
}
