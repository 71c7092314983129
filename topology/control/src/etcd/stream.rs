//! One watch on one key over one connection.
//!
//! Invariant: a stream that can no longer be trusted ends with an error; whoever reads it starts over
//! from a read, so that a compacted or missed change is never waited for.

use super::endpoints::{Attempts, Method, chain, method, with_leader};
use super::messages::{EVENT_DELETE, WatchCreateRequest, WatchKind, WatchRequest, WatchResponse};
use super::{Entry, Etcd, Revision};
use crate::config::limits;
use crate::error::Error;
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

const WATCH: Method = method("watch", "/etcdserverpb.Watch/Watch");

/// What happened to the key.
#[derive(Debug)]
pub(crate) enum Event {
    /// It has a new value.
    Put(Entry),
    /// It was removed.
    Deleted,
}

/// The changes of one key from a revision on.
pub(crate) struct WatchStream {
    answers: Streaming<WatchResponse>,
    /// The stream ends when its sending half does.
    _requests: mpsc::Sender<WatchRequest>,
    ready: VecDeque<Event>,
}

impl Etcd {
    /// Watches a key from the revision after `seen` on.
    pub(crate) async fn watch(&self, key: &str, seen: Revision) -> Result<WatchStream, Error> {
        self.0.ask(WATCH, Attempts::Repeatable, |channel| open(channel, key, seen)).await
    }
}

async fn open(channel: Channel, key: &str, seen: Revision) -> Result<WatchStream, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
    let (requests, receiver) = mpsc::channel(limits::WATCH_REQUESTS);
    let create = WatchCreateRequest { key: key.into(), start_revision: seen.0.saturating_add(1) };
    let create = WatchRequest { request: Some(WatchKind::Create(create)) };
    requests.try_send(create).map_err(|error| Status::internal(error.to_string()))?;
    let path = PathAndQuery::from_static(WATCH.path);
    let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
    let outbound = with_leader(ReceiverStream::new(receiver));
    let answers = client.streaming(outbound, path, codec).await?.into_inner();
    Ok(WatchStream { answers, _requests: requests, ready: VecDeque::new() })
}

impl WatchStream {
    /// The next change. Cancel-safe: what was received stays with the stream.
    pub(crate) async fn next(&mut self) -> Result<Event, Error> {
        let lost = |cause: String| Error::Unavailable { operation: WATCH.name, cause };
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let answer = self.answers.message().await;
            let answer = answer
                .map_err(|status| lost(status.message().to_owned()))?
                .ok_or_else(|| lost("the stream ended".to_owned()))?;
            if answer.canceled {
                return Err(lost(match answer.compact_revision {
                    0 => answer.cancel_reason,
                    revision => format!("compacted up to revision {revision}"),
                }));
            }
            self.ready.extend(answer.events.into_iter().filter_map(|event| match event.kv {
                _ if event.kind == EVENT_DELETE => Some(Event::Deleted),
                kv => kv.map(|kv| Event::Put(kv.into())),
            }));
        }
    }
}
