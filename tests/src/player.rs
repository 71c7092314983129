//! A player: one session token, plays with keys of their own, and proofs fetched through the router.

use bytes::Bytes;
use domicile_core::hex;
use domicile_service::client::{ClientError, HttpClient};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// A player with a session.
#[derive(Clone)]
pub struct Player {
    /// The client, without a certificate.
    pub client: HttpClient,
    /// The router's base URL.
    pub base: String,
    /// The session token.
    pub token: String,
}

/// What a play answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The exact bytes.
    pub body: Bytes,
    /// Whether it is a stored answer.
    pub replayed: bool,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The stable error code, if it is a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    fn of(response: Response<Bytes>) -> Self {
        let replayed = response.headers().contains_key("domicile-replayed");
        Self { status: response.status(), body: response.into_body(), replayed }
    }
}

impl Player {
    /// A player from the answer to `POST /operator/v1/sessions`.
    pub fn new(client: HttpClient, base: String, session: &Value) -> Self {
        let token = session["token"].as_str().expect("a token").to_owned();
        Self { client, base, token }
    }

    /// GET with the token.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        let request = Request::get(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Bytes::new())
            .expect("a request");
        self.client.send(request).await.map(Answer::of)
    }

    /// POST with the token and an idempotency key.
    pub async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Answer, ClientError> {
        let request = Request::post(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(Bytes::from(body.to_string()))
            .expect("a request");
        self.client.send(request).await.map(Answer::of)
    }

    /// The session as the writer sees it: commitment, checkpoint, next position.
    pub async fn session(&self) -> Value {
        let answer = self.get("/v1/session").await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK, "GET /v1/session: {}", answer.json());
        answer.json()
    }

    /// The body of a play on the commitment in `session`; `seed` makes the client seed.
    pub fn play_body(session: &Value, selection: &str, stake_micro: u64, seed: u64) -> Value {
        let mut client_seed = [0u8; 32];
        for (place, byte) in client_seed.iter_mut().zip(seed.to_be_bytes()) {
            *place = byte;
        }
        json!({
            "stake_micro": stake_micro,
            "selection": selection,
            "client_seed": hex::encode(&client_seed),
            "commitment": session["commitment"],
            "checkpoint_size": session["checkpoint_size"],
        })
    }

    /// One play that must succeed.
    pub async fn play(&self, session: &Value, key: &str, seed: u64) -> Value {
        let body = Self::play_body(session, "high", 1_000_000, seed);
        let answer = self.post("/v1/plays", key, &body).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::CREATED, "play: {}", answer.json());
        answer.json()
    }

    /// The bundle of a round through the router, waiting for its checkpoint.
    pub async fn proof(&self, round: &str) -> Answer {
        let path = format!("/v1/rounds/{round}/proof?wait_ms=2000");
        let mut answer = self.get(&path).await.expect("an answer");
        for _ in 0..5 {
            if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer = self.get(&path).await.expect("an answer");
        }
        answer
    }
}
