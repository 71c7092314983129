//! What callers see while the writer moves to another region.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domicile_core::error::Code;
use domicile_router::forward::Forwarder;
use domicile_topology::record::{Record, Writes};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::task::JoinHandle;

use crate::fixture::{
    Fixture, PATIENCE, TestBody, code, problem, request, router_without_control, text, whole,
};

/// A router whose control record the test decides.
struct Moving {
    fixture: Fixture,
    addr: std::net::SocketAddr,
    forwarder: Arc<Forwarder>,
}

/// The record of an epoch.
fn record(epoch: u64, region: &str, writes: Writes) -> Record {
    let text = format!(
        r#"{{ "epoch": {epoch}, "writer_region": "{region}-1", "writer_node": "ledger-{region}", "durability": "one",
            "sync_member": null, "promotable": false, "topology_generation": 1,
            "beginning": "{}" }}"#,
        if epoch == 1 { "first" } else { "failover" },
    );
    Record { writes, ..serde_json::from_str(&text).unwrap() }
}

/// An operator's request that has one effect, however often it is sent.
fn named() -> Request<TestBody> {
    request(Method::POST, "/operator/v1/rounds", None, r#"{"request_id":"r-1"}"#)
}

/// One that has not.
fn unnamed() -> Request<TestBody> {
    request(Method::POST, "/operator/v1/rounds", None, "{}")
}

fn of_epoch(epoch: u64) -> Response<TestBody> {
    let mut answer = text(StatusCode::OK, "done");
    answer.headers_mut().insert("domicile-epoch", HeaderValue::from(epoch));
    answer
}

impl Moving {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let (addr, forwarder) = router_without_control(&fixture).await;
        let moving = Self { fixture, addr, forwarder };
        moving.follow(1, "mt", Writes::Open);
        moving
    }

    fn follow(&self, epoch: u64, region: &str, writes: Writes) {
        assert!(self.forwarder.follow_record(&record(epoch, region, writes)));
    }

    async fn sending(&self, request: Request<TestBody>) -> JoinHandle<Response<Bytes>> {
        let mut caller = self.fixture.h1_to(self.addr).await;
        tokio::spawn(async move { whole(caller.send_request(request).await.unwrap()).await })
    }

    async fn send(&self, request: Request<TestBody>) -> Response<Bytes> {
        self.sending(request).await.await.unwrap()
    }

    fn asked(&self, node: &str) -> usize {
        self.fixture.node(node).seen().len()
    }

    /// Waits until the node was asked so often.
    async fn until_asked(&self, node: &str, times: usize) {
        let asked = async {
            while self.asked(node) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap();
    }

    /// The connection to this writer breaks once a request has arrived.
    fn breaks(&self, node: &str) {
        self.fixture.node(node).answers(|request| async move {
            assert_eq!(request.uri().path(), "/readyz", "expected in this test: torn down");
            text(StatusCode::OK, "ready")
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_while_the_writer_closes_and_goes_to_the_next() {
    let moving = Moving::new().await;
    let opens = Arc::new(AtomicU64::new(1));
    let state = opens.clone();
    // The new writer refuses until its epoch is open, which no record announces.
    moving.fixture.node("writer-de").answers_with(move || match state.load(Ordering::SeqCst) {
        1 => problem(Code::NotWriter),
        epoch => of_epoch(epoch),
    });
    moving.follow(1, "mt", Writes::Closing);
    let waiting = [moving.sending(named()).await, moving.sending(unnamed()).await];
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(moving.asked("writer-mt"), 0, "it takes no more work");
    moving.follow(2, "de", Writes::Open);
    moving.until_asked("writer-de", 4).await;
    opens.store(2, Ordering::SeqCst);
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["domicile-epoch"]),
            (StatusCode::OK, &HeaderValue::from(2))
        );
    }
    assert_eq!(moving.asked("writer-mt"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_called_off_lets_the_writes_go_on_at_once() {
    let moving = Moving::new().await;
    moving.follow(1, "mt", Writes::Closing);
    let waiting = moving.sending(unnamed()).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(!waiting.is_finished());
    moving.follow(1, "mt", Writes::Open);
    assert_eq!(waiting.await.unwrap().body(), "writer-mt");
    assert_eq!(moving.asked("writer-mt"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_without_a_record_refuses_writes() {
    let fixture = Fixture::new().await;
    let (addr, _) = router_without_control(&fixture).await;
    let answer = fixture.h1_to(addr).await.send_request(unnamed()).await.unwrap();
    assert_eq!(code(&whole(answer).await), "writer-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_write_is_sent_again_only_if_it_has_one_effect() {
    let moving = Moving::new().await;
    moving.breaks("writer-mt");
    moving.fixture.node("writer-de").answers_with(|| of_epoch(2));
    let answer = moving.send(unnamed()).await;
    assert_eq!((code(&answer).as_str(), moving.asked("writer-mt")), ("outcome-unknown", 1));
    assert!(answer.headers().contains_key("retry-after"));

    let waiting = moving.sending(named()).await;
    moving.until_asked("writer-mt", 3).await;
    moving.follow(2, "de", Writes::Open);
    assert_eq!(waiting.await.unwrap().body(), "done");
    assert_eq!(moving.asked("writer-de"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_takes_back_that_a_fate_is_unknown() {
    let moving = Moving::new().await;
    moving.breaks("writer-mt");
    let waiting = moving.sending(named()).await;
    moving.until_asked("writer-mt", 1).await;
    moving.fixture.node("writer-mt").answers_with(|| problem(Code::WriterOverloaded));
    let answer = waiting.await.unwrap();
    assert_eq!(code(&answer), "outcome-unknown");
    assert!(moving.asked("writer-mt") > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_an_ended_epoch_is_not_passed_on() {
    let moving = Moving::new().await;
    moving.follow(7, "mt", Writes::Open);
    moving.fixture.node("writer-mt").answers_with(|| of_epoch(6));
    let answer = moving.send(unnamed()).await;
    assert_eq!(code(&answer), "outcome-unknown");
    assert_eq!(moving.asked("writer-mt"), 1);
    moving.fixture.node("writer-mt").answers_with(|| of_epoch(7));
    assert_eq!(moving.send(unnamed()).await.status(), StatusCode::OK);
    moving.fixture.node("writer-mt").answers_with(|| of_epoch(8));
    assert_eq!(moving.send(unnamed()).await.status(), StatusCode::OK, "it knows more than we do");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_record_is_not_followed() {
    let moving = Moving::new().await;
    moving.follow(3, "de", Writes::Open);
    assert!(!moving.forwarder.follow_record(&record(2, "mt", Writes::Open)));
    assert_eq!(moving.send(unnamed()).await.body(), "writer-de");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_hangs_is_not_waited_for_once_another_region_writes() {
    let moving = Moving::new().await;
    moving.fixture.node("writer-mt").answers(|_| std::future::pending());
    moving.fixture.node("writer-de").answers_with(|| of_epoch(2));
    let waiting = moving.sending(named()).await;
    let left_alone = moving.sending(unnamed()).await;
    moving.until_asked("writer-mt", 2).await;
    let begun = Instant::now();
    moving.follow(2, "de", Writes::Open);
    assert_eq!(waiting.await.unwrap().body(), "done");
    assert_eq!(code(&left_alone.await.unwrap()), "outcome-unknown");
    assert!(begun.elapsed() < Duration::from_secs(15), "well before the write's own deadline");
    assert_eq!((moving.asked("writer-mt"), moving.asked("writer-de")), (2, 1));
}
