//! A player who watches the rounds and, when the stream ends, comes back with the last id seen.

use crate::eventually::eventually;
use bytes::Bytes;
use domicile_service::tls::ClientTls;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Pause before a stream that ended is opened again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What was told.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id.
    pub id: u64,
    /// What happened.
    pub name: String,
    /// The particulars.
    pub data: Value,
}

impl Event {
    /// The round it is about.
    pub fn round(&self) -> String {
        self.data["round"].as_str().unwrap_or_default().to_owned()
    }
}

/// A watching player.
#[derive(Debug)]
pub struct Stream {
    seen: Arc<Mutex<Vec<Event>>>,
    task: JoinHandle<()>,
}

impl Stream {
    /// Watches the rounds of the token's game through the router at `base`.
    pub fn watch(authority: &Path, base: &str, token: &str) -> Self {
        let tls = ClientTls::anonymous(authority).expect("the authority");
        let seen = Arc::<Mutex<Vec<Event>>>::default();
        let (told, base, token) = (Arc::clone(&seen), base.to_owned(), token.to_owned());
        let task = tokio::spawn(async move {
            loop {
                if let Some(body) = open(&tls, &base, &token, last_id(&told)).await {
                    read(body, &told).await;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
        Self { seen, task }
    }

    /// Everything told so far.
    pub fn seen(&self) -> Vec<Event> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until more events of this name are there than `before`.
    pub async fn more(&self, name: &str, before: usize, within: Duration) {
        eventually(&format!("more than {before} times {name}"), within, || async {
            let count = self.count(name);
            if count > before { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
    }

    /// How many events of this name there are.
    pub fn count(&self, name: &str) -> usize {
        self.seen().iter().filter(|event| event.name == name).count()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn last_id(seen: &Mutex<Vec<Event>>) -> Option<u64> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).last().map(|event| event.id)
}

async fn open(tls: &ClientTls, base: &str, token: &str, after: Option<u64>) -> Option<Incoming> {
    let address = base.trim_start_matches("https://").trim_end_matches('/');
    let tcp = TcpStream::connect(address).await.ok()?;
    let mut config = (*tls.config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let host = address.split(':').next()?.to_owned();
    let name = ServerName::try_from(host).ok()?;
    let stream =
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::get("/v1/rounds/stream")
        .header("host", address)
        .header("authorization", format!("Bearer {token}"));
    if let Some(after) = after {
        request = request.header("last-event-id", after);
    }
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let answer = sender.send_request(request).await.ok()?;
    answer.status().is_success().then(|| answer.into_body())
}

async fn read(mut body: Incoming, told: &Mutex<Vec<Event>>) {
    let mut buffer = String::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        buffer.push_str(&String::from_utf8_lossy(&data));
        while let Some((text, rest)) = buffer.split_once("\n\n") {
            if let Some(event) = parse(text) {
                told.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
            buffer = rest.to_owned();
        }
    }
}

/// An event with an id; the others are signs of life and last words.
fn parse(text: &str) -> Option<Event> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    Some(Event {
        id: field("id: ")?.parse().ok()?,
        name: field("event: ")?.to_owned(),
        data: serde_json::from_str(field("data: ")?).ok()?,
    })
}
