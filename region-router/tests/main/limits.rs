use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fixture::{Fixture, Pieces, Setup, TestBody, code, full, request, text, whole};

fn streamed(fixture: &Fixture, body: TestBody) -> Request<TestBody> {
    Request::builder()
        .method(Method::POST)
        .uri("/v1/plays")
        .header("authorization", format!("Bearer {}", fixture.token("MT")))
        .body(body)
        .unwrap()
}

/// A writer that reads the whole body before it answers, as ours do.
fn reading_writer(fixture: &Fixture) {
    fixture.node("writer-mt").answers(|request| async move {
        drop(http_body_util::BodyExt::collect(request.into_body()).await);
        text(StatusCode::OK, "read")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_in_size_and_time() {
    let config =
        "limits = { body_max_bytes = 1000, held_body_max_bytes = 100, body_pause_ms = 200 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    reading_writer(&fixture);
    for bytes in [1001, 500_000] {
        let too_large = streamed(&fixture, full(vec![b' '; bytes]));
        assert_eq!(code(&fixture.send(too_large).await), "body-too-large");
    }
    let mut unknown = streamed(&fixture, full(vec![b' '; 500_000]));
    unknown.headers_mut().remove("authorization");
    assert_eq!(code(&fixture.send(unknown).await), "token-missing");
    assert!(fixture.node("writer-mt").seen().is_empty(), "declared too large");

    let (sender, body) = Pieces::channel();
    let asked = streamed(&fixture, body);
    tokio::spawn(async move {
        for _ in 0..20 {
            sender.send(Bytes::from(vec![b' '; 400])).await.unwrap();
        }
    });
    assert_eq!(code(&fixture.send(asked).await), "body-too-large");

    for first in [&b""[..], b"x"] {
        let (sender, body) = Pieces::channel();
        sender.send(Bytes::from(first)).await.unwrap();
        assert_eq!(code(&fixture.send(streamed(&fixture, body)).await), "body-too-slow");
        drop(sender);
    }
    let fits = streamed(&fixture, full(vec![b' '; 1000]));
    assert_eq!(fixture.send(fits).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_body_that_stops_is_refused_without_asking_anyone() {
    let config = "limits = { body_pause_ms = 200 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let mut stream = fixture.connect("http/1.1").await;
    let head = format!(
        "POST /v1/plays HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\n{{",
        fixture.token("MT")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let bytes = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..bytes]);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-too-slow"), "{answer}");
    assert!(fixture.node("writer-mt").seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded() {
    let config = "listener = { max_header_bytes = 4096 }\nlimits = { target_max_bytes = 200 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let token = fixture.token("MT");
    let long_target = format!("/v1/bets?x={}", "y".repeat(200));
    assert_eq!(code(&fixture.get(&long_target, Some(&token)).await), "headers-too-large");
    let mut long_header = request(Method::GET, "/v1/bets", Some(&token), "");
    long_header.headers_mut().insert("x-long", "y".repeat(4096).parse().unwrap());
    assert_eq!(code(&fixture.send(long_header).await), "headers-too-large");
    let mut stream = fixture.connect("http/1.1").await;
    let endless = format!("GET /v1/bets HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 * 1024));
    // The router may close before all of it is written.
    drop(stream.write_all(endless.as_bytes()).await);
    let mut answer = vec![0; 64];
    let bytes = stream.read(&mut answer).await.unwrap_or(0);
    assert!(answer[..bytes].starts_with(b"HTTP/1.1 431"));
    assert!(fixture.node("reader-mt").seen().is_empty());
    assert_eq!(fixture.get("/v1/bets", Some(&token)).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_and_one_address_have_their_rates() {
    let config = "limits = { token_rate = { per_s = 1, burst = 3 } }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let token = fixture.token("MT");
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(fixture.get("/v1/bets", Some(&token)).await);
    }
    let served = answers.iter().filter(|answer| answer.status() == StatusCode::OK).count();
    assert!((3..=4).contains(&served), "{served}");
    let refused = answers.last().unwrap();
    assert_eq!(code(refused), "too-many-requests");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(fixture.get("/log/MT/checkpoint", None).await.status(), StatusCode::OK);

    let config = "limits = { address_rate = { per_s = 1, burst = 2 } }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    for expected in [404, 404, 429] {
        assert_eq!(fixture.get("/nothing", None).await.status().as_u16(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_are_told_to_come_back() {
    let config = "listener = { max_connections = 1 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let mut first = fixture.h1().await;
    let ask = || request(Method::GET, "/verify", None, "");
    assert_eq!(first.send_request(ask()).await.unwrap().status(), StatusCode::OK);
    let refused = fixture.send(ask()).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(code(&refused), "too-many-connections");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.headers()["connection"], "close");
    assert_eq!(whole(first.send_request(ask()).await.unwrap()).await.body(), "reader-mt");
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fixture.send(ask()).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_bounded() {
    let config = "limits = { requests_in_flight = 1 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let (sender, body) = Pieces::channel();
    let body = std::sync::Mutex::new(Some(body));
    fixture.node("reader-mt").answers_with(move || {
        let body = body.lock().unwrap().take().unwrap_or_else(|| full("later"));
        http::Response::new(body)
    });
    let held = fixture.h1().await.send_request(request(Method::GET, "/verify", None, "")).await;
    assert_eq!(code(&fixture.get("/verify", None).await), "too-many-requests");
    drop(sender);
    whole(held.unwrap()).await;
    fixture.until_served("/verify", None).await;
}
