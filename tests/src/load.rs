//! Load: players that play one after the other, each retrying an undecided play with its own key, as real
//! clients do.

use crate::player::{Answer, Player};
use domicile_chaos::history::{History, Outcome};
use domicile_service::client::ClientError;
use http::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Attempts per play, at most; a play that is still undecided then stays undecided.
const ATTEMPTS_MAX: u32 = 600;
/// Pause before a retry, in milliseconds.
const RETRY_MS: u64 = 100;

/// Running players and what they were promised.
pub struct Load {
    history: Arc<History>,
    stop: Arc<AtomicBool>,
    players: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts one task per player; `name` leads every idempotency key.
    pub fn start(name: &str, players: Vec<Player>) -> Self {
        let history = Arc::new(History::default());
        let stop = Arc::new(AtomicBool::new(false));
        let players = players
            .into_iter()
            .enumerate()
            .map(|(number, player)| {
                let (history, stop) = (Arc::clone(&history), Arc::clone(&stop));
                let name = format!("{name}-{number}");
                tokio::spawn(async move { play_on(&name, &player, &history, &stop).await })
            })
            .collect();
        Self { history, stop, players }
    }

    /// The record so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Waits until `more` further plays were acknowledged; panics after `within`.
    pub async fn acknowledged(&self, more: usize, within: Duration) {
        let wanted = self.history.acknowledged() + more;
        crate::eventually::eventually("acknowledged plays", within, || async {
            let now = self.history.acknowledged();
            if now >= wanted { Ok(()) } else { Err(format!("{now} of {wanted}")) }
        })
        .await;
    }

    /// Lets every player decide the play in hand, and returns the whole record.
    pub async fn finish(self) -> Arc<History> {
        self.stop.store(true, Ordering::Relaxed);
        for player in self.players {
            player.await.expect("a player's task");
        }
        self.history
    }
}

async fn play_on(name: &str, player: &Player, history: &History, stop: &AtomicBool) {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{name}-{number}");
        let Some(session) = current(player, stop).await else { return };
        let body = Player::play_body(&session, "high", 1_000_000, number);
        history.invoke(&key);
        for attempt in 0..ATTEMPTS_MAX {
            let outcome = classify(player.post("/v1/plays", &key, &body).await);
            let decided = matches!(outcome, Outcome::Acknowledged(_) | Outcome::Refused(_));
            history.outcome(&key, outcome);
            // After the stop an undecided play gets a last minute, so that a run ends.
            if decided || (stop.load(Ordering::Relaxed) && attempt > 300) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }
}

async fn current(player: &Player, stop: &AtomicBool) -> Option<Value> {
    while !stop.load(Ordering::Relaxed) {
        match player.get("/v1/session").await {
            Ok(answer) if answer.status == StatusCode::OK => return Some(answer.json()),
            _ => tokio::time::sleep(Duration::from_millis(RETRY_MS)).await,
        }
    }
    None
}

fn classify(result: Result<Answer, ClientError>) -> Outcome {
    match result {
        Ok(answer) if answer.status == StatusCode::CREATED => Outcome::Acknowledged(answer.json()),
        // A conflict or an invalid bet is final; anything else may be sent again with the same key.
        Ok(answer)
            if answer.status.is_client_error()
                && answer.status != StatusCode::TOO_MANY_REQUESTS =>
        {
            Outcome::Refused(answer.code())
        }
        Ok(answer) => Outcome::Unknown(answer.code()),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}
