//! Reads from outside: proofs of what was acknowledged, and the checkpoints of each log.

use super::{Body, Caller, Shared};
use crate::seed::Seed;
use anyhow::Result;
use bytes::Bytes;
use domicile_oracles::history::Read;
use http::{Request, StatusCode};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Acknowledged rounds remembered for reading, per jurisdiction.
const SHOWN_MAX: usize = 256;
/// Reads between two looks at the checkpoints.
const CHECKPOINT_EVERY: u32 = 2;

/// Rounds and effects that some player was told of.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<VecDeque<(String, String)>>);

impl Shown {
    /// Remembers what an answer names.
    pub(super) fn add(&self, answer: &Body) {
        let text = |name: &str| answer.get(name).and_then(Body::as_str).map(str::to_owned);
        if let (Some(round), Some(bet)) = (text("round"), text("bet")) {
            let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if shown.len() >= SHOWN_MAX {
                shown.pop_front();
            }
            shown.push_back((round, format!("bet/{bet}")));
        }
    }

    /// The newest or any other.
    fn choose(&self, seed: &mut Seed) -> Option<(String, String)> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seed.below(2) == 0 {
            shown.back().cloned()
        } else {
            seed.choose(shown.make_contiguous()).cloned()
        }
    }
}

/// Reads for one jurisdiction.
pub(super) struct Prober {
    pub(super) jurisdiction: String,
    pub(super) caller: Caller,
    pub(super) token: String,
    pub(super) shared: Arc<Shared>,
    pub(super) shown: Arc<Shown>,
    pub(super) seed: Seed,
}

impl Prober {
    /// Reads until the load ends. A read that is not answered is no promise, and is not recorded.
    pub(super) async fn run(mut self, pause: Duration) -> Result<()> {
        let (mut size, mut turn) = (0, 0_u32);
        while self.shared.on() {
            tokio::time::sleep(pause).await;
            if let Some((round, effect)) = self.shown.choose(&mut self.seed) {
                size = self.read(&round, effect, size).await?.max(size);
            }
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(CHECKPOINT_EVERY) {
                self.checkpoints().await?;
            }
        }
        Ok(())
    }

    /// One proof, at least as new as anything this client has seen. Returns the size it was answered from.
    async fn read(&self, round: &str, effect: String, asked_size: u64) -> Result<u64> {
        let asked_ns = self.shared.recorder.now_ns();
        let build = |base: &str| {
            Ok(Request::get(format!("{base}/v1/rounds/{round}/proof?wait_ms=1000"))
                .header("authorization", format!("Bearer {}", self.token))
                .header("domicile-min-log-size", asked_size.to_string())
                .body(Bytes::new())?)
        };
        let Ok(answer) = self.caller.send(build).await? else { return Ok(0) };
        let found = match answer.status {
            StatusCode::OK => true,
            StatusCode::NOT_FOUND => false,
            _ => return Ok(0),
        };
        let log_size = answer.number("domicile-log-size").unwrap_or(asked_size);
        let read = Read {
            node: answer.text("domicile-reader").unwrap_or_default(),
            jurisdiction: self.jurisdiction.clone(),
            effect,
            found,
            asked_size,
            log_size,
            lag_ms: answer.number("domicile-lag-ms").unwrap_or_default(),
        };
        self.shared.recorder.read(&format!("{}-reads", self.jurisdiction), asked_ns, read)?;
        Ok(log_size)
    }

    /// The newest checkpoint by every way in.
    async fn checkpoints(&self) -> Result<()> {
        for base in self.caller.bases() {
            let path = format!("{base}/log/{}/checkpoint", self.jurisdiction);
            let request = Request::get(path).body(Bytes::new())?;
            if let Ok(answer) = self.caller.send_to(request).await
                && answer.status == StatusCode::OK
            {
                let note = String::from_utf8_lossy(&answer.body);
                self.shared.recorder.checkpoint(base, &self.jurisdiction, &note)?;
            }
        }
        Ok(())
    }
}
