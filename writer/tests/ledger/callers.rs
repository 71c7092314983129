//! Who asks a writer from outside: operators and players.

use crate::bench::{Answer, Bench};
use domicile_core::operator_auth::{
    KEY_ID_HEADER, SIGNATURE_HEADER, SignedRequest, TIMESTAMP_HEADER,
};
use domicile_service::clock::Clock;
use domicile_service::peer::Role;
use serde_json::{Value, json};
use std::time::Duration;

/// An operator's credential.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) key_id: String,
    pub(crate) secret: Vec<u8>,
}

impl Operator {
    pub(crate) fn from_answer(answer: &Value) -> Self {
        use base64::Engine as _;
        let secret = answer["secret_b64"].as_str().unwrap();
        Self {
            key_id: answer["key_id"].as_str().unwrap().to_owned(),
            secret: base64::engine::general_purpose::STANDARD.decode(secret).unwrap(),
        }
    }

    /// Sends a request signed now.
    pub(crate) async fn send(
        &self,
        bench: &Bench,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send_at(bench, method, path, body.as_bytes(), bench.clock.now_unix_s()).await
    }

    /// Sends a request signed for a time.
    pub(crate) async fn send_at(
        &self,
        bench: &Bench,
        method: &str,
        path: &str,
        body: &[u8],
        at: u64,
    ) -> Answer {
        let signed = SignedRequest { method, path, timestamp_unix_s: at, body };
        let (timestamp, signature) = (at.to_string(), signed.sign(&self.secret));
        let headers = [
            (KEY_ID_HEADER, self.key_id.as_str()),
            (TIMESTAMP_HEADER, timestamp.as_str()),
            (SIGNATURE_HEADER, signature.as_str()),
        ];
        bench.send(Role::Router, method, path, &headers, body).await
    }

    /// Opens a session.
    pub(crate) async fn session(
        &self,
        bench: &Bench,
        player: &str,
        code: &str,
        game: &str,
    ) -> Player {
        let body = json!({
            "player": player, "game": game, "currency": "EUR", "jurisdiction": code,
        });
        let answer = self.send(bench, "POST", "/operator/v1/sessions", &body).await.expect(201);
        Player {
            session: answer["session"].as_str().unwrap().to_owned(),
            token: answer["token"].as_str().unwrap().to_owned(),
        }
    }

    /// Opens a round and gives its id and commitment.
    pub(crate) async fn round(&self, bench: &Bench, key: &str, codes: &[&str]) -> (String, String) {
        let body = json!({
            "request_id": key, "game": "hilo-dice", "currency": "EUR", "jurisdictions": codes,
        });
        let answer = self.send(bench, "POST", "/operator/v1/rounds", &body).await.expect(201);
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        (text("round"), text("commitment"))
    }

    /// `close`, `settle` or `void`; waits for the commitment to be sequenced.
    pub(crate) async fn end(&self, bench: &Bench, round: &str, verb: &str, key: &str) -> Answer {
        let path = format!("/operator/v1/rounds/{round}/{verb}");
        for _ in 0..200 {
            let answer = self.send(bench, "POST", &path, &json!({ "request_id": key })).await;
            if answer.code() != "commitment-not-published" {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the commitment of round {round} is not sequenced");
    }
}

/// A player's session.
#[derive(Debug, Clone)]
pub(crate) struct Player {
    pub(crate) session: String,
    pub(crate) token: String,
}

impl Player {
    pub(crate) async fn get(&self, bench: &Bench) -> Answer {
        self.get_from(bench, "/v1/session").await
    }

    pub(crate) async fn get_from(&self, bench: &Bench, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        bench.send(Role::Router, "GET", path, &[("authorization", &bearer)], b"").await
    }

    pub(crate) async fn post(&self, bench: &Bench, path: &str, key: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
        bench.send(Role::Router, "POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// The body of a play on what `GET /v1/session` told.
    pub(crate) fn order(view: &Value, stake_micro: u64) -> Value {
        json!({
            "stake_micro": stake_micro, "selection": "high", "client_seed": "ab".repeat(32),
            "commitment": view["commitment"], "checkpoint_size": view["checkpoint_size"],
        })
    }
}
