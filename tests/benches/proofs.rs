//! Proofs read per second: at the reader beside a prepared `pgbench` select on its own database, and through
//! the router beside HAProxy, which checks the same tokens in front of the same reader.

use crate::haproxy::{self, HaProxy};
use crate::load::{self, Caller};
use crate::pgbench::{self, Pgbench};
use crate::report::{Report, Sample};
use crate::scene::Scene;
use crate::tokens;
use crate::wire::{Answer, Target};
use domicile_tests::database;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

const RUNS: usize = 3;
const RUN_TIME: Duration = Duration::from_secs(2);
/// How long making the proofs that are asked for again and again may take.
const WARM_WITHIN: Duration = Duration::from_secs(20);
/// Connections to the reader and of pgbench.
const READER_CALLERS: usize = 16;
/// Connections to the proxies.
const ROUTER_CALLERS: usize = 64;
/// Rounds whose finished proofs are asked for again and again.
const HOT_ROUNDS: usize = 2_000;
/// A shared secret for the HS256 yardstick.
const SECRET: &str = "a-secret-of-this-benchmark-alone";

/// Hot, cold and the yardstick.
pub(crate) async fn at_the_reader(scene: &Scene, report: &mut Report) {
    let target = scene.reader();
    let (hot, cold) = scene.rounds.split_at(HOT_ROUNDS.min(scene.rounds.len() / 2));
    let hot = Arc::new(requests(scene, &target, hot));
    let replica = database::connect(&scene.cluster, "reader-mt").await;
    keep_in_a_table(&replica, &target, &hot).await;
    // Each run asks for rounds that nobody asked for before, until its time is over or all are asked for.
    let cold = requests(scene, &target, cold);
    let mut cold = cold.chunks(cold.len().div_ceil(RUNS)).map(|part| Arc::new(part.to_vec()));
    let script =
        format!("\\set n random(1, {})\nSELECT body FROM bench.proof WHERE n = :n;\n", hot.len());
    report.section("Proofs read at the reader (mutual TLS, token checked)");
    let mut samples = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        let cold = cold.next().expect("a part for each run");
        let asked = Arc::new(AtomicUsize::new(0));
        samples[0].push(select(scene, &replica, &script).await);
        samples[1].push(read(scene, &target, callers(&hot, None, READER_CALLERS)).await);
        samples[2].push(read(scene, &target, callers(&cold, Some(&asked), READER_CALLERS)).await);
    }
    let [select, hot, cold] = samples;
    let yardstick = report.yardstick("pgbench, prepared select by key", READER_CALLERS, &select);
    report.row("GET /v1/rounds/{id}/proof, from the cache", READER_CALLERS, &hot, yardstick);
    report.row("the same, built from the replica", READER_CALLERS, &cold, yardstick);
}

/// What each proxy does, in turns.
pub(crate) async fn through_the_router(scene: &Scene, report: &mut Report) {
    let proxy = HaProxy::start(scene, SECRET).await;
    let rounds = &scene.rounds[..HOT_ROUNDS.min(scene.rounds.len() / 2)];
    warm(scene, rounds).await;
    let haproxy = proxy.processes();
    let router = scene.processes(&["router-mt/router"]);
    let es256 = Headers::Es256;
    let ways = [
        ("HAProxy, ES256", scene.public(&proxy.url(haproxy::Check::Es256)), es256, &haproxy),
        (
            "HAProxy, HS256",
            scene.public(&proxy.url(haproxy::Check::Hs256)),
            Headers::Hs256,
            &haproxy,
        ),
        ("HAProxy, no check", scene.public(&proxy.url(haproxy::Check::None)), es256, &haproxy),
        ("router, ES256 and jurisdiction", scene.router(), es256, &router),
    ];
    let mut samples = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for ((_, target, headers, processes), samples) in ways.iter().zip(&mut samples) {
            let requests = Arc::new(signed(scene, target, rounds, *headers));
            let callers = callers(&requests, None, ROUTER_CALLERS);
            let (sample, _) = load::run(target, callers, RUN_TIME, processes).await;
            samples.push(sample);
        }
    }
    report.section(
        "Proofs read through a proxy to that reader (TLS, cached there; cpu of the proxy alone)",
    );
    let yardstick = report.yardstick(ways[0].0, ROUTER_CALLERS, &samples[0]);
    for ((name, ..), samples) in ways.iter().zip(&samples).skip(1) {
        report.row(name, ROUTER_CALLERS, samples, yardstick);
    }
}

/// Asks the reader for each of these once, so that it has what all proxies ask for.
async fn warm(scene: &Scene, rounds: &[String]) {
    let target = scene.reader();
    let all = Arc::new(requests(scene, &target, rounds));
    let asked = Arc::new(AtomicUsize::new(0));
    let reader = scene.processes(&["reader-mt/reader"]);
    let callers = callers(&all, Some(&asked), READER_CALLERS);
    load::run(&target, callers, WARM_WITHIN, &reader).await;
    assert!(asked.load(Ordering::Relaxed) >= all.len(), "NOT RUN: the reader is not warm in time");
}

#[derive(Clone, Copy)]
enum Headers {
    Es256,
    /// HAProxy checks the first token and puts the second one, for the reader, in its place.
    Hs256,
}

/// One request per round, under the tokens of all sessions in turn.
fn requests(scene: &Scene, target: &Target, rounds: &[String]) -> Vec<Vec<u8>> {
    let tokens = scene.seats.iter().map(|seat| format!("authorization: Bearer {}\r\n", seat.token));
    asking(target, rounds, &tokens.collect::<Vec<_>>())
}

fn signed(scene: &Scene, target: &Target, rounds: &[String], headers: Headers) -> Vec<Vec<u8>> {
    let header = |token: &str| format!("authorization: Bearer {token}\r\n");
    let lines = scene.seats.iter().take(ROUTER_CALLERS).map(|seat| {
        let token = scene.key.token(&seat.claims);
        match headers {
            Headers::Es256 => header(&token),
            Headers::Hs256 => {
                let hs256 = header(&tokens::hs256(SECRET, &seat.claims));
                format!("{hs256}{}: Bearer {token}\r\n", haproxy::SECOND_TOKEN)
            }
        }
    });
    asking(target, rounds, &lines.collect::<Vec<_>>())
}

fn asking(target: &Target, rounds: &[String], headers: &[String]) -> Vec<Vec<u8>> {
    let request = |(round, headers): (&String, &String)| {
        target.request("GET", &format!("/v1/rounds/{round}/proof"), headers, "")
    };
    rounds.iter().zip(headers.iter().cycle()).map(request).collect()
}

/// The same bytes that the reader serves, in a table of its database for pgbench to select.
async fn keep_in_a_table(replica: &Client, target: &Target, requests: &[Vec<u8>]) {
    let make = "DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench; \
         CREATE TABLE bench.proof (n int PRIMARY KEY, body text NOT NULL)";
    replica.batch_execute(make).await.expect("the yardstick's table");
    let mut connection = target.open().await;
    let mut bodies = Vec::with_capacity(requests.len());
    for request in requests {
        let answer = connection.exchange(request).await;
        assert!(answer.status == 200, "NOT RUN: a proof got {}", answer.status);
        bodies.push(String::from_utf8(answer.body.to_vec()).expect("text"));
    }
    let fill = "INSERT INTO bench.proof SELECT n, body FROM unnest($1::text[]) WITH ORDINALITY AS i(body, n)";
    replica.execute(fill, &[&bodies]).await.expect("fill the table");
    replica.batch_execute("VACUUM ANALYZE bench.proof").await.expect("vacuum the table");
}

async fn select(scene: &Scene, replica: &Client, script: &str) -> Sample {
    // Writing down each of so many latencies would slow pgbench itself.
    let sampling = "0.05";
    let connections = READER_CALLERS;
    let pgbench = Pgbench { node: "reader-mt", script, connections, time: RUN_TIME, sampling };
    pgbench::run(scene, replica, &pgbench).await
}

async fn read(scene: &Scene, target: &Target, callers: Vec<ProofCaller>) -> Sample {
    let processes = scene.processes(&["reader-mt/reader", "reader-mt/postgres"]);
    let (sample, _) = load::run(target, callers, RUN_TIME, &processes).await;
    sample
}

fn callers(
    requests: &Arc<Vec<Vec<u8>>>,
    once: Option<&Arc<AtomicUsize>>,
    count: usize,
) -> Vec<ProofCaller> {
    let caller = |number| ProofCaller {
        requests: Arc::clone(requests),
        next: number,
        step: count,
        once: once.map(Arc::clone),
    };
    (0..count).map(caller).collect()
}

/// Asks for proofs; `once` is the place of the next one that nobody has asked for.
struct ProofCaller {
    requests: Arc<Vec<Vec<u8>>>,
    next: usize,
    step: usize,
    once: Option<Arc<AtomicUsize>>,
}

impl Caller for ProofCaller {
    fn request(&mut self) -> Option<Vec<u8>> {
        if let Some(once) = &self.once {
            return self.requests.get(once.fetch_add(1, Ordering::Relaxed)).cloned();
        }
        self.next = (self.next + self.step) % self.requests.len();
        self.requests.get(self.next).cloned()
    }

    fn answer(&mut self, answer: &Answer<'_>) -> bool {
        let said = || String::from_utf8_lossy(answer.body).into_owned();
        assert!(answer.status == 200, "NOT RUN: a proof got {}: {}", answer.status, said());
        true
    }
}
