//! Operators: signatures, windows, replays, request ids, registration, origins.

use crate::bench::Bench;
use crate::callers::Operator;
use domicile_service::peer::Role;
use serde_json::{Value, json};
use std::time::Duration;

const WHY: &[u8] = br#"{"reason":"a test"}"#;

fn session_body(key: Option<&str>) -> Value {
    let mut body = json!({
        "player": "p1", "game": "hilo-dice", "currency": "EUR", "jurisdiction": "MT",
    });
    if let Some(key) = key {
        body["request_id"] = json!(key);
    }
    body
}

#[tokio::test]
async fn signatures_are_checked_before_anything_else() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let path = "/operator/v1/sessions";
    let body = session_body(Some("r")).to_string();
    let now = crate::bench::NOW_UNIX_S;
    for (at, code) in [(now - 31, "operator-timestamp"), (now + 31, "operator-timestamp")] {
        let answer = operator.send_at(&bench, "POST", path, body.as_bytes(), at).await;
        assert_eq!((answer.status, answer.code()), (401, code.to_owned()));
    }
    let wrong = Operator { secret: b"another".to_vec(), ..operator.clone() };
    let answer = wrong.send(&bench, "POST", path, &session_body(None)).await;
    assert_eq!(answer.code(), "operator-signature");
    let unknown = Operator { key_id: "key-x".into(), ..operator.clone() };
    let answer = unknown.send(&bench, "POST", path, &session_body(None)).await;
    assert_eq!(answer.code(), "operator-key-unknown");
    let unsigned = bench.send(Role::Router, "POST", path, &[], body.as_bytes()).await;
    assert_eq!(unsigned.code(), "operator-auth-missing");
    for role in [Role::Ctl, Role::Reader, Role::Agent, Role::Test] {
        let answer = bench.send(role, "POST", path, &[], body.as_bytes()).await;
        assert_eq!((answer.status, answer.code()), (403, "peer-forbidden".into()), "{role:?}");
    }
    assert_eq!(bench.count("SELECT count(*) FROM ledger.session").await, 0);
}

#[tokio::test]
async fn a_request_id_makes_a_request_repeatable_and_its_lack_makes_it_unique() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let path = "/operator/v1/sessions";
    let first = operator.send(&bench, "POST", path, &session_body(Some("r1"))).await;
    first.expect(201);
    bench.clock.advance(Duration::from_secs(5));
    let again = operator.send(&bench, "POST", path, &session_body(Some("r1"))).await;
    assert!(again.replayed);
    assert_eq!(again.body, first.body, "byte for byte, token and all");
    let mut other = session_body(Some("r1"));
    other["player"] = json!("p2");
    let reused = operator.send(&bench, "POST", path, &other).await;
    assert_eq!((reused.status, reused.code()), (409, "request-id-reused".into()));

    operator.send(&bench, "POST", path, &session_body(None)).await.expect(201);
    let replay = operator.send(&bench, "POST", path, &session_body(None)).await;
    assert_eq!((replay.status, replay.code()), (409, "request-replayed".into()));
    bench.clock.advance(Duration::from_secs(1));
    operator.send(&bench, "POST", path, &session_body(None)).await.expect(201);
    assert_eq!(bench.count("SELECT count(*) FROM ledger.session").await, 3);
    let plain = "SELECT count(*) FROM ledger.request WHERE position('eyJ'::bytea IN response) > 0";
    assert_eq!(bench.count(plain).await, 0, "stored answers are sealed: no token in clear");
}

#[tokio::test]
async fn copies_of_one_request_at_once_have_one_effect() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let body = json!({
        "request_id": "r", "game": "hilo-dice", "currency": "EUR", "jurisdictions": ["MT", "DE"],
    });
    let send = || operator.send(&bench, "POST", "/operator/v1/rounds", &body);
    let (a, b, c) = tokio::join!(send(), send(), send());
    a.expect(201);
    assert!(a.body == b.body && b.body == c.body);
    assert_eq!([&a, &b, &c].iter().filter(|answer| !answer.replayed).count(), 1);
    assert_eq!(bench.count("SELECT count(*) FROM ledger.round_engine").await, 1);
    let leaves = "SELECT (SELECT count(*) FROM log.pending WHERE jurisdiction <> 'XO') \
         + (SELECT count(*) FROM log.leaf WHERE jurisdiction <> 'XO')";
    assert_eq!(bench.count(leaves).await, 2, "one commit leaf per jurisdiction");
}

#[tokio::test]
async fn what_an_operator_may_not_have_is_refused() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let path = "/operator/v1/sessions";
    for (field, value, code) in [
        ("jurisdiction", json!("FR"), "jurisdiction-unknown"),
        ("game", json!("poker"), "game-unknown"),
        ("ttl_s", json!(3_601), "malformed-body"),
        ("ttl_s", json!(1), "malformed-body"),
        ("currency", json!("euro"), "malformed-body"),
        ("surprise", json!(1), "malformed-body"),
    ] {
        let mut body = session_body(Some("r"));
        body[field] = value;
        let answer = operator.send(&bench, "POST", path, &body).await;
        assert_eq!(answer.code(), code, "{field}: {answer:?}");
    }
    let round = json!({
        "game": "hilo-dice", "params": "low_weight=0", "currency": "EUR", "jurisdictions": ["MT"],
    });
    let answer = operator.send(&bench, "POST", "/operator/v1/rounds", &round).await;
    assert_eq!(answer.code(), "game-parameters");
    let large = vec![b' '; 17 * 1024];
    let answer = bench.send(Role::Router, "POST", path, &[], &large).await;
    assert_eq!((answer.status, answer.code()), (413, "body-too-large".into()));
    let answer = operator.send(&bench, "GET", "/operator/v1/rounds/nonsense", &Value::Null).await;
    assert_eq!(answer.code(), "round-not-found");
}

#[tokio::test]
async fn credentials_come_and_go() {
    let bench = Bench::new().await;
    let first = bench.operator("acme").await;
    let twice = json!({
        "id": "acme", "name": "x", "jurisdictions": ["MT"], "games": ["wheel"],
        "allowed_origins": [], "launch_base_url": "https://x.example", "reason": "r",
    });
    let path = "/internal/v1/operators";
    let answer = bench.send(Role::Ctl, "POST", path, &[], twice.to_string().as_bytes()).await;
    assert_eq!((answer.status, answer.code()), (409, "operator-exists".into()));
    let denied = bench.send(Role::Router, "POST", path, &[], twice.to_string().as_bytes()).await;
    assert_eq!(denied.code(), "peer-forbidden");
    let added =
        bench.send(Role::Ctl, "POST", "/internal/v1/operators/acme/credentials", &[], WHY).await;
    let second = Operator::from_answer(&added.expect(201));
    second.session(&bench, "p1", "MT", "wheel").await;
    let revoke = format!("/internal/v1/credentials/{}/revoke", first.key_id);
    bench.send(Role::Ctl, "POST", &revoke, &[], WHY).await.expect(200);
    bench.clock.advance(Duration::from_secs(2));
    let refused = first.send(&bench, "POST", "/operator/v1/sessions", &session_body(None)).await;
    assert_eq!(refused.code(), "operator-key-unknown");
    let sealed =
        "SELECT count(*) FROM ledger.operator_credential WHERE octet_length(secret_sealed) > 32";
    assert_eq!(bench.count(sealed).await, 2);
}

#[tokio::test]
async fn browsers_come_from_registered_origins_only() {
    let bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    let player = operator.session(&bench, "p1", "MT", "wheel").await;
    let bearer = format!("Bearer {}", player.token);
    for path in ["/v1/plays", "/v1/session", "/v1/rounds/x/proof"] {
        let known = [("origin", "https://play.example")];
        let answer = bench.send(Role::Router, "OPTIONS", path, &known, b"").await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.headers["access-control-allow-origin"], "https://play.example");
        let unknown = [("origin", "https://evil.example")];
        let answer = bench.send(Role::Router, "OPTIONS", path, &unknown, b"").await;
        assert_eq!((answer.status, answer.code()), (403, "origin-forbidden".into()));
    }
    let from =
        |origin: &'static str| [("authorization", bearer.clone()), ("origin", origin.into())];
    for (origin, status) in [("https://play.example", 200), ("https://evil.example", 403)] {
        let headers = from(origin);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = bench.send(Role::Router, "GET", "/v1/session", &headers, b"").await;
        assert_eq!(answer.status, status, "{origin}");
    }
}
