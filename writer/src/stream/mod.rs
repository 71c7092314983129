//! Players watch the timed rounds of their game: server-sent events over one long answer.
//!
//! `events` says which events a round's state stands for, pure; `hub` knows who watches; `feed` looks at the ledger and
//! feeds them. Every process can feed every table, whoever runs it: events follow from the ledger's rows alone.
//! Invariants: an event leaves only after a commit that waited for the second region; ids grow, and are the same from
//! every process and every writer, so that a client goes on anywhere with `Last-Event-ID`; a player sees the rounds of
//! the own jurisdiction only; buffers are bounded, and who reads too slowly is told so and cut off.
//! Deliberately absent: bets, balances, other players.

pub mod events;
mod feed;
mod hub;

pub use feed::run;
pub use hub::Hub;

use crate::answer::Failure;
use crate::engine::Engine;
use crate::ledger::floor::Table;
use crate::ledger::rounds_seen::View;
use crate::player::Player;
use crate::session;
use axum::body::Body;
use axum::response::Response;
use domicile_core::error::Code;
use http::{HeaderValue, header};
use hub::Watcher;
use tokio_stream::wrappers::ReceiverStream;

/// The header by which a client says what it has seen.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// What a client asks for.
#[derive(Debug)]
pub struct Watch<'a> {
    /// Who.
    pub player: &'a Player,
    /// When the token ends, unix seconds.
    pub expires_at_unix_s: u64,
    /// The last event that was seen.
    pub after: Option<u64>,
}

/// Opens a stream.
pub async fn watch(hub: &Hub, engine: &Engine, watch: Watch<'_>) -> Result<Response, Failure> {
    let Watch { player, expires_at_unix_s, after } = watch;
    if session::is_revoked(engine, player).await? {
        return Err(Failure::new(Code::SessionRevoked));
    }
    let session = (player.jurisdiction.clone(), player.session.session);
    let of = &player.session;
    let table = Table {
        operator: of.operator.clone(),
        game: of.game.clone(),
        currency: of.currency.clone(),
    };
    let view = View { table, jurisdiction: player.jurisdiction.clone() };
    let watcher = Watcher { view, session, player: of.player.clone(), expires_at_unix_s, after };
    let events = hub.watch(watcher)?;
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(events)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    Ok(response)
}
