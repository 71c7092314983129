//! Asks the readers which checkpoint they hold, before the first signature of an epoch.
//!
//! All are asked at the same time. Where one holder is enough, the others get a short while more: what they say
//! counts if it comes, and a dead one delays nobody.

use bytes::Bytes;
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

/// The outside holders of one log: readers by name and the URL of their checkpoint.
#[derive(Clone)]
pub struct Holders {
    client: HttpClient,
    readers: Vec<(String, String)>,
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
        Self { client: client.within_ms(HOLDER_TIMEOUT_MS), readers }
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
        let mut until = Instant::now() + Duration::from_millis(HOLDER_TIMEOUT_MS);
        while let Ok(Some(Ok((name, answer)))) = timeout_at(until, asking.join_next()).await {
            let answer = answer.unwrap_or_else(|reason| {
                tracing::warn!(reader = %name, reason, "the reader does not state its checkpoint");
                Answer::Silent
            });
            if matches!(answer, Answer::Checkpoint(_)) && !everyone {
                until = until.min(Instant::now() + Duration::from_millis(STRAGGLERS_MS));
            }
            answers.insert(name, answer);
        }
        answers
    }
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
