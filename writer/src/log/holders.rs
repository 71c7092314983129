//! Asks the readers which checkpoint they hold, before the first signature of an epoch; and for the operations log, which
//! no reader has, the control plane.
//!
//! All are asked at the same time. Where one holder is enough, the others get a short while more: what they say
//! counts if it comes, and a dead one delays nobody.

use bytes::Bytes;
use domicile_control::Pins;
use domicile_service::client::HttpClient;
use http::{Request, StatusCode};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long one holder may take to answer, in milliseconds.
const HOLDER_TIMEOUT_MS: u64 = 1_000;
/// How much longer the others are listened to once one holder has stated its checkpoint, in milliseconds.
const STRAGGLERS_MS: u64 = 100;

/// How the control plane is named among holders.
const CONTROL_PLANE: &str = "the control plane";

/// The outside holders of one log: readers by name and the URL of their checkpoint.
#[derive(Clone)]
pub struct Holders {
    client: HttpClient,
    readers: Vec<(String, String)>,
    pins: Option<Pins>,
}

/// What one holder answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It holds this checkpoint (unverified text).
    Checkpoint(String),
    /// It holds none yet.
    Nothing,
    /// It did not answer in time, or not with a checkpoint.
    Silent,
}

impl Holders {
    /// `readers` are (name, URL of the log's checkpoint) pairs.
    pub fn new(client: &HttpClient, readers: Vec<(String, String)>) -> Self {
        Self { client: client.within_ms(HOLDER_TIMEOUT_MS), readers, pins: None }
    }

    /// The control plane and nobody else. It is waited for only where everyone is: after a move that lost nothing the log
    /// goes on without it.
    pub fn pinned(client: &HttpClient, pins: Pins) -> Self {
        Self { pins: Some(pins), ..Self::new(client, Vec::new()) }
    }

    /// Asks every holder. `everyone`: each one is waited for as long as it may take.
    pub(crate) async fn ask(&self, everyone: bool) -> BTreeMap<String, Answer> {
        let silent = |(name, _): &(String, String)| (name.clone(), Answer::Silent);
        let mut answers: BTreeMap<_, _> = self.readers.iter().map(silent).collect();
        let mut asking = JoinSet::new();
        for (name, url) in self.readers.clone() {
            let client = self.client.clone();
            asking.spawn(async move { (name, ask_one(&client, &url).await) });
        }
        if let Some(pins) = self.pins.clone() {
            let unheard = if everyone { Answer::Silent } else { Answer::Nothing };
            answers.insert(CONTROL_PLANE.to_owned(), unheard);
            asking.spawn(async move { (CONTROL_PLANE.to_owned(), ask_pin(&pins).await) });
        }
        let mut until = Instant::now() + Duration::from_millis(HOLDER_TIMEOUT_MS);
        while let Ok(Some(Ok((name, answer)))) = timeout_at(until, asking.join_next()).await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(reason) => {
                    tracing::warn!(holder = %name, reason, "it does not state its checkpoint");
                    continue;
                }
            };
            if matches!(answer, Answer::Checkpoint(_)) && !everyone {
                until = until.min(Instant::now() + Duration::from_millis(STRAGGLERS_MS));
            }
            answers.insert(name, answer);
        }
        answers
    }
}

async fn ask_pin(pins: &Pins) -> Result<Answer, String> {
    let pin = pins.read().await.map_err(|error| error.to_string())?;
    Ok(pin.and_then(|pin| pin.value.checkpoint).map_or(Answer::Nothing, Answer::Checkpoint))
}

async fn ask_one(client: &HttpClient, url: &str) -> Result<Answer, String> {
    let request = Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
    let response = client.send(request).await.map_err(|error| error.to_string())?;
    match response.status() {
        StatusCode::OK => String::from_utf8(response.into_body().to_vec())
            .map(Answer::Checkpoint)
            .map_err(|error| error.to_string()),
        StatusCode::NOT_FOUND => Ok(Answer::Nothing),
        status => Err(status.to_string()),
    }
}
