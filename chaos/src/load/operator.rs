//! An operator's backend: opens sessions, and runs shared rounds from their beginning to their outcome.

use super::operation::{Decided, decide};
use super::player::Player;
use super::{Body, Caller, Shared};
use crate::recorder::Intent;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use domicile_core::base64;
use domicile_core::operator_auth::{
    KEY_ID_HEADER, SIGNATURE_HEADER, SignedRequest, TIMESTAMP_HEADER,
};
use domicile_oracles::history::Kind;
use http::Request;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The game of every session and round.
const GAME: &str = "hilo-dice";
/// The currency of every bet.
const CURRENCY: &str = "EUR";
/// How often a session is asked for.
const SESSION_ATTEMPTS: u32 = 100;
/// Pause between two of them.
const SESSION_AGAIN: Duration = Duration::from_millis(100);

/// What the CLI answers to a registration.
#[derive(Deserialize)]
pub(super) struct Credential {
    operator: String,
    key_id: String,
    secret_b64: String,
}

/// An operator with a credential.
pub(super) struct Operator {
    caller: Caller,
    credential: Credential,
}

impl Operator {
    pub(super) fn new(caller: Caller, credential: Credential) -> Self {
        Self { caller, credential }
    }

    /// A request signed now: a signature is valid for seconds only, so each attempt gets its own.
    fn signed(&self, base: &str, path: &str, body: &Bytes) -> Result<Request<Bytes>> {
        let secret = base64::decode(&self.credential.secret_b64).context("no base64 secret")?;
        let timestamp_unix_s = unix_s()?;
        let signed = SignedRequest { method: "POST", path, timestamp_unix_s, body };
        Ok(Request::post(format!("{base}{path}"))
            .header("content-type", "application/json")
            .header(KEY_ID_HEADER, &self.credential.key_id)
            .header(TIMESTAMP_HEADER, timestamp_unix_s.to_string())
            .header(SIGNATURE_HEADER, signed.sign(&secret))
            .body(body.clone())?)
    }

    /// Opens a session and returns its token.
    pub(super) async fn session(&self, player: &str, jurisdiction: &str) -> Result<String> {
        let body = json!({
            "request_id": format!("s-{player}"), "player": player, "game": GAME, "currency": CURRENCY,
            "jurisdiction": jurisdiction, "ttl_s": 3_600,
        });
        let body = Bytes::from(body.to_string());
        let mut last = String::new();
        for _ in 0..SESSION_ATTEMPTS {
            let build = |base: &str| self.signed(base, "/operator/v1/sessions", &body);
            match self.caller.send(build).await? {
                Ok(answer) if answer.status.is_success() => {
                    let token = answer.json();
                    let token = token.get("token").and_then(Body::as_str);
                    return Ok(token.context("a session without a token")?.to_owned());
                }
                Ok(answer) => last = String::from_utf8_lossy(&answer.body).into_owned(),
                Err(silence) => last = format!("{silence:?}"),
            }
            tokio::time::sleep(SESSION_AGAIN).await;
        }
        bail!("no session for {player}: {last}")
    }

    async fn ask(
        &self,
        shared: &Shared,
        key: String,
        kind: Kind,
        path: &str,
        mut body: Body,
    ) -> Result<Decided> {
        if let Some(fields) = body.as_object_mut() {
            fields.insert("request_id".to_owned(), key.clone().into());
        }
        let body = Bytes::from(body.to_string());
        let client = self.credential.operator.clone();
        let intent = Intent { client, key, kind, tag: None, due: Instant::now() };
        decide(&self.caller, shared, &intent, |base| self.signed(base, path, &body)).await
    }

    /// One round after the other: opened, bet on in every jurisdiction, closed, settled.
    pub(super) async fn rounds(
        self,
        mut bettors: Vec<(String, Player)>,
        pause: Duration,
        shared: Arc<Shared>,
    ) -> Result<()> {
        let codes: Vec<String> = bettors.iter().map(|(code, _)| code.clone()).collect();
        let mut number = 0_u64;
        while shared.on() {
            number += 1;
            let key = |verb: &str| format!("{}-{verb}-{number}", self.credential.operator);
            let body = json!({ "game": GAME, "currency": CURRENCY, "jurisdictions": codes });
            let opened =
                self.ask(&shared, key("open"), Kind::Open, "/operator/v1/rounds", body).await?;
            if let Decided::Acknowledged(round) = opened {
                let id = round.get("round").and_then(Body::as_str).context("a round without id")?;
                let commitment = round.get("commitment").cloned().unwrap_or_default();
                let path = format!("/v1/rounds/{id}/bets");
                for (_, player) in &mut bettors {
                    player.bet(Kind::Bet, &path, &commitment, Instant::now()).await?;
                }
                for (verb, kind) in [("close", Kind::Close), ("settle", Kind::Settle)] {
                    let path = format!("/operator/v1/rounds/{id}/{verb}");
                    self.ask(&shared, key(verb), kind, &path, json!({})).await?;
                }
            }
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }
}

/// Signatures carry the time of day; nothing is ordered by it.
#[expect(
    clippy::disallowed_methods,
    reason = "the crate has no service's clock, and signs as an outsider does"
)]
fn unix_s() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs())
}
