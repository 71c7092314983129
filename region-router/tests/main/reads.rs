use std::time::Duration;

use bytes::Bytes;
use domicile_core::error::Code;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;

use crate::fixture::{Fixture, PATIENCE, Pieces, Setup, code, problem, request, text};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_as_it_comes() {
    let fixture = Fixture::new().await;
    let (sender, body) = Pieces::channel();
    let body = std::sync::Mutex::new(Some(body));
    fixture
        .node("reader-mt")
        .answers_with(move || Response::new(body.lock().unwrap().take().unwrap()));
    let asked = request(Method::GET, "/v1/bets", Some(&fixture.token("MT")), "");
    let mut answer = fixture.h1().await.send_request(asked).await.unwrap();
    for piece in ["first", "second"] {
        // The next piece is sent only after the one before it has come through.
        sender.send(Bytes::from(piece)).await.unwrap();
        let frame = tokio::time::timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(answer.frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_rounds_comes_from_the_writer_and_has_bounds_of_its_own() {
    let config = "limits = { streams = 1, stream_pause_ms = 600, body_timeout_ms = 100 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let (sender, body) = Pieces::channel();
    let body = std::sync::Mutex::new(Some(body));
    fixture.node("writer-mt").answers_with(move || {
        let mut answer = Response::new(body.lock().unwrap().take().unwrap());
        let kind = "text/event-stream".parse().unwrap();
        answer.headers_mut().insert("content-type", kind);
        answer
    });
    let token = fixture.token("MT");
    let asked = request(Method::GET, "/v1/rounds/stream?game=wheel", Some(&token), "");
    let mut answer = fixture.h1().await.send_request(asked).await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        sender.send(Bytes::from(": beat\n\n")).await.unwrap();
        let frame = tokio::time::timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), ": beat\n\n");
    }
    let second = fixture.get("/v1/rounds/stream", Some(&token)).await;
    assert_eq!(code(&second), "too-many-requests", "streams have places of their own");
    assert_eq!(fixture.get("/v1/bets", Some(&token)).await.status(), StatusCode::OK);
    let silent = tokio::time::timeout(PATIENCE, answer.frame()).await.unwrap();
    assert!(silent.is_none_or(|frame| frame.is_err()), "a silent stream is cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_read_is_tried_on_one_other_permitted_reader() {
    let fixture = Fixture::new().await;
    let token = fixture.token("MT");
    fixture.node("reader-mt").answers_with(|| problem(Code::StaleReplica));
    let answer = fixture.get("/v1/bets", Some(&token)).await;
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::OK, &b"reader-mt-far"[..]));
    assert_eq!(fixture.node("reader-mt").seen().len(), 1);

    fixture.node("reader-mt-far").answers_with(|| problem(Code::ReplicaUnverified));
    let answer = fixture.get("/v1/bets", Some(&token)).await;
    assert_eq!(code(&answer), "replica-unverified");
    assert_eq!(fixture.node("reader-mt").seen().len(), 2);
    assert_eq!(fixture.node("reader-mt-far").seen().len(), 2);
    assert!(fixture.node("reader-de").seen().is_empty(), "a German reader has no Maltese rows");

    fixture.node("reader-mt").answers_with(|| problem(Code::RoundNotFound));
    assert_eq!(code(&fixture.get("/v1/rounds/x", Some(&token)).await), "round-not-found");
    assert_eq!(fixture.node("reader-mt-far").seen().len(), 2, "an answer is an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_or_lost_reader_is_replaced() {
    let config = "limits = { read_timeout_ms = 200, probe_interval_ms = 100000 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let token = fixture.token("MT");
    fixture.node("reader-mt").answers(|_| std::future::pending());
    assert_eq!(fixture.get("/v1/bets", Some(&token)).await.body(), "reader-mt-far");
    fixture.node("reader-mt").stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fixture.get("/v1/bets", Some(&token)).await.body(), "reader-mt-far");
    fixture.node("reader-mt-far").stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fixture.get("/v1/bets", Some(&token)).await.status(), StatusCode::BAD_GATEWAY);
    let refused = fixture.get("/v1/bets", Some(&token)).await;
    assert_eq!(code(&refused), "no-permitted-reader");
    assert_eq!(refused.headers()["retry-after"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_comes_and_goes_with_the_probes() {
    let config = "limits = { probe_interval_ms = 20 }";
    let absent = &["reader-mt", "reader-mt-far"];
    let mut fixture = Fixture::with(Setup { config, absent, ..Setup::default() }).await;
    let token = fixture.token("MT");
    assert_eq!(code(&fixture.get("/v1/bets", Some(&token)).await), "no-permitted-reader");
    fixture.revive("reader-mt").await;
    fixture.until_served("/v1/bets", Some(&token)).await;
    fixture
        .node("reader-mt")
        .answers(|_| std::future::ready(text(StatusCode::SERVICE_UNAVAILABLE, "red")));
    let refused = async {
        loop {
            let answer = fixture.get("/v1/bets", Some(&token)).await;
            if answer.body() != "red" {
                return code(&answer);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(refused, "no-permitted-reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_has_no_body() {
    let fixture = Fixture::new().await;
    let asked = request(Method::GET, "/v1/bets", Some(&fixture.token("MT")), "surprise");
    assert_eq!(code(&fixture.send(asked).await), "malformed-request");
    assert!(fixture.node("reader-mt").seen().is_empty());
}
