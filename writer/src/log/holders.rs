//! Asks the readers which checkpoint they hold, before the first signature of an epoch.

use bytes::Bytes;
use domicile_service::client::HttpClient;
use http::{Request, StatusCode};

/// How long one holder may take to answer, in milliseconds.
const HOLDER_TIMEOUT_MS: u64 = 1_000;

/// The outside holders of one log: readers by name and the URL of their checkpoint.
#[derive(Clone)]
pub struct Holders {
    client: HttpClient,
    readers: Vec<(String, String)>,
}

/// What one holder answered.
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

    /// Asks every holder, one after the other: there are few, and it happens once per epoch.
    pub(crate) async fn ask(&self) -> Vec<(String, Answer)> {
        let mut answers = Vec::with_capacity(self.readers.len());
        for (name, url) in &self.readers {
            let answer = self.ask_one(url).await.unwrap_or_else(|reason| {
                tracing::warn!(reader = %name, reason, "the reader does not state its checkpoint");
                Answer::Silent
            });
            answers.push((name.clone(), answer));
        }
        answers
    }

    async fn ask_one(&self, url: &str) -> Result<Answer, String> {
        let request = Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
        let response = self.client.send(request).await.map_err(|error| error.to_string())?;
        match response.status() {
            StatusCode::OK => String::from_utf8(response.into_body().to_vec())
                .map(Answer::Checkpoint)
                .map_err(|error| error.to_string()),
            StatusCode::NOT_FOUND => Ok(Answer::Nothing),
            status => Err(status.to_string()),
        }
    }
}
