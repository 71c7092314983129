//! Clients that hold on to things, send too much, or are too many.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use domicile_core::error::Code;
use domicile_service::body::{self, BodyLimits};
use domicile_service::drain::DrainLimits;
use domicile_service::listener::{ListenerLimits, SHED_MAX_CONNECTIONS};
use domicile_service::peer::Role;
use domicile_service::problem::Problem;
use domicile_service::testing::TestCa;

use crate::support::{Server, client, eventually, whoami};

const SHORT: ListenerLimits = ListenerLimits {
    max_connections: 1_000,
    handshake_timeout_ms: 300,
    header_read_timeout_ms: 300,
    idle_timeout_ms: 600,
    max_header_bytes: 8 * 1024,
    max_streams: 8,
};

fn hello() -> Router {
    Router::new().route("/", get(|| std::future::ready("hello")))
}

#[tokio::test]
async fn headers_that_trickle_are_cut_off() {
    let server = Server::plain(SHORT, hello()).await;
    let mut slow = server.raw_plain().await;
    slow.send("GET / HTTP/1.1\r\nhost: here\r\n").await;
    let began = Instant::now();
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if tokio::io::AsyncWriteExt::write_all(&mut slow.0, b"a: b\r\n").await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), trickle).await.expect("closed in time");
    assert!(began.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn silence_is_closed_before_between_and_under_tls() {
    let server = Server::plain(SHORT, hello()).await;
    assert_eq!(server.raw_plain().await.closed().await, "");
    let mut kept = server.raw_plain().await;
    assert!(kept.get("/").await.ends_with("hello"));
    kept.closed().await;

    let ca = TestCa::new();
    let tls = Some(ca.server(Role::Writer, "writer-a"));
    let server = Server::start(tls, SHORT, DrainLimits::default(), whoami()).await;
    let began = Instant::now();
    server.raw_plain().await.closed().await;
    assert!(began.elapsed() < Duration::from_secs(3), "no handshake, no connection");
}

#[tokio::test]
async fn a_silent_http2_connection_is_closed() {
    let ca = TestCa::new();
    let tls = Some(ca.server(Role::Writer, "writer-a"));
    let server = Server::start(tls, SHORT, DrainLimits::default(), whoami()).await;
    let mut config = (*ca.client(Role::Router, "router-a").config()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let stream = connector.connect(server.addr.ip().into(), stream).await.unwrap();
    crate::support::Raw(stream).raw_closed().await;
}

#[tokio::test]
async fn a_request_in_work_is_not_idle() {
    let slow = get(async || {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        "done"
    });
    let server = Server::plain(SHORT, Router::new().route("/slow", slow)).await;
    assert!(server.raw_plain().await.get("/slow").await.ends_with("done"));
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let server = Server::plain(SHORT, hello()).await;
    let mut large = server.raw_plain().await;
    let request = format!("GET / HTTP/1.1\r\nhost: here\r\na: {}\r\n\r\n", "x".repeat(20_000));
    large.send(&request).await;
    assert!(large.answer().await.starts_with("HTTP/1.1 431"));
}

async fn take(request: Request) -> Result<&'static str, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}
    let limits = BodyLimits { max_bytes: 100, timeout_ms: 300 };
    body::read_json::<Empty, _>(request, limits).await.map(|_empty| "taken")
}

#[tokio::test]
async fn bodies_are_refused_each_for_its_reason() {
    let server = Server::plain(SHORT, Router::new().route("/", post(take))).await;
    let large = "x".repeat(101);
    let json = "content-type: application/json\r\n";
    for (headers, body, code) in [
        (format!("{json}content-length: 2\r\n"), "{}", None),
        (format!("{json}content-length: 101\r\n"), "", Some(Code::BodyTooLarge)),
        (
            format!("{json}transfer-encoding: chunked\r\n"),
            &format!("65\r\n{large}\r\n0\r\n\r\n"),
            Some(Code::BodyTooLarge),
        ),
        (format!("{json}content-length: 2\r\n"), "{", Some(Code::BodyTooSlow)),
        (format!("{json}content-length: 2\r\n"), "[}", Some(Code::MalformedBody)),
        ("content-length: 2\r\n".to_owned(), "{}", Some(Code::UnsupportedMediaType)),
    ] {
        let mut raw = server.raw_plain().await;
        raw.send(&format!("POST / HTTP/1.1\r\nhost: here\r\n{headers}\r\n{body}")).await;
        let answer = raw.answer().await;
        match code {
            None => assert!(answer.ends_with("taken"), "{answer}"),
            Some(code) => {
                assert!(answer.starts_with(&format!("HTTP/1.1 {} ", code.status())), "{answer}");
                assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn connections_over_the_cap_are_told_so_and_cost_nothing_lasting() {
    let ca = TestCa::new();
    let limits = ListenerLimits { max_connections: 1, ..ListenerLimits::default() };
    let tls = Some(ca.server(Role::Writer, "writer-a"));
    let server = Server::start(tls, limits, DrainLimits::default(), whoami()).await;
    let tls = ca.client(Role::Router, "router-a");
    let mut first = server.raw(&tls).await;
    assert!(first.get("/whoami").await.contains(" 200 "));

    let answer = server.raw(&tls).await.get("/whoami").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("too-many-connections") && answer.contains("retry-after: 1"));
    let error = client(&tls).get_json::<String>(&server.url("/whoami")).await.unwrap_err();
    let problem = error.problem().expect("over HTTP/2 too");
    assert_eq!(problem.known_code(), Some(Code::TooManyConnections));

    let mut silent = Vec::new();
    for _ in 0..SHED_MAX_CONNECTIONS + 8 {
        silent.push(server.raw_plain().await);
    }
    for mut beyond in silent.split_off(SHED_MAX_CONNECTIONS) {
        assert_eq!(beyond.closed().await, "", "beyond the shed places: closed at once");
    }
    assert!(first.get("/whoami").await.contains(" 200 "), "who has a place keeps it");

    drop((first, silent));
    eventually("the place is free again", async || {
        server.raw(&tls).await.get("/whoami").await.contains(" 200 ")
    })
    .await;
}
