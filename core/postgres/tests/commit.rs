//! A commit says durable only when two servers hold it, and a session given up on keeps its place.

#![cfg(test)]

mod cluster;

use cluster::{Server, eventually};
use domicile_postgres::{
    AnswerGuard, Class, CommitError, Connection, Durable, Pool, PoolState, Session, UnknownCause,
    Wait, wait,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(400);

async fn pool(server: &Server, size: usize) -> Pool {
    let admin = server.superuser().await;
    admin.batch_execute("CREATE TABLE IF NOT EXISTS thing (id int PRIMARY KEY)").await.unwrap();
    Pool::new(server.pool_config(size)).unwrap()
}

async fn insert(
    session: &mut Session,
    id: i32,
    deadline: Duration,
) -> Result<Durable, CommitError> {
    let tx = session.begin().await.unwrap();
    tx.execute("INSERT INTO thing VALUES ($1)", &[&id]).await.unwrap();
    tx.commit(deadline).await
}

async fn count(admin: &Connection, id: i32) -> usize {
    admin.query("SELECT 1 FROM thing WHERE id = $1", &[&id]).await.unwrap().len()
}

fn cause(outcome: Result<Durable, CommitError>) -> UnknownCause {
    match outcome {
        Err(CommitError::Unknown(cause)) => cause,
        other => panic!("expected an unknown outcome, got {other:?}"),
    }
}

async fn pair() -> (Server, Server) {
    let primary = Server::primary().await;
    let standby = Server::standby_of(&primary, "second").await;
    primary.require_standby("second").await;
    (primary, standby)
}

/// Acts on the one session that waits for the standby.
async fn on_waiting(admin: &Connection, function: &str) {
    let sql = format!("SELECT {function}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    eventually("a commit in its wait for the standby", async || {
        !admin.query(&sql, &[]).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_commit_without_the_standby_is_unknown_and_keeps_its_place() {
    let (primary, mut standby) = pair().await;
    let pool = pool(&primary, 2).await;
    let admin = primary.superuser().await;
    let mut session = pool.session().await.unwrap();
    insert(&mut session, 1, LONG).await.unwrap();

    standby.stop();
    let begun = Instant::now();
    assert_eq!(cause(insert(&mut session, 2, SHORT).await), UnknownCause::Deadline);
    assert!(begun.elapsed() < SHORT * 3, "the deadline was kept: {:?}", begun.elapsed());
    let refused = session.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(refused.class(), Class::Unavailable, "the session never serves again: {refused}");
    drop(session);
    assert_eq!(pool.state(), PoolState { size: 2, taken: 1, abandoned: 1, idle: 0 });

    // A commit that nobody waits for any more is given up on just the same.
    let mut session = pool.session().await.unwrap();
    let given_up = tokio::time::timeout(SHORT, insert(&mut session, 3, LONG)).await;
    assert!(given_up.is_err());
    drop(session);
    assert_eq!(pool.state(), PoolState { size: 2, taken: 2, abandoned: 2, idle: 0 });
    let refused = tokio::time::timeout(Duration::ZERO, pool.session()).await;
    assert_eq!(refused.expect("refused at once").unwrap_err().class(), Class::Exhausted);
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    assert_eq!(admin.query(waiting, &[]).await.unwrap().len(), 2, "nothing was cancelled");

    standby.start().await;
    eventually("the places of both sessions", async || {
        pool.state() == PoolState { size: 2, taken: 0, abandoned: 0, idle: 0 }
    })
    .await;
    assert_eq!((count(&admin, 2).await, count(&admin, 3).await), (1, 1));
    insert(&mut pool.session().await.unwrap(), 4, LONG).await.unwrap();
}

#[tokio::test]
async fn a_wait_that_somebody_ended_is_never_durable() {
    let (primary, mut standby) = pair().await;
    let pool = pool(&primary, 4).await;
    let admin = primary.superuser().await;
    let mut cancelled = pool.session().await.unwrap();
    let mut terminated = pool.session().await.unwrap();
    standby.stop();

    let (outcome, ()) =
        tokio::join!(insert(&mut cancelled, 1, LONG), on_waiting(&admin, "pg_cancel_backend"));
    assert_eq!(cause(outcome), UnknownCause::SyncWarning);
    assert_eq!(
        count(&admin, 1).await,
        1,
        "it is committed here, and the server called it a success"
    );

    let (outcome, ()) =
        tokio::join!(insert(&mut terminated, 2, LONG), on_waiting(&admin, "pg_terminate_backend"));
    assert_eq!(cause(outcome), UnknownCause::AdminTerminated);

    // Outside a transaction a statement commits by itself: its success is not believed either.
    let agent = primary.superuser().await;
    let (outcome, ()) = tokio::join!(
        agent.execute("INSERT INTO thing VALUES ($1)", &[&3]),
        on_waiting(&admin, "pg_cancel_backend")
    );
    assert_eq!(outcome.unwrap_err().class(), Class::Unconfirmed);
    assert!(agent.is_closed());
}

#[tokio::test]
async fn a_commit_that_wrote_nothing_waits_all_the_same() {
    let (primary, mut standby) = pair().await;
    let pool = pool(&primary, 4).await;
    insert(&mut pool.session().await.unwrap(), 1, LONG).await.unwrap();
    standby.stop();
    let statements = [
        "SELECT id FROM thing",
        "INSERT INTO thing VALUES (1) ON CONFLICT DO NOTHING",
        "UPDATE thing SET id = id WHERE id = 99",
    ];
    for statement in statements {
        let mut session = pool.session().await.unwrap();
        let tx = session.begin().await.unwrap();
        tx.execute(statement, &[]).await.unwrap();
        assert_eq!(cause(tx.commit(SHORT).await), UnknownCause::Deadline, "{statement}");
    }
    let mut session = pool.session().await.unwrap();
    let tx = session.begin().await.unwrap();
    tx.fence().await.unwrap();
    assert_eq!(cause(tx.commit(SHORT).await), UnknownCause::Deadline);
}

#[tokio::test]
async fn a_server_that_dies_in_a_commit_leaves_it_unknown() {
    let (mut primary, mut standby) = pair().await;
    let pool = pool(&primary, 1).await;
    let mut session = pool.session().await.unwrap();
    standby.stop();
    let (outcome, ()) = tokio::join!(insert(&mut session, 1, LONG), async {
        tokio::time::sleep(SHORT).await;
        primary.kill();
    });
    let cause = cause(outcome);
    let ended = [UnknownCause::ConnectionLost, UnknownCause::AdminTerminated];
    assert!(ended.contains(&cause), "{cause}");
    drop(session);
    eventually("the place", async || pool.state().taken == 0).await;
    assert_eq!(pool.session().await.unwrap_err().class(), Class::Unavailable);
}

/// Holds as long as the test lets it.
#[derive(Debug, Default)]
struct Switch(AtomicBool);

impl AnswerGuard for Switch {
    fn holds(&self, _wait: Wait) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn rests_on_wait(&self) -> bool {
        false
    }

    fn heard(&self, _wait: Wait) {}
}

/// Rests on the wait for the second region, and on nothing else.
#[derive(Debug, Default)]
struct Fenced(Mutex<Vec<Wait>>);

impl AnswerGuard for Fenced {
    fn holds(&self, wait: Wait) -> bool {
        wait == Wait::Kept
    }

    fn rests_on_wait(&self) -> bool {
        true
    }

    fn heard(&self, wait: Wait) {
        self.0.lock().unwrap().push(wait);
    }
}

#[tokio::test]
async fn a_session_whose_commits_wait_for_nobody_tells_nothing_to_who_rests_on_the_wait() {
    let (primary, _standby) = pair().await;
    let admin = primary.superuser().await;
    admin.batch_execute("CREATE TABLE thing (id int PRIMARY KEY)").await.unwrap();
    let guard = Arc::new(Fenced::default());
    let pool = Pool::guarded(primary.pool_config(4), guard.clone()).unwrap();
    let mut fenced = pool.session().await.unwrap();
    insert(&mut fenced, 1, LONG).await.unwrap();

    // As the agent does it: nobody asks meanwhile, who rests on the wait is ended, then it is taken down.
    let taking = primary.superuser().await;
    taking.batch_execute(wait::TAKE_DOWN_SQL).await.unwrap();
    let asking = tokio::spawn({
        let pool = pool.clone();
        async move { pool.session().await }
    });
    eventually("somebody asks", async || {
        !taking.query(wait::ASKING_SQL, &[]).await.unwrap().is_empty()
    })
    .await;
    let fenced_pid: i32 = fenced.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    admin.query("SELECT pg_terminate_backend($1)", &[&fenced_pid]).await.unwrap();
    primary.configure("synchronous_standby_names = ''");
    primary.reload();
    eventually("the wait is down", async || {
        let fresh = primary.superuser().await;
        let sql = "SELECT current_setting('synchronous_standby_names')";
        fresh.query_one(sql, &[]).await.unwrap().get::<_, String>(0).is_empty()
    })
    .await;
    assert!(!asking.is_finished(), "it asks only when the wait is down");
    assert!(matches!(
        cause(insert_or_lost(&mut fenced, 2).await),
        UnknownCause::ConnectionLost | UnknownCause::AdminTerminated
    ));
    drop(taking);

    let mut unfenced = asking.await.unwrap().unwrap();
    assert_eq!(
        *guard.0.lock().unwrap(),
        [Wait::Kept, Wait::NotKnown],
        "it was waiting with an older setting"
    );
    assert_eq!(cause(insert(&mut unfenced, 3, LONG).await), UnknownCause::NotGuarded);
    assert_eq!(count(&admin, 3).await, 1, "the server has it");
    drop(unfenced);

    primary.require_standby("second").await;
    let mut again = pool.session().await.unwrap();
    insert(&mut again, 4, LONG).await.unwrap();
    assert_eq!(guard.0.lock().unwrap().last(), Some(&Wait::Kept), "asked anew");
}

/// As [`insert`]; a session that is over counts as an unknown outcome.
async fn insert_or_lost(session: &mut Session, id: i32) -> Result<Durable, CommitError> {
    let lost = |_| CommitError::Unknown(UnknownCause::ConnectionLost);
    let tx = session.begin().await.map_err(lost)?;
    tx.execute("INSERT INTO thing VALUES ($1)", &[&id]).await.map_err(lost)?;
    tx.commit(LONG).await
}

#[tokio::test]
async fn a_commit_whose_guard_does_not_hold_is_unknown_although_the_server_confirmed() {
    let server = Server::primary().await;
    let admin = server.superuser().await;
    admin.batch_execute("CREATE TABLE thing (id int PRIMARY KEY)").await.unwrap();
    let switch = Arc::new(Switch::default());
    let pool = Pool::guarded(server.pool_config(2), switch.clone()).unwrap();
    let mut session = pool.session().await.unwrap();
    assert_eq!(cause(insert(&mut session, 1, LONG).await), UnknownCause::NotGuarded);
    assert_eq!(count(&admin, 1).await, 1, "the server has it");
    switch.0.store(true, Ordering::Release);
    let mut session = pool.session().await.unwrap();
    insert(&mut session, 2, LONG).await.unwrap();
}
