use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domicile_core::error::Code;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;

use crate::fixture::{Fixture, PATIENCE, Pieces, Setup, code, full, problem, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_not_executed_is_offered_again() {
    let fixture = Fixture::new().await;
    let asked = AtomicUsize::new(0);
    fixture.node("writer-mt").answers_with(move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => problem(Code::NotWriter),
        1 => problem(Code::WriterDraining),
        _ => text(StatusCode::CREATED, "done"),
    });
    let answer = fixture.post("/v1/plays", Some(&fixture.token("MT")), "{}").await;
    assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::CREATED, &b"done"[..]));
    let seen = fixture.node("writer-mt").seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.headers["content-length"] == "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_refusals_are_passed_on_at_once() {
    let fixture = Fixture::new().await;
    for refusal in [Code::WriterOverloaded, Code::OutcomeUnknown, Code::BetInvalid, Code::Database]
    {
        fixture.node("writer-mt").answers_with(move || problem(refusal));
        let before = fixture.node("writer-mt").seen().len();
        let answer = fixture.post("/v1/plays", Some(&fixture.token("MT")), "{}").await;
        assert_eq!(code(&answer), refusal.as_str());
        assert_eq!(fixture.node("writer-mt").seen().len(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_a_writer_that_is_coming() {
    let absent = &["writer-mt"];
    let mut fixture = Fixture::with(Setup { absent, ..Setup::default() }).await;
    let (mut caller, token) = (fixture.h1().await, fixture.token("MT"));
    let asked = crate::fixture::request(Method::POST, "/v1/plays", Some(&token), "{}");
    let waiting = tokio::spawn(async move { caller.send_request(asked).await.unwrap().status() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    fixture.revive("writer-mt").await;
    assert_eq!(waiting.await.unwrap(), StatusCode::OK);
    assert_eq!(fixture.node("writer-mt").seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_writer_has_an_end() {
    let config = "limits = { write_wait_ms = 200 }";
    let fixture = Fixture::with(Setup { config, absent: &["writer-mt"], ..Setup::default() }).await;
    let token = fixture.token("MT");
    let answer = fixture.post("/v1/plays", Some(&token), "{}").await;
    assert_eq!(code(&answer), "writer-unavailable");
    assert!(answer.headers().contains_key("retry-after"));
    assert!(fixture.node("writer-de").seen().is_empty(), "the record names another region");

    let config = "limits = { held_writes = 0 }";
    let fixture = Fixture::with(Setup { config, absent: &["writer-mt"], ..Setup::default() }).await;
    let token = fixture.token("MT");
    let answer = fixture.post("/v1/plays", Some(&token), "{}");
    let answer = tokio::time::timeout(Duration::from_secs(2), answer).await.unwrap();
    assert_eq!(code(&answer), "writer-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_unknown_fate_is_sent_once_and_said_to_be_unknown() {
    let config = "limits = { write_timeout_ms = 200 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    let token = fixture.token("MT");
    fixture.node("writer-mt").answers(|_| std::future::pending());
    let answer = fixture.post("/v1/plays", Some(&token), "{}").await;
    assert_eq!((answer.status().as_u16(), code(&answer)), (504, "outcome-unknown".to_owned()));
    assert_eq!(fixture.node("writer-mt").seen().len(), 1);
    let answer = fixture.get("/v1/session", Some(&token)).await;
    assert_eq!(code(&answer), "upstream-unavailable");
    assert_eq!(fixture.node("writer-mt").seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_after_the_request_leaves_the_fate_unknown() {
    let fixture = Fixture::new().await;
    fixture.node("writer-mt").answers(|request| async move {
        assert_eq!(
            request.uri().path(),
            "/readyz",
            "expected in this test: the connection is torn down"
        );
        text(StatusCode::OK, "ready")
    });
    let answer = fixture.post("/v1/plays", Some(&fixture.token("MT")), "{}").await;
    assert_eq!(code(&answer), "outcome-unknown");
    assert_eq!(fixture.node("writer-mt").seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_body_streams_as_it_comes() {
    let fixture = Fixture::new().await;
    // The writer answers the first piece before there is a second.
    fixture.node("writer-mt").answers(|mut request| async move {
        let first = request.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
        let (sender, answer) = Pieces::channel();
        tokio::spawn(async move {
            sender.send(first).await.unwrap();
            let rest = request.into_body().collect().await.unwrap().to_bytes();
            sender.send(rest).await.unwrap();
        });
        Response::new(answer)
    });
    let (sender, body) = Pieces::channel();
    let asked = Request::builder()
        .method(Method::POST)
        .uri("/v1/plays")
        .header("authorization", format!("Bearer {}", fixture.token("MT")))
        .body(body)
        .unwrap();
    let mut caller = fixture.h1().await;
    let answering = tokio::spawn(async move { caller.send_request(asked).await.unwrap() });
    sender.send(Bytes::from("first")).await.unwrap();
    let mut answer = tokio::time::timeout(PATIENCE, answering).await.unwrap().unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    sender.send(Bytes::from("second")).await.unwrap();
    drop(sender);
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_streamed_and_sent_once() {
    let config = "limits = { body_max_bytes = 1000000 }";
    let fixture = Fixture::with(Setup { config, ..Setup::default() }).await;
    fixture.node("writer-mt").answers(|request| async move {
        let bytes = request.into_body().collect().await.unwrap().to_bytes().len();
        if bytes == 0 { text(StatusCode::OK, "ready") } else { problem(Code::NotWriter) }
    });
    let body = vec![b' '; 200 * 1024];
    let asked = Request::builder()
        .method(Method::POST)
        .uri("/v1/plays")
        .header("authorization", format!("Bearer {}", fixture.token("MT")))
        .body(full(body))
        .unwrap();
    assert_eq!(code(&fixture.send(asked).await), "not-writer");
    assert_eq!(fixture.node("writer-mt").seen().len(), 1);
}
