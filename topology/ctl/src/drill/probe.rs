//! Clients that play while the writer moves: what they see is what a drill measures.
//!
//! Players come through the routers like anybody outside, each bets under a key of its own and sends it again until it is
//! answered. Every attempt that failed and every acknowledgement is kept with its time. Afterwards the proof of each
//! acknowledged round is fetched and checked offline: one that cannot be proven counts as lost.
//! Deliberately absent: high load. That is the chaos suite's.

use super::report::{Load, LostRound};
use crate::operator::Operator;
use crate::outside::{self, Outside, Refused, home_router, pinned};
use crate::secrets;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use domicile_core::bundle::Bundle;
use domicile_core::hex;
use domicile_core::ids::{Jurisdiction, OperatorId, RoundId};
use domicile_core::verify::{Verdict, verify_bundle};
use domicile_topology::Topology;
use http::{Request, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Players of each jurisdiction.
const PLAYERS_PER_JURISDICTION: usize = 2;
/// Most players.
const PLAYERS_MAX: usize = 16;
/// Pause of a player between two plays.
const PACE: Duration = Duration::from_millis(25);
/// Pause before a write is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a player sends the same write.
const PATIENCE: Duration = Duration::from_mins(1);
/// Most writes of one load; then the players stop.
const WRITES_MAX: usize = 50_000;
/// The stake of each play, micro-units.
const STAKE_MICRO: u64 = 1_000_000;
const CURRENCY: &str = "EUR";
const GAME: &str = "hilo-dice";
/// How long a proof may take to be there after the last play.
const PROOF_WITHIN: Duration = Duration::from_secs(20);

/// A write as its client saw it; times since the drill began.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// When it was first sent.
    pub(crate) sent_ms: u64,
    /// When it was answered.
    pub(crate) answered_ms: u64,
    /// The epoch it was acknowledged in, and its round; `None` when it was given up.
    pub(crate) acknowledged: Option<(u64, RoundId)>,
    /// Attempts that failed: when, and with which code.
    pub(crate) failures: Vec<(u64, String)>,
    player: usize,
}

/// Players at play.
pub(crate) struct Probe {
    operator: OperatorId,
    players: Vec<Arc<Player>>,
    playing: JoinSet<()>,
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
}

struct Player {
    jurisdiction: Jurisdiction,
    outside: Outside,
    base: String,
    token: String,
}

#[derive(Deserialize)]
struct Session {
    token: String,
}

#[derive(Deserialize)]
struct SessionState {
    commitment: String,
    checkpoint_size: u64,
}

#[derive(Deserialize)]
struct Play {
    round: RoundId,
    epoch: u64,
    remaining: u64,
}

impl Probe {
    /// Opens the sessions and begins to play.
    pub(crate) async fn start(
        topology: &Topology,
        outside: &Outside,
        (id, operator): (&OperatorId, &Operator),
        began: Instant,
    ) -> Result<Self> {
        let mut players = Vec::new();
        for policy in &topology.jurisdictions {
            for _ in 0..PLAYERS_PER_JURISDICTION {
                if players.len() < PLAYERS_MAX {
                    let player = Player::open(topology, outside, operator, &policy.code).await?;
                    players.push(Arc::new(player));
                }
            }
        }
        let (stop, samples) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Sample>>>::default());
        let mut playing = JoinSet::new();
        for (number, player) in players.iter().enumerate() {
            let (player, stop, samples) = (player.clone(), stop.clone(), samples.clone());
            playing.spawn(async move { player.play(number, began, &stop, &samples).await });
        }
        Ok(Self { operator: id.clone(), players, playing, stop, samples })
    }

    /// Waits until each player has had an acknowledgement after this moment.
    pub(crate) async fn all_acknowledged_since(
        &self,
        since_ms: u64,
        within: Duration,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let mut heard = vec![false; self.players.len()];
            for sample in lock(&self.samples).iter().filter(|sample| sample.acknowledged.is_some())
            {
                if let Some(heard) = heard.get_mut(sample.player) {
                    *heard |= sample.sent_ms >= since_ms;
                }
            }
            let silent = heard.iter().filter(|heard| !**heard).count();
            if silent == 0 {
                return Ok(());
            }
            if begun.elapsed() >= within {
                bail!("{silent} of {} players get no write acknowledged", self.players.len());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Ends the play, then fetches and checks the proof of every acknowledged round.
    pub(crate) async fn finish(
        mut self,
        topology: &Topology,
        load: &mut Load,
    ) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        while self.playing.join_next().await.is_some() {}
        let samples = std::mem::take(&mut *lock(&self.samples));
        load.players = self.players.len();
        let keys = Arc::new(pinned(topology)?);
        let mut proving = JoinSet::new();
        for (number, player) in self.players.iter().enumerate() {
            let of_player = samples.iter().filter(|sample| sample.player == number);
            let rounds: Vec<RoundId> =
                of_player.filter_map(|s| s.acknowledged.map(|(_, round)| round)).collect();
            let (player, keys) = (player.clone(), keys.clone());
            proving.spawn(async move {
                let (mut proven, mut lost) = (0_u64, Vec::new());
                for round in rounds {
                    match player.prove(round, &keys).await {
                        Ok(()) => proven += 1,
                        Err(error) => {
                            lost.push((player.jurisdiction.clone(), round, format!("{error:#}")));
                        }
                    }
                }
                (proven, lost)
            });
        }
        while let Some(proved) = proving.join_next().await {
            let (proven, lost) = proved.context("checking proofs was interrupted")?;
            load.proven += proven;
            load.lost.extend(lost.into_iter().map(|(jurisdiction, round, why)| LostRound {
                jurisdiction,
                operator: self.operator.clone(),
                round,
                stake_micro: STAKE_MICRO,
                currency: CURRENCY.to_owned(),
                why,
            }));
        }
        let acknowledged = samples.iter().filter(|sample| sample.acknowledged.is_some()).count();
        let stake_micro = u64::try_from(acknowledged)?.saturating_mul(STAKE_MICRO);
        load.stake_micro.insert(CURRENCY.to_owned(), stake_micro);
        Ok(samples)
    }
}

impl Player {
    async fn open(
        topology: &Topology,
        outside: &Outside,
        operator: &Operator,
        jurisdiction: &Jurisdiction,
    ) -> Result<Self> {
        let router = home_router(topology, jurisdiction)?;
        let player = format!("drill-{}", hex::encode(&secrets::random::<6>()?));
        let body = json!({
            "request_id": format!("session-{player}"),
            "player": player,
            "game": GAME,
            "currency": CURRENCY,
            "jurisdiction": jurisdiction,
        });
        let session: Session = operator.post("/operator/v1/sessions", &body).await?;
        let base = router.endpoint.to_string();
        let jurisdiction = jurisdiction.clone();
        Ok(Self { jurisdiction, outside: outside.clone(), base, token: session.token })
    }

    /// Plays until told to stop: a write in flight is still seen to its end.
    async fn play(
        &self,
        number: usize,
        began: Instant,
        stop: &AtomicBool,
        samples: &Mutex<Vec<Sample>>,
    ) {
        let mut state: Option<SessionState> = None;
        while !stop.load(Ordering::Relaxed) && lock(samples).len() < WRITES_MAX {
            let Some(current) = &state else {
                state = self.get("/v1/session").await.ok();
                tokio::time::sleep(PACE).await;
                continue;
            };
            let Ok(key) = secrets::random::<12>() else { return };
            let (sample, remaining) = self.one(number, began, current, &hex::encode(&key)).await;
            // What was refused as such was not played: the session is read again.
            if remaining.is_none_or(|remaining| remaining == 0) {
                state = None;
            }
            lock(samples).extend(sample);
            tokio::time::sleep(PACE).await;
        }
    }

    /// One write, sent until it is answered; and how many plays are left under the commitment.
    async fn one(
        &self,
        player: usize,
        began: Instant,
        state: &SessionState,
        key: &str,
    ) -> (Option<Sample>, Option<u64>) {
        let body = json!({
            "stake_micro": STAKE_MICRO,
            "selection": "high",
            "client_seed": format!("{key:0<64}"),
            "commitment": state.commitment,
            "checkpoint_size": state.checkpoint_size,
        });
        let body = Bytes::from(body.to_string());
        let sent_ms = since(began);
        let mut sample = Sample {
            sent_ms,
            answered_ms: sent_ms,
            acknowledged: None,
            failures: Vec::new(),
            player,
        };
        loop {
            let answer: Result<Play> = self.post("/v1/plays", key, &body).await;
            sample.answered_ms = since(began);
            match answer {
                Ok(play) => {
                    sample.acknowledged = Some((play.epoch, play.round));
                    return (Some(sample), Some(play.remaining));
                }
                Err(error) if !outside::passes(&error) => return (None, None),
                Err(error) => sample.failures.push((sample.answered_ms, Refused::code(&error))),
            }
            if u128::from(sample.answered_ms.saturating_sub(sent_ms)) >= PATIENCE.as_millis() {
                return (Some(sample), None);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn prove(&self, round: RoundId, keys: &[domicile_core::note::VerifierKey]) -> Result<()> {
        let path = format!("/v1/rounds/{round}/proof?wait_ms=2000");
        let begun = Instant::now();
        let answer = loop {
            match self
                .outside
                .once(self.request(Request::get(self.url(&path)), Bytes::new())?)
                .await
            {
                Ok(answer) => break answer,
                Err(error) if begun.elapsed() >= PROOF_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        };
        let bundle = Bundle::parse(&answer.body).context("the answer is no bundle")?;
        if (&bundle.jurisdiction, bundle.round) != (&self.jurisdiction, round) {
            bail!("the bundle is of another round or jurisdiction");
        }
        let report = verify_bundle(&bundle, None, keys);
        if report.verdict == Verdict::Verified {
            Ok(())
        } else {
            bail!("the proof does not verify")
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.request(Request::get(self.url(path)), Bytes::new())?;
        Ok(serde_json::from_slice(&self.outside.once(request).await?.body)?)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, key: &str, body: &Bytes) -> Result<T> {
        let request = Request::post(self.url(path))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key);
        let answer = self.outside.once(self.request(request, body.clone())?).await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn request(&self, request: http::request::Builder, body: Bytes) -> Result<Request<Bytes>> {
        let bearer = format!("Bearer {}", self.token);
        Ok(request.header(header::AUTHORIZATION, bearer).body(body)?)
    }
}

fn since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn lock(samples: &Mutex<Vec<Sample>>) -> std::sync::MutexGuard<'_, Vec<Sample>> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
impl Sample {
    /// A write acknowledged in this epoch.
    pub(crate) fn acknowledged(sent_ms: u64, answered_ms: u64, epoch: u64) -> Self {
        let round = RoundId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a01").unwrap();
        let acknowledged = Some((epoch, round));
        Self { sent_ms, answered_ms, acknowledged, failures: Vec::new(), player: 0 }
    }
}
