//! What must be refused, over the wire, each with its own code – and the service goes on.

use domicile_core::claims::Claims;
use domicile_core::{base64, hex};
use domicile_service::clock::{Clock, SystemClock};
use domicile_tests::cluster::Cluster;
use domicile_tests::operator::Operator;
use domicile_tests::player::{Answer, Player};
use domicile_tests::raw;
use domicile_tests::topology::THREE_REGIONS;
use http::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_with_its_own_code() {
    let cluster = Cluster::start("refuse", THREE_REGIONS.get(..2).expect("two regions"));
    let operator = cluster.operator("acme", &["MT", "DE"], "MT").await;
    let opened = operator.session("honest", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    tampered_tokens(&player).await;
    signed_but_wrong(&cluster, &player).await;
    revoked_session(&operator, &cluster).await;
    operator_requests(&operator).await;
    bodies(&cluster, &player).await;
    bets(&player).await;
    strangers(&cluster).await;
    let session = player.session().await;
    player.play(&session, "still-alive", 1).await;
}

/// One part of a token replaced; the rest stays as it was signed.
fn with_part(token: &str, part: usize, json: &Value) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    *parts.get_mut(part).expect("three parts") = base64url(json.to_string().as_bytes());
    parts.join(".")
}

fn base64url(bytes: &[u8]) -> String {
    base64::encode(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

fn part(token: &str, part: usize) -> Value {
    let text = token.split('.').nth(part).expect("three parts").replace('-', "+").replace('_', "/");
    let padded = format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
    serde_json::from_slice(&base64::decode(&padded).expect("base64")).expect("JSON")
}

async fn tampered_tokens(player: &Player) {
    let (header, claims) = (part(&player.token, 0), part(&player.token, 1));
    let with_header = |name: &str, value: Value| {
        let mut changed = header.clone();
        changed[name] = value;
        with_part(&player.token, 0, &changed)
    };
    let with_claim = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        with_part(&player.token, 1, &changed)
    };
    let now = SystemClock.now_unix_s();
    let cases = [
        ("alg none", with_header("alg", json!("none")), "token-algorithm"),
        ("HS256 with the public key", with_header("alg", json!("HS256")), "token-algorithm"),
        ("unknown kid", with_header("kid", json!("nobody")), "token-unknown-key"),
        ("longer life", with_claim("exp", json!(now + 3_000)), "token-signature"),
        ("other jurisdiction", with_claim("jurisdiction", json!("DE")), "token-signature"),
        ("other issuer", with_claim("iss", json!("elsewhere")), "token-signature"),
        ("garbage", "not.a.token".to_owned(), "token-malformed"),
        ("oversized", "x".repeat(5_000), "token-too-large"),
    ];
    for (what, token, code) in cases {
        let forged = Player { token, ..player.clone() };
        for answer in
            [forged.get("/v1/bets").await, forged.post("/v1/plays", "k", &json!({})).await]
        {
            let answer = answer.expect("an answer");
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::UNAUTHORIZED, code.to_owned()),
                "{what}"
            );
        }
    }
}

/// Tokens with a good signature of the cluster's own key and wrong contents cannot be made from outside, so
/// the test signs them with the key file itself.
async fn signed_but_wrong(cluster: &Cluster, player: &Player) {
    let claims = part(&player.token, 1);
    let signer = raw::session_signer(cluster);
    let now = SystemClock.now_unix_s();
    let with = |changes: &[(&str, Value)]| {
        let mut changed = claims.clone();
        for (name, value) in changes {
            changed[*name] = value.clone();
        }
        serde_json::from_value::<Claims>(changed).expect("claims")
    };
    let past =
        [("iat", json!(now - 7_200)), ("nbf", json!(now - 7_200)), ("exp", json!(now - 3_600))];
    let future =
        [("iat", json!(now + 600)), ("nbf", json!(now + 600)), ("exp", json!(now + 1_200))];
    let cases = [
        ("expired", with(&past), "token-expired"),
        ("not yet valid", with(&future), "token-not-yet-valid"),
        ("other issuer", with(&[("iss", json!("elsewhere"))]), "token-issuer"),
        ("unknown jurisdiction", with(&[("jurisdiction", json!("FR"))]), "jurisdiction-unknown"),
    ];
    for (what, claims, code) in cases {
        let token = raw::token(&signer, &claims);
        let answer = Player { token, ..player.clone() }.get("/v1/bets").await.expect("an answer");
        assert_eq!(answer.code(), code, "{what}: {}", answer.json());
    }
}

async fn revoked_session(operator: &Operator, cluster: &Cluster) {
    let opened = operator.session("leaver", "MT", "hilo-dice").await;
    let player = Player::new(cluster.outside(), cluster.router("MT"), &opened);
    let session = player.session().await;
    let id = opened["session"].as_str().expect("a session");
    operator.post(&format!("/operator/v1/sessions/{id}/revoke"), &json!({})).await;
    let body = Player::play_body(&session, "high", 1_000_000, 1);
    let refused = player.post("/v1/plays", "late", &body).await.expect("an answer");
    assert_eq!(refused.code(), "session-revoked", "{}", refused.json());
    domicile_tests::eventually::eventually(
        "the reader honours the revocation",
        std::time::Duration::from_secs(10),
        || async {
            let answer = player.get("/v1/bets").await.expect("an answer");
            if answer.code() == "session-revoked" { Ok(()) } else { Err(answer.json().to_string()) }
        },
    )
    .await;
}

async fn operator_requests(operator: &Operator) {
    let path = "/operator/v1/sessions";
    let body = |request_id: Option<&str>| {
        json!({
            "request_id": request_id, "player": "p", "game": "hilo-dice", "currency": "EUR",
            "jurisdiction": "MT",
        })
        .to_string()
    };
    let named = body(Some("r-1"));
    let now = SystemClock.now_unix_s();
    let send = |text: String, headers: [(String, String); 3]| async move {
        let answer = operator.send_with(Method::POST, path, text.as_bytes(), &headers).await;
        answer.expect("an answer")
    };
    let signed = |text: &str, time: u64| operator.signature("POST", path, time, text.as_bytes());
    let code = |response: &http::Response<bytes::Bytes>| {
        let problem: Value = serde_json::from_slice(response.body()).expect("JSON");
        problem["code"].as_str().unwrap_or_default().to_owned()
    };
    let first = send(named.clone(), signed(&named, now)).await;
    assert_eq!(first.status(), StatusCode::CREATED, "{:?}", first.body());
    let again = send(named.clone(), signed(&named, now)).await;
    assert_eq!(again.body(), first.body(), "a byte-identical request gets its stored answer");
    assert!(again.headers().contains_key("domicile-replayed"));
    let other = named.replace("\"p\"", "\"q\"");
    assert_eq!(code(&send(other.clone(), signed(&other, now)).await), "request-id-reused");
    let nameless =
        json!({"player": "p", "game": "hilo-dice", "currency": "EUR", "jurisdiction": "MT"})
            .to_string();
    let signature = signed(&nameless, now);
    assert_eq!(send(nameless.clone(), signature.clone()).await.status(), StatusCode::CREATED);
    assert_eq!(code(&send(nameless, signature).await), "request-replayed");
    let fresh = body(Some("r-2"));
    for (what, headers, wanted) in [
        ("skewed into the past", signed(&fresh, now - 120), "operator-timestamp"),
        ("skewed into the future", signed(&fresh, now + 120), "operator-timestamp"),
        ("signature of another body", signed("{}", now), "operator-signature"),
    ] {
        assert_eq!(code(&send(fresh.clone(), headers).await), wanted, "{what}");
    }
    let [_, time, signature] = signed(&fresh, now);
    let stranger = [
        (domicile_core::operator_auth::KEY_ID_HEADER.to_owned(), "nobody".to_owned()),
        time,
        signature,
    ];
    assert_eq!(code(&send(fresh.clone(), stranger).await), "operator-key-unknown");
    let unsigned =
        operator.send_with(Method::POST, path, fresh.as_bytes(), &[]).await.expect("an answer");
    assert_eq!(code(&unsigned), "operator-auth-missing");
    let forbidden = fresh.replace("\"MT\"", "\"GB\"").replace("r-2", "r-3");
    let refused = send(forbidden.clone(), signed(&forbidden, now)).await;
    assert!(
        ["operator-forbidden", "jurisdiction-unknown"].contains(&code(&refused).as_str()),
        "{refused:?}"
    );
}

async fn bodies(cluster: &Cluster, player: &Player) {
    let oversized = json!({ "client_seed": "x".repeat(300_000) });
    let answer = player.post("/v1/plays", "large", &oversized).await.expect("an answer");
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large".to_owned())
    );
    let answer =
        player.post("/v1/plays", "odd", &json!({ "stake": "a lot" })).await.expect("an answer");
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "malformed-body".to_owned())
    );
    let session = player.session().await;
    let body = Player::play_body(&session, "high", 1, 1);
    let answer = player.post("/v1/plays", "", &body).await.expect("an answer");
    assert_eq!(answer.code(), "idempotency-key-missing", "{}", answer.json());
    let slow = raw::slow_body(cluster, &player.base, &player.token).await;
    assert!(slow.contains("408") && slow.contains("body-too-slow"), "{slow}");
}

async fn bets(player: &Player) {
    let session = player.session().await;
    let good = Player::play_body(&session, "high", 1_000_000, 77);
    let post = |key: &'static str, field: &'static str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        async move { player.post("/v1/plays", key, &body).await.expect("an answer") }
    };
    let code = |answer: &Answer| answer.code();
    assert_eq!(code(&post("b1", "selection", json!("sideways")).await), "bet-invalid");
    assert_eq!(code(&post("b2", "stake_micro", json!(0)).await), "bet-invalid");
    let other = hex::encode(&[7; 32]);
    assert_eq!(code(&post("b3", "commitment", json!(other)).await), "commitment-mismatch");
    assert_eq!(code(&post("b4", "checkpoint_size", json!(999_999)).await), "checkpoint-unknown");
    let first = player.post("/v1/plays", "b5", &good).await.expect("an answer");
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.json());
    let again = player.post("/v1/plays", "b5", &good).await.expect("an answer");
    assert!(again.replayed && again.body == first.body, "the stored answer, byte for byte");
    assert_eq!(code(&post("b5", "stake_micro", json!(2_000_000)).await), "idempotency-key-reused");
}

/// Without a certificate of the cluster nobody speaks to a writer or a reader.
async fn strangers(cluster: &Cluster) {
    for base in [cluster.writer_endpoint(), cluster.reader("MT")] {
        let url = format!("{}/readyz", base.trim_end_matches('/'));
        let outcome = cluster.outside().get_json::<Value>(&url).await;
        assert!(
            outcome.is_err_and(|error| error.status().is_none()),
            "{base} speaks to a stranger"
        );
    }
    let url = format!("{}/internal/v1/operators", cluster.router("MT").trim_end_matches('/'));
    let through_router = cluster.outside().post_json::<Value>(&url, &json!({})).await;
    let status = through_router.expect_err("refused").status();
    assert_eq!(status, Some(StatusCode::NOT_FOUND), "internal paths do not exist at the router");
}
