//! An operator's backend: signs each request as documented, opens sessions and runs shared rounds.

use bytes::Bytes;
use domicile_core::operator_auth::{
    KEY_ID_HEADER, SIGNATURE_HEADER, SignedRequest, TIMESTAMP_HEADER,
};
use domicile_service::client::{ClientError, HttpClient};
use domicile_service::clock::{Clock, SystemClock};
use http::{Method, Request, Response};
use serde::Serialize;
use serde_json::{Value, json};

/// What `POST /internal/v1/operators` takes.
#[derive(Debug, Serialize)]
pub struct Registration {
    id: String,
    name: String,
    jurisdictions: Vec<String>,
    games: Vec<String>,
    allowed_origins: Vec<String>,
    launch_base_url: String,
    reason: &'static str,
}

impl Registration {
    /// An operator for every game in the given jurisdictions.
    pub fn new(id: &str, jurisdictions: &[&str]) -> Self {
        Self {
            id: id.to_owned(),
            name: format!("Operator {id}"),
            jurisdictions: jurisdictions.iter().map(|&code| code.to_owned()).collect(),
            games: vec!["hilo-dice".to_owned(), "wheel".to_owned()],
            allowed_origins: vec!["https://play.example".to_owned()],
            launch_base_url: "https://play.example/launch".to_owned(),
            reason: "a test",
        }
    }
}

/// An operator with a credential.
#[derive(Clone)]
pub struct Operator {
    client: HttpClient,
    base: String,
    /// The operator's id.
    pub id: String,
    key_id: String,
    secret: Vec<u8>,
}

impl Operator {
    /// From the answer to the registration.
    pub fn new(client: HttpClient, base: String, id: &str, created: &Value) -> Self {
        let secret = created["secret_b64"].as_str().expect("a secret");
        Self {
            client,
            base,
            id: id.to_owned(),
            key_id: created["key_id"].as_str().expect("a key id").to_owned(),
            secret: domicile_core::base64::decode(secret).expect("base64"),
        }
    }

    /// The headers of a signed request at a given time.
    pub fn signature(
        &self,
        method: &str,
        path: &str,
        timestamp: u64,
        body: &[u8],
    ) -> [(String, String); 3] {
        let request = SignedRequest { method, path, timestamp_unix_s: timestamp, body };
        [
            (KEY_ID_HEADER.to_owned(), self.key_id.clone()),
            (TIMESTAMP_HEADER.to_owned(), timestamp.to_string()),
            (SIGNATURE_HEADER.to_owned(), request.sign(&self.secret)),
        ]
    }

    /// Sends a request signed now.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Result<Response<Bytes>, ClientError> {
        let now = SystemClock.now_unix_s();
        let headers = self.signature(method.as_str(), path, now, body);
        self.send_with(method, path, body, &headers).await
    }

    /// Sends a request with the headers given.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
        headers: &[(String, String)],
    ) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Bytes::copy_from_slice(body)).expect("a request");
        self.client.send(request).await
    }

    /// POST of a JSON document, expecting success.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let response =
            self.send(Method::POST, path, body.to_string().as_bytes()).await.expect("an answer");
        let text = String::from_utf8_lossy(response.body()).into_owned();
        assert!(response.status().is_success(), "POST {path}: {} {text}", response.status());
        serde_json::from_str(&text).expect("JSON")
    }

    /// Opens a session and returns the answer.
    pub async fn session(&self, player: &str, jurisdiction: &str, game: &str) -> Value {
        let body = json!({
            "player": player, "game": game, "currency": "EUR", "jurisdiction": jurisdiction,
        });
        self.post("/operator/v1/sessions", &body).await
    }

    /// Opens a shared round and returns its id and commitment.
    pub async fn open_round(&self, game: &str, jurisdictions: &[&str]) -> Value {
        let body = json!({ "game": game, "currency": "EUR", "jurisdictions": jurisdictions });
        self.post("/operator/v1/rounds", &body).await
    }

    /// `close`, `settle` or `void`.
    pub async fn end_round(&self, round: &str, verb: &str) -> Value {
        self.post(&format!("/operator/v1/rounds/{round}/{verb}"), &json!({})).await
    }
}
