use domicile_service::trace::TRACEPARENT;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::fixture::{Fixture, Setup, code, request};
use domicile_service::peer::Role;

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_decides_where_a_request_goes() {
    let fixture = Fixture::new().await;
    let token = fixture.token("MT");
    let cases = [
        (Method::GET, "/v1/rounds/0190/proof", Some(&token), "reader-mt"),
        (Method::GET, "/v1/bets?limit=5", Some(&token), "reader-mt"),
        (Method::GET, "/v1/session", Some(&token), "writer-mt"),
        (Method::POST, "/v1/plays", Some(&token), "writer-mt"),
        (Method::OPTIONS, "/v1/plays", None, "writer-mt"),
        (Method::POST, "/operator/v1/sessions", None, "writer-mt"),
        (Method::GET, "/log/MT/checkpoint", None, "reader-mt"),
        (Method::GET, "/verify", None, "reader-mt"),
    ];
    for (method, path, token, expected) in cases {
        let answer =
            fixture.send(request(method.clone(), path, token.map(String::as_str), "")).await;
        assert_eq!(
            (answer.status(), answer.body().as_ref()),
            (StatusCode::OK, expected.as_bytes())
        );
        let seen = fixture.node(expected).seen().pop().unwrap();
        assert_eq!((seen.method, seen.uri.to_string()), (method, path.to_owned()));
        assert_eq!(seen.peer.as_deref(), Some("spiffe://demo/router/router-mt"));
        let token = token.map(|token| format!("Bearer {token}"));
        let passed_on = seen.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
        assert_eq!(passed_on, token, "{path}");
    }
    assert!(fixture.readiness.is_ready());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_served_is_refused_and_goes_nowhere() {
    let fixture = Fixture::new().await;
    let (mt, de, gb) = (fixture.token("MT"), fixture.token("DE"), fixture.token("GB"));
    let (other, mut tampered) = (Fixture::new().await.token("MT"), mt.clone().into_bytes());
    let last = tampered.len() - 5;
    tampered[last] ^= 1;
    let tampered = String::from_utf8(tampered).unwrap();
    let cases = [
        ("/v1/bets", None, 401, "token-missing"),
        ("/v1/bets", Some("x"), 401, "token-malformed"),
        ("/v1/bets", Some(other.as_str()), 401, "token-signature"),
        ("/v1/bets", Some(tampered.as_str()), 401, "token-signature"),
        ("/v1/bets", Some(gb.as_str()), 403, "jurisdiction-unknown"),
        ("/v1/session", Some(gb.as_str()), 403, "jurisdiction-unknown"),
        ("/v1/bets", Some(de.as_str()), 421, "jurisdiction-misdirected"),
        ("/v1/session", Some(de.as_str()), 421, "jurisdiction-misdirected"),
        ("/log/DE/checkpoint", None, 421, "jurisdiction-misdirected"),
        ("/log/GB/checkpoint", None, 403, "jurisdiction-unknown"),
        ("/log/MT/../DE/checkpoint", None, 400, "malformed-request"),
        ("/internal/v1/operators", Some(mt.as_str()), 404, "not-found"),
        ("/metrics", None, 404, "not-found"),
    ];
    for (path, token, status, expected) in cases {
        let answer = fixture.get(path, token).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(code(&answer), expected, "{path}");
        if status == 421 {
            let document: Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(document["permitted"], serde_json::json!(["https://router-de.test:443"]));
        }
    }
    for name in ["writer-mt", "writer-de", "reader-mt", "reader-mt-far", "reader-de"] {
        assert!(fixture.node(name).seen().is_empty(), "{name} was asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_cannot_speak_for_the_router() {
    let fixture = Fixture::new().await;
    let token = fixture.token("MT");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut asked = request(Method::GET, "/v1/bets", Some(&token), "");
    for (name, value) in [
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-client-cert", "URI=spiffe://demo/ctl/x"),
        ("forwarded", "for=203.0.113.9"),
        ("domicile-replayed", "true"),
        ("domicile-peer", "spiffe://demo/ctl/x"),
        ("domicile-min-log-size", "12"),
        ("traceparent", trace),
    ] {
        asked.headers_mut().append(name, value.parse().unwrap());
    }
    assert_eq!(fixture.send(asked).await.status(), StatusCode::OK);
    let seen = fixture.node("reader-mt").seen().pop().unwrap().headers;
    let mut names: Vec<_> = seen.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    let expected = [
        "authorization",
        "domicile-min-log-size",
        "host",
        "traceparent",
        "x-forwarded-for",
        "x-forwarded-proto",
    ];
    assert_eq!(names, expected);
    assert_eq!(seen["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen["host"], fixture.node("reader-mt").addr.to_string());
    let passed_on = seen[TRACEPARENT].to_str().unwrap();
    assert!(passed_on.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{passed_on}");
    assert_ne!(passed_on, trace, "the router has a span of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_certificate_of_another_node_is_not_enough() {
    for impostor in [("reader-mt", Role::Reader, "reader-de"), ("reader-mt", Role::Writer, "x")] {
        let fixture = Fixture::with(Setup { impostor: Some(impostor), ..Setup::default() }).await;
        let answer = fixture.get("/v1/bets", Some(&fixture.token("MT"))).await;
        assert_eq!(answer.body(), "reader-mt-far");
        assert!(fixture.node("reader-mt").seen().is_empty());
    }
}
