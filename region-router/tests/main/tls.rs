use std::time::Duration;

use domicile_service::peer::Role;
use futures_util::future::join_all;
use http::{Method, StatusCode, Version};

use crate::fixture::{Fixture, PATIENCE, Pieces, request, whole};

#[tokio::test(flavor = "multi_thread")]
async fn http_2_carries_many_requests_at_once() {
    let fixture = Fixture::new().await;
    let (caller, token) = (fixture.h2().await, fixture.token("MT"));
    let one = |number: usize| {
        let (mut caller, token) = (caller.clone(), token.clone());
        async move {
            let (method, path) = if number.is_multiple_of(2) {
                (Method::GET, "/v1/bets")
            } else {
                (Method::POST, "/v1/plays")
            };
            let mut asked = request(method, path, Some(&token), "");
            *asked.uri_mut() = format!("https://router.test{path}").parse().unwrap();
            asked.headers_mut().remove("host");
            let answer = caller.send_request(asked).await.unwrap();
            assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
            String::from_utf8(whole(answer).await.into_body().to_vec()).unwrap()
        }
    };
    let answers = join_all((0..100).map(one)).await;
    for (number, answer) in answers.iter().enumerate() {
        let expected = if number.is_multiple_of(2) { "reader-mt" } else { "writer-mt" };
        assert_eq!(answer, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_dropping_connections() {
    let fixture = Fixture::new().await;
    let shown = |stream: &tokio_rustls::client::TlsStream<_>| {
        let (_, session) = stream.get_ref();
        session.peer_certificates().unwrap()[0].as_ref().to_vec()
    };
    let before = shown(&fixture.connect("http/1.1").await);
    let mut old = fixture.h1().await;
    let ask = || request(Method::GET, "/verify", None, "");
    assert_eq!(old.send_request(ask()).await.unwrap().status(), StatusCode::OK);
    fixture.ca.issue(Role::Router, "router-mt");
    let replaced = async {
        while shown(&fixture.connect("http/1.1").await) == before {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, replaced).await.unwrap();
    assert_eq!(whole(old.send_request(ask()).await.unwrap()).await.body(), "reader-mt");
    assert_eq!(fixture.get("/verify", None).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_finishes_what_is_in_flight() {
    let fixture = Fixture::new().await;
    let (sender, body) = Pieces::channel();
    let body = std::sync::Mutex::new(Some(body));
    fixture
        .node("reader-mt")
        .answers_with(move || http::Response::new(body.lock().unwrap().take().unwrap()));
    let mut caller = fixture.h1().await;
    let answer = caller.send_request(request(Method::GET, "/verify", None, "")).await.unwrap();
    fixture.drain.begin("test");
    assert!(!fixture.readiness.is_ready());
    fixture.drain.closing().await;
    let closed = async {
        while tokio::net::TcpStream::connect(fixture.addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    sender.send("the end".into()).await.unwrap();
    drop(sender);
    assert_eq!(whole(answer).await.body(), "the end");
}
