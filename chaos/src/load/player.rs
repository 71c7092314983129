//! A player: one session, plays one after the other, each with a key of its own.

use super::operation::{Decided, decide};
use super::reads::Shown;
use super::{Body, Caller, Shared};
use crate::digest;
use crate::recorder::Intent;
use anyhow::Result;
use bytes::Bytes;
use domicile_oracles::history::Kind;
use http::{Request, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};

/// Stake of every bet, in micro-units.
const STAKE_MICRO: u64 = 1_000_000;
/// Pause before the session is asked for again.
const SESSION_AGAIN: Duration = Duration::from_millis(100);
/// Acknowledged plays that are sent once more when everything is over.
const REPEATED: usize = 3;

/// A player with a session.
pub(super) struct Player {
    name: String,
    token: String,
    caller: Caller,
    shared: Arc<Shared>,
    shown: Arc<Shown>,
    number: u64,
    commitment: Option<Body>,
    kept: Vec<(Intent, Bytes)>,
}

/// The request that carries a body with a key.
fn post(base: &str, path: &str, token: &str, key: &str, body: &Bytes) -> Result<Request<Bytes>> {
    Ok(Request::post(format!("{base}{path}"))
        .header("authorization", format!("Bearer {token}"))
        .header("idempotency-key", key)
        .header("content-type", "application/json")
        .body(body.clone())?)
}

impl Player {
    pub(super) fn new(
        name: String,
        token: String,
        caller: Caller,
        shared: Arc<Shared>,
        shown: Arc<Shown>,
    ) -> Self {
        Self { name, token, caller, shared, shown, number: 0, commitment: None, kept: Vec::new() }
    }

    /// Plays whenever a play is due, and in the end sends a few once more: they must be answered as before.
    pub(super) async fn play_on(mut self, due: Arc<Mutex<mpsc::Receiver<Instant>>>) -> Result<()> {
        loop {
            let next = due.lock().await.recv().await;
            let Some(due) = next.filter(|_| self.shared.on()) else { break };
            let Some(commitment) = self.commitment().await? else { break };
            self.bet(Kind::Play, "/v1/plays", &commitment, due).await?;
        }
        for (intent, body) in std::mem::take(&mut self.kept) {
            let build = |base: &str| post(base, "/v1/plays", &self.token, &intent.key, &body);
            decide(&self.caller, &self.shared, &intent, build).await?;
        }
        Ok(())
    }

    /// One bet on a commitment, until it is decided. The client's seed is made from the key, so that the row tells whose it is.
    pub(super) async fn bet(
        &mut self,
        kind: Kind,
        path: &str,
        commitment: &Body,
        due: Instant,
    ) -> Result<()> {
        self.number += 1;
        let key = format!("{}-{}", self.name, self.number);
        let tag = digest::sha256(key.as_bytes());
        let body = json!({
            "stake_micro": STAKE_MICRO,
            "selection": "high",
            "client_seed": tag,
            "commitment": commitment,
        });
        let body = Bytes::from(body.to_string());
        let intent = Intent { client: self.name.clone(), key, kind, tag: Some(tag), due };
        let build = |base: &str| post(base, path, &self.token, &intent.key, &body);
        match decide(&self.caller, &self.shared, &intent, build).await? {
            Decided::Acknowledged(answer) => {
                self.shown.add(&answer);
                if kind == Kind::Play {
                    self.keep(intent, body);
                }
            }
            Decided::Refused => self.commitment = None,
            Decided::Open => {}
        }
        Ok(())
    }

    /// Keeps the first and the latest acknowledged plays.
    fn keep(&mut self, intent: Intent, body: Bytes) {
        if self.kept.len() >= REPEATED {
            self.kept.pop();
        }
        self.kept.push((intent, body));
    }

    /// The commitment to play on; asked for until it is there or the load ends.
    async fn commitment(&mut self) -> Result<Option<Body>> {
        while self.commitment.is_none() && self.shared.on() {
            let build = |base: &str| {
                Ok(Request::get(format!("{base}/v1/session"))
                    .header("authorization", format!("Bearer {}", self.token))
                    .body(Bytes::new())?)
            };
            if let Ok(answer) = self.caller.send(build).await?
                && answer.status == StatusCode::OK
            {
                self.commitment = answer.json().get("commitment").cloned();
            } else {
                tokio::time::sleep(SESSION_AGAIN).await;
            }
        }
        Ok(self.commitment.clone())
    }
}
