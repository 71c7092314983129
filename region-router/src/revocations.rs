//! Sessions that were revoked although their tokens have not expired: known here, so that they are refused at the door.
//!
//! The current writer is asked every second for what is new, and at the start for everything that a token may still be
//! good for; the writer's cursor says where to go on, and nothing is kept on disk, because an hour's revocations are a few
//! answers. Readers and the writer
//! refuse a revoked session by their own rows as well: while no writer answers, the last known set stays in force here,
//! and they stay the ones who decide.
//! Invariants: a session once known as revoked is refused until its tokens have expired; the set has a limit, beyond which
//! the oldest are left to readers and writer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use domicile_core::ids::SessionId;
use domicile_service::clock::Clock;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tokio::time::sleep;

use crate::body::Outbound;
use crate::forward::Forwarder;
use crate::route::Target;

/// The pause between two questions, milliseconds.
const POLL_MS: u64 = 1_000;
/// The longest life of a token and its leeway, seconds: what is older is forgotten.
const KEEP_S: u64 = 3_720;
/// Most sessions that are kept.
const MAX_SESSIONS: usize = 200_000;
/// Where a writer tells of them.
const PATH: &str = "/feed/v1/revocations";
/// Longest wait for a writer's revocations, milliseconds.
const TIMEOUT_MS: u64 = 2_000;
/// How many writers are asked for them.
const ATTEMPTS: usize = 2;
/// Largest answer with revocations, bytes.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// What the writer answers.
#[derive(Debug)]
enum Told {
    /// Nothing that was not told before.
    Nothing,
    /// Some, perhaps not for the first time.
    Page(Page),
}

/// Revocations, and where to go on.
#[derive(Debug, Deserialize)]
struct Page {
    revoked: Vec<Revocation>,
    more: bool,
    cursor: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Revocation {
    session: SessionId,
    at_unix_s: u64,
}

/// The revoked sessions, by when.
#[derive(Debug, Default)]
pub struct Revoked {
    sessions: ArcSwap<HashMap<SessionId, u64>>,
}

impl Revoked {
    /// Whether the session is known as revoked.
    pub fn contains(&self, session: &SessionId) -> bool {
        self.sessions.load().contains_key(session)
    }

    /// Adds what is new and forgets what no token can be of any more.
    fn take(&self, revocations: &[Revocation], now_unix_s: u64) {
        let known = self.sessions.load();
        let is_old = |at_unix_s: u64| at_unix_s.saturating_add(KEEP_S) < now_unix_s;
        let is_news = revocations.iter().any(|new| !known.contains_key(&new.session));
        if !is_news && !known.values().any(|at_unix_s| is_old(*at_unix_s)) {
            return;
        }
        let mut sessions = HashMap::clone(&known);
        sessions.extend(revocations.iter().map(|new| (new.session, new.at_unix_s)));
        sessions.retain(|_, at_unix_s| !is_old(*at_unix_s));
        if sessions.len() > MAX_SESSIONS {
            let mut times: Vec<u64> = sessions.values().copied().collect();
            times.sort_unstable();
            let oldest = times.len().saturating_sub(MAX_SESSIONS);
            let from = times.get(oldest).copied().unwrap_or(u64::MAX);
            sessions.retain(|_, at_unix_s| *at_unix_s >= from);
        }
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX);
        metrics::gauge!("domicile_router_revoked_sessions").set(f64::from(count));
        self.sessions.store(Arc::new(sessions));
    }
}

/// Asks for as long as the process lives.
pub async fn follow(forwarder: Arc<Forwarder>, clock: Arc<dyn Clock>) {
    let mut cursor = None;
    loop {
        let told = ask(&forwarder, cursor.as_deref()).await;
        let (news, more) = match told {
            Some(Told::Page(page)) => {
                cursor = Some(page.cursor);
                (page.revoked, page.more)
            }
            Some(Told::Nothing) => (Vec::new(), false),
            None => {
                metrics::counter!("domicile_router_revocation_failures_total").increment(1);
                (Vec::new(), false)
            }
        };
        forwarder.revoked.take(&news, clock.now_unix_s());
        if !more {
            sleep(Duration::from_millis(POLL_MS)).await;
        }
    }
}

/// What the current writer tells after a cursor, or of all of them.
async fn ask(forwarder: &Forwarder, cursor: Option<&str>) -> Option<Told> {
    let forward = forwarder.decide(&Target::Operator, None).ok()?;
    let timeout = Duration::from_millis(TIMEOUT_MS);
    let path = cursor.map_or_else(|| PATH.to_owned(), |cursor| format!("{PATH}?after={cursor}"));
    for upstream in forward.candidates.iter().take(ATTEMPTS) {
        let request = Request::get(path.as_str()).body(Outbound::Held(Full::default())).ok()?;
        let Ok(answer) = forwarder.upstreams.send(upstream, request, timeout).await else {
            continue;
        };
        if answer.status() == StatusCode::NO_CONTENT {
            return Some(Told::Nothing);
        }
        let is_good = answer.status() == StatusCode::OK;
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect();
        let Ok(Ok(body)) = tokio::time::timeout(timeout, body).await else { continue };
        if is_good {
            return serde_json::from_slice(&body.to_bytes()).ok().map(Told::Page);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revocation(number: u64, at_unix_s: u64) -> Revocation {
        let session = format!("00000000-0000-0000-0000-{number:012x}");
        Revocation { session: SessionId::parse(&session).unwrap(), at_unix_s }
    }

    #[test]
    fn a_session_is_refused_until_its_tokens_have_expired() {
        let revoked = Revoked::default();
        let one = revocation(1, 1_000);
        assert!(!revoked.contains(&one.session));
        revoked.take(std::slice::from_ref(&one), 1_000);
        revoked.take(&[revocation(2, 1_500)], 1_000 + KEEP_S);
        assert!(revoked.contains(&one.session));
        revoked.take(&[], 1_001 + KEEP_S);
        assert!(!revoked.contains(&one.session));
        assert!(revoked.contains(&revocation(2, 0).session));
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_left_to_others() {
        let revoked = Revoked::default();
        let many: Vec<_> = (0..=MAX_SESSIONS).zip(0..).map(|(_, n)| revocation(n, n)).collect();
        revoked.take(&many, 0);
        assert_eq!(revoked.sessions.load().len(), MAX_SESSIONS);
        assert!(!revoked.contains(&many[0].session));
        assert!(revoked.contains(&many[MAX_SESSIONS].session));
    }
}
