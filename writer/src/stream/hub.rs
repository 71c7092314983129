//! Who watches what in this process.
//!
//! Invariants: at most [`limits::STREAMS`] watchers, and [`limits::STREAMS_PER_PLAYER`] of one player; what waits for a
//! watcher is bounded, with one place kept for the last word; a watcher's place is free when it has left or was told to.

use super::events::{self, Event};
use crate::answer::Failure;
use crate::ledger::rounds_seen::View;
use crate::limits;
use bytes::Bytes;
use domicile_core::error::Code;
use domicile_core::ids::{Jurisdiction, PlayerRef, SessionId};
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};

/// What goes to one client.
pub(super) type Piece = Result<Bytes, Infallible>;

/// Somebody who wants to watch.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) view: View,
    pub(super) session: (Jurisdiction, SessionId),
    pub(super) player: PlayerRef,
    pub(super) expires_at_unix_s: u64,
    pub(super) after: Option<u64>,
}

/// Those who watch.
#[derive(Debug, Default)]
pub struct Hub {
    watching: Mutex<Vec<Watching>>,
    came: Notify,
}

#[derive(Debug)]
struct Watching {
    watcher: Watcher,
    pieces: mpsc::Sender<Piece>,
    is_fed: bool,
}

impl Watching {
    /// Whether it goes on after this piece.
    fn take(&self, piece: String) -> bool {
        // One place is kept for the last word.
        if self.pieces.capacity() < 2 {
            return self.end("too-slow");
        }
        self.pieces.try_send(Ok(piece.into())).is_ok()
    }

    /// The last word. A client that is gone misses nothing.
    fn end(&self, reason: &'static str) -> bool {
        metrics::counter!("domicile_writer_streams_ended_total", "reason" => reason).increment(1);
        drop(self.pieces.try_send(Ok(events::last(reason).into())));
        false
    }

    fn is_same_player(&self, other: &Watcher) -> bool {
        let own = &self.watcher;
        own.player == other.player && own.view.table.operator == other.view.table.operator
    }
}

impl Hub {
    /// Takes a watcher in.
    pub(super) fn watch(&self, watcher: Watcher) -> Result<mpsc::Receiver<Piece>, Failure> {
        let (pieces, events) = mpsc::channel(limits::STREAM_BUFFER_EVENTS);
        let mut watching = self.lock();
        watching.retain(|other| !other.pieces.is_closed());
        let own = watching.iter().filter(|other| other.is_same_player(&watcher)).count();
        if own >= limits::STREAMS_PER_PLAYER {
            let detail = "the player has too many streams";
            return Err(Failure::with(Code::TooManyRequests, detail));
        }
        if watching.len() >= limits::STREAMS {
            return Err(Failure::new(Code::WriterOverloaded));
        }
        watching.push(Watching { watcher, pieces, is_fed: false });
        show(watching.len());
        drop(watching);
        self.came.notify_one();
        Ok(events)
    }

    /// Waits until somebody has come.
    pub(super) async fn came(&self) {
        self.came.notified().await;
    }

    /// What is watched.
    pub(super) fn views(&self) -> Vec<View> {
        let all: HashSet<View> =
            self.lock().iter().map(|watching| watching.watcher.view.clone()).collect();
        all.into_iter().collect()
    }

    /// Whether somebody has come and was not told anything yet.
    pub(super) fn is_unfed(&self) -> bool {
        self.lock().iter().any(|watching| !watching.is_fed)
    }

    /// The sessions that watch.
    pub(super) fn sessions(&self) -> Vec<(Jurisdiction, SessionId)> {
        let all: HashSet<_> =
            self.lock().iter().map(|watching| watching.watcher.session.clone()).collect();
        all.into_iter().collect()
    }

    /// Tells the watchers of a view what they have not seen. Who came without having seen anything begins with
    /// `first`.
    pub(super) fn tell(&self, view: &View, first: u64, news: &[Event]) {
        self.keep(|watching| {
            let watcher = &mut watching.watcher;
            if watcher.view != *view {
                return true;
            }
            watching.is_fed = true;
            let seen = *watcher.after.get_or_insert(first);
            for event in news.iter().filter(|event| event.id > seen) {
                watching.watcher.after = Some(event.id);
                if !watching.take(event.wire()) {
                    return false;
                }
            }
            true
        });
    }

    /// Gives everybody a sign of life.
    pub(super) fn beat(&self) {
        self.keep(|watching| watching.take(": beat\n\n".to_owned()));
    }

    /// Ends the streams of these sessions, and of those whose tokens have ended.
    pub(super) fn end_revoked(&self, revoked: &[SessionId], now_unix_s: u64) {
        self.keep(|watching| {
            if revoked.contains(&watching.watcher.session.1) {
                watching.end("session-revoked")
            } else if watching.watcher.expires_at_unix_s <= now_unix_s {
                watching.end("token-expired")
            } else {
                true
            }
        });
    }

    /// Ends all streams.
    pub(super) fn end_all(&self, reason: &'static str) {
        self.keep(|watching| watching.end(reason));
    }

    fn keep(&self, goes_on: impl FnMut(&mut Watching) -> bool) {
        let mut watching = self.lock();
        watching.retain_mut(goes_on);
        watching.retain(|watching| !watching.pieces.is_closed());
        show(watching.len());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watching>> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn show(streams: usize) {
    let streams = f64::from(u32::try_from(streams).unwrap_or(u32::MAX));
    metrics::gauge!("domicile_writer_streams").set(streams);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::floor::Table;
    use domicile_core::ids::{GameCode, OperatorId};
    use domicile_core::money::Currency;
    use serde_json::json;

    fn watcher(player: &str, after: Option<u64>) -> Watcher {
        let table = Table {
            operator: OperatorId::parse("acme").unwrap(),
            game: GameCode::parse("wheel").unwrap(),
            currency: Currency::parse("EUR").unwrap(),
        };
        let jurisdiction = Jurisdiction::parse("MT").unwrap();
        let session = (jurisdiction.clone(), SessionId(uuid::Uuid::nil()));
        let view = View { table, jurisdiction };
        let player = PlayerRef::parse(player).unwrap();
        Watcher { view, session, player, expires_at_unix_s: 100, after }
    }

    fn event(id: u64) -> Event {
        Event { id, name: "round-opened", data: json!({}) }
    }

    fn read(events: &mut mpsc::Receiver<Piece>) -> Vec<String> {
        let mut all = Vec::new();
        while let Ok(Ok(piece)) = events.try_recv() {
            all.push(String::from_utf8(piece.to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn a_watcher_is_told_once_what_it_has_not_seen() {
        let hub = Hub::default();
        let (mut new, mut old) =
            (hub.watch(watcher("a", None)).unwrap(), hub.watch(watcher("b", Some(4))).unwrap());
        let view = watcher("a", None).view;
        let news = [event(4), event(5), event(8)];
        for _ in 0..2 {
            hub.tell(&view, 7, &news);
        }
        assert_eq!(read(&mut new), [event(8).wire()], "begins with the present round");
        assert_eq!(read(&mut old), [event(5).wire(), event(8).wire()], "goes on where it was");
    }

    #[test]
    fn who_reads_too_slowly_is_told_so_and_cut_off() {
        let hub = Hub::default();
        let mut slow = hub.watch(watcher("a", Some(0))).unwrap();
        let news: Vec<_> = (1..1_000).map(event).collect();
        hub.tell(&watcher("a", None).view, 0, &news);
        let got = read(&mut slow);
        assert_eq!(got.len(), limits::STREAM_BUFFER_EVENTS);
        assert_eq!(got.last().unwrap(), &events::last("too-slow"));
        assert!(slow.is_closed() && hub.views().is_empty());
    }

    #[test]
    fn places_are_bounded_and_free_again() {
        let hub = Hub::default();
        let mut held: Vec<_> = (0..limits::STREAMS_PER_PLAYER)
            .map(|_| hub.watch(watcher("a", None)).unwrap())
            .collect();
        let refused = hub.watch(watcher("a", None)).unwrap_err();
        assert_eq!(refused.code, Code::TooManyRequests);
        held.pop();
        held.push(hub.watch(watcher("a", None)).unwrap());
        for n in held.len()..limits::STREAMS {
            held.push(hub.watch(watcher(&format!("p{n}"), None)).unwrap());
        }
        let refused = hub.watch(watcher("last", None)).unwrap_err();
        assert_eq!(refused.code, Code::WriterOverloaded);
    }

    #[test]
    fn streams_end_with_their_token_or_session() {
        let hub = Hub::default();
        let mut stream = hub.watch(watcher("a", None)).unwrap();
        hub.end_revoked(&[], 99);
        assert!(read(&mut stream).is_empty());
        hub.end_revoked(&[], 100);
        assert_eq!(read(&mut stream), [events::last("token-expired")]);
        let mut stream = hub.watch(watcher("a", None)).unwrap();
        hub.end_revoked(&[SessionId(uuid::Uuid::nil())], 0);
        assert_eq!(read(&mut stream), [events::last("session-revoked")]);
    }
}
