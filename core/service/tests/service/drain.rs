//! Leaving in order.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use domicile_service::admin;
use domicile_service::client::HttpClient;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::health::Readiness;
use domicile_service::listener::ListenerLimits;
use domicile_service::peer::Role;
use domicile_service::testing::TestCa;
use tokio::net::TcpStream;

use crate::support::{LOCAL, Server, client, eventually};

fn slow(time: Duration) -> Router {
    let slow = get(async move || {
        tokio::time::sleep(time).await;
        "finished"
    });
    Router::new().route("/slow", slow).route("/", get(|| std::future::ready("hello")))
}

async fn ask(client: &HttpClient, url: String) -> http::Response<Bytes> {
    client.send(http::Request::get(url).body(Bytes::new()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn work_in_flight_finishes_and_nothing_new_is_taken() {
    let ca = TestCa::new();
    let tls = Some(ca.server(Role::Writer, "writer-a"));
    let limits = DrainLimits { grace_ms: 300, wait_ms: 10_000 };
    let routes = slow(Duration::from_millis(1_200));
    let server = Server::start(tls, ListenerLimits::default(), limits, routes).await;
    let readiness = Readiness::new(server.drain.clone());
    readiness.check("work").pass("can be done");
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    let admin = admin::start(LOCAL, &readiness, metrics, Router::new()).await.unwrap();

    let tls = ca.client(Role::Router, "router-a");
    let http = client(&tls);
    let ready = format!("http://{admin}/readyz");
    assert_eq!(ask(&http, ready.clone()).await.status(), 200);
    assert_eq!(ask(&http, format!("http://{admin}/healthz")).await.status(), 200);
    assert_eq!(ask(&http, format!("http://{admin}/metrics")).await.status(), 200);
    assert_eq!(ask(&http, format!("http://{admin}/nothing")).await.status(), 404);

    let mut idle = server.raw(&tls).await;
    assert!(idle.get("/").await.ends_with("hello"));
    let mut h1 = server.raw(&tls).await;
    h1.send("GET /slow HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let h2 = tokio::spawn({
        let (http, url) = (http.clone(), server.url("/slow"));
        async move { ask(&http, url).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.drain.begin("test");

    let not_ready = ask(&http, ready.clone()).await;
    assert_eq!(not_ready.status(), 503, "readiness fails first");
    let report: serde_json::Value = serde_json::from_slice(not_ready.body()).unwrap();
    assert_eq!(report["checks"]["drain"]["detail"], "draining");
    let fresh = client(&ca.client(Role::Router, "router-b"));
    assert_eq!(ask(&fresh, server.url("/")).await.status(), 200, "and the rest still works");

    idle.closed().await;
    eventually("new connections are refused", async || {
        TcpStream::connect(server.addr).await.is_err()
    })
    .await;
    assert!(h1.answer().await.ends_with("finished"));
    let answer = h2.await.unwrap();
    assert_eq!((answer.version(), &answer.body()[..]), (http::Version::HTTP_2, &b"finished"[..]));
    let report = server.ended.await.unwrap();
    assert_eq!(report.aborted, 0, "{report:?}");
    assert!(report.finished >= 3, "{report:?}");
    assert_eq!(ask(&http, ready).await.status(), 503, "the admin listener stays");
}

#[tokio::test]
async fn what_does_not_finish_is_cut_off_and_reported() {
    let limits = DrainLimits { grace_ms: 0, wait_ms: 300 };
    let routes = slow(Duration::from_mins(1));
    let server = Server::start(None, ListenerLimits::default(), limits, routes).await;
    let mut stuck = server.raw_plain().await;
    stuck.send("GET /slow HTTP/1.1\r\nhost: here\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    server.drain.begin("test");
    let report = server.ended.await.unwrap();
    assert_eq!((report.finished, report.aborted), (0, 1));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(stuck.closed().await, "");
}

#[tokio::test]
async fn sigterm_begins_to_leave() {
    let drain = Drain::new(DrainLimits { grace_ms: 0, wait_ms: 0 });
    drain.on_signals().unwrap();
    assert!(!drain.has_begun());
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), drain.closing()).await.unwrap();
    drain.begun().await;
}

#[test]
fn the_wait_has_a_ceiling() {
    let drain = Drain::new(DrainLimits { grace_ms: 0, wait_ms: u64::MAX });
    assert_eq!(drain.wait(), Duration::from_mins(1));
}
