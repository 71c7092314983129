//! What routers are told of revocations: all of them, however many at once and however late one commits.

use crate::bench::Bench;
use crate::cluster::eventually;
use domicile_postgres::Connection;
use domicile_service::peer::Role;
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

/// More than two pages.
const MANY: u64 = 25_000;
/// A router's longest wait for one answer.
const ROUTER_WAITS: Duration = Duration::from_secs(2);

/// A router: what it knows, and where it stands.
#[derive(Default)]
struct Asking {
    cursor: Option<String>,
    known: HashSet<String>,
    answers: usize,
}

impl Asking {
    /// Asks once; whether to ask again at once.
    async fn ask(&mut self, bench: &Bench) -> bool {
        let path = match &self.cursor {
            Some(cursor) => format!("/feed/v1/revocations?after={cursor}"),
            None => "/feed/v1/revocations".to_owned(),
        };
        let answer = bench.send(Role::Router, "GET", &path, &[], b"").await;
        if answer.status == 204 {
            return false;
        }
        self.answers += 1;
        let told = answer.expect(200);
        self.cursor = told["cursor"].as_str().map(ToOwned::to_owned);
        let session = |one: &Value| one["session"].as_str().unwrap().to_owned();
        self.known.extend(told["revoked"].as_array().unwrap().iter().map(session));
        told["more"].as_bool().unwrap()
    }

    /// Asks as a router does in one second.
    async fn poll(&mut self, bench: &Bench) {
        while self.ask(bench).await {}
    }
}

fn id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

async fn revoke(on: &Connection, first: u64, last: u64, ago: &str) {
    let sql = format!(
        "INSERT INTO ledger.session_revocation (jurisdiction, session_id, revoked_at) SELECT 'MT', \
         ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, now() - interval '{ago}' \
         FROM generate_series({first}, {last}) n"
    );
    on.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn a_great_cut_and_a_late_commit_are_told_in_full() {
    let bench = Bench::new().await;
    let late = bench.server.superuser().await;
    let mut router = Asking::default();
    router.poll(&bench).await;
    assert_eq!(router.cursor, None, "nothing was told, so there is nowhere to go on from");

    // It takes its time and its number first, and is seen last.
    late.batch_execute("BEGIN").await.unwrap();
    revoke(&late, 1, 1, "10 minutes").await;
    revoke(&bench.admin, 1_001, 1_000 + MANY, "0").await;
    router.poll(&bench).await;
    assert_eq!(router.known.len() as u64, MANY);
    assert_eq!(router.answers, 3, "three pages");
    revoke(&bench.admin, 2, 2, "0").await;
    router.poll(&bench).await;
    assert!(router.known.contains(&id(2)) && !router.known.contains(&id(1)));

    late.batch_execute("COMMIT").await.unwrap();
    router.poll(&bench).await;
    assert!(router.known.contains(&id(1)), "dated and numbered before what was told already");

    let mut anew = Asking::default();
    anew.poll(&bench).await;
    assert_eq!(anew.known.len() as u64, MANY + 2);
    revoke(&bench.admin, 3, 3, "2 hours").await;
    revoke(&bench.admin, 4, 4, "0").await;
    let mut other_epoch = Asking { cursor: Some(format!("7.9.{}.", id(9))), ..Asking::default() };
    other_epoch.poll(&bench).await;
    assert_eq!(other_epoch.known.len() as u64, MANY + 4, "a cursor of another epoch begins anew");
}

#[tokio::test]
async fn an_answer_that_tells_nothing_waits_for_nobody() {
    let bench = Bench::new().await;
    revoke(&bench.admin, 1, 1, "0").await;
    let mut router = Asking::default();
    // Told until the transactions that were under way then are over.
    for _ in 0..100 {
        let before = router.answers;
        router.poll(&bench).await;
        if router.answers == before {
            break;
        }
    }
    let told = router.answers;
    bench.server.configure("synchronous_standby_names = 'nobody'");
    bench.server.reload();
    // The heartbeat's commit is one.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("commits wait", async || bench.count(waits).await > 0).await;
    bench.admin.batch_execute("SET synchronous_commit = local").await.unwrap();
    let still = tokio::time::timeout(ROUTER_WAITS, router.poll(&bench)).await;
    assert!(still.is_ok(), "nothing new is told without a commit");
    assert_eq!(router.answers, told);
    revoke(&bench.admin, 2, 2, "0").await;
    assert!(tokio::time::timeout(ROUTER_WAITS, router.poll(&bench)).await.is_err());
    assert!(!router.known.contains(&id(2)), "what the second region lacks is not told");
}
