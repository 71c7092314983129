//! Open-loop load through the routers: plays are due at their times, whether or not earlier ones were answered.
//!
//! Invariants: an operation is recorded before it is sent; it is sent again with its own key until it is decided, as a
//! real client does; latency counts from when it was due; players, queues and attempts are bounded.
//! Deliberately absent: any judgement of the answers beyond what the API's documentation says of them.

mod caller;
mod operation;
mod operator;
mod player;
mod reads;
mod wallet;

pub use caller::Caller;
pub use operation::Body;
pub use wallet::{Wallet, Weather};

use crate::http::Outside;
use crate::recorder::Recorder;
use crate::seed::Seed;
use crate::system::System;
use anyhow::{Context, Result};
use operator::{Credential, Operator};
use player::Player;
use reads::{Prober, Shown};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Operations that are due and wait for a free player, per jurisdiction; more are counted as shed.
const DUE_MAX: usize = 512;
/// How long undecided operations may go on after the load has been stopped.
const DECIDE_WITHIN: Duration = Duration::from_secs(30);

/// How much is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Players of each jurisdiction; each has one play in flight.
    pub players: u32,
    /// Plays due per second in each jurisdiction.
    pub plays_per_s: u32,
    /// Time between two shared rounds, in milliseconds; 0 for none.
    pub round_every_ms: u64,
    /// Time between two proof reads of each jurisdiction, in milliseconds.
    pub read_every_ms: u64,
    /// How long a client waits for an answer, in milliseconds.
    pub patience_ms: u64,
    /// The weather at the wallet of the run's operator, which has none otherwise.
    pub wallet: Option<Weather>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            players: 4,
            plays_per_s: 12,
            round_every_ms: 1_500,
            read_every_ms: 250,
            patience_ms: 4_000,
            wallet: None,
        }
    }
}

/// What all of a load's tasks share.
#[derive(Debug)]
struct Shared {
    recorder: Arc<Recorder>,
    stopped: AtomicBool,
    /// Nothing is sent again once this is set.
    abandoned: AtomicBool,
    shed: AtomicU64,
}

impl Shared {
    fn on(&self) -> bool {
        !self.stopped.load(Ordering::Relaxed)
    }

    fn undecided_may_go_on(&self) -> bool {
        !self.abandoned.load(Ordering::Relaxed)
    }
}

/// Running clients.
pub struct Load {
    shared: Arc<Shared>,
    /// The operator that all of the run's rounds belong to.
    pub operator: String,
    /// Its wallet, where it has one.
    pub wallet: Option<Wallet>,
    clients: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Registers an operator of the run's name and starts everybody.
    pub async fn start(
        system: &System,
        recorder: &Arc<Recorder>,
        traffic: &Traffic,
        run: &str,
        seed: u64,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            recorder: Arc::clone(recorder),
            stopped: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            shed: AtomicU64::new(0),
        });
        let authority = system.state.join("operator/tls/ca.pem");
        let http = Outside::new(&authority, Duration::from_millis(traffic.patience_ms))?;
        let codes: Vec<String> =
            system.topology.jurisdictions.iter().map(|policy| policy.code.to_string()).collect();
        let credential = register(system, run, &codes).await?;
        let wallet = match &traffic.wallet {
            Some(weather) => Some(stormy(system, run, &http, (weather, seed)).await?),
            None => None,
        };
        let everywhere = Caller::new(&http, system.topology.routers.iter());
        let operator = Operator::new(everywhere, credential);
        let mut clients = Vec::new();
        let mut bettors = Vec::new();
        for code in &codes {
            let routers = routers(system, code);
            let shown = Arc::new(Shown::default());
            let (sender, due) = mpsc::channel(DUE_MAX);
            let due = Arc::new(tokio::sync::Mutex::new(due));
            for number in 0..=traffic.players {
                let name = format!("{run}-{}-{number}", code.to_ascii_lowercase());
                let token = operator.session(&name, code).await?;
                let caller = Caller::new(&http, routers.iter().copied());
                let player =
                    Player::new(name, token, caller, Arc::clone(&shared), Arc::clone(&shown));
                if number == traffic.players {
                    bettors.push((code.clone(), player));
                } else {
                    clients.push(tokio::spawn(player.play_on(Arc::clone(&due))));
                }
            }
            clients.push(tokio::spawn(make_due(sender, traffic.plays_per_s, Arc::clone(&shared))));
            let caller = Caller::new(&http, routers.iter().copied());
            let token = operator
                .session(&format!("{run}-{}-reads", code.to_ascii_lowercase()), code)
                .await?;
            let prober = Prober {
                jurisdiction: code.clone(),
                caller,
                token,
                shared: Arc::clone(&shared),
                shown,
                seed: Seed::new(seed, code),
            };
            clients.push(tokio::spawn(prober.run(Duration::from_millis(traffic.read_every_ms))));
        }
        if traffic.round_every_ms > 0 {
            let pause = Duration::from_millis(traffic.round_every_ms);
            clients.push(tokio::spawn(operator.rounds(bettors, pause, Arc::clone(&shared))));
        }
        Ok(Self { shared, operator: run.to_owned(), wallet, clients })
    }

    /// Operations that were due and not sent, because too many waited.
    pub fn shed(&self) -> u64 {
        self.shared.shed.load(Ordering::Relaxed)
    }

    /// Begins no new operation, lets everybody decide the one in hand, and ends.
    pub async fn finish(self) -> Result<()> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let shared = Arc::clone(&self.shared);
        let patience = tokio::spawn(async move {
            tokio::time::sleep(DECIDE_WITHIN).await;
            shared.abandoned.store(true, Ordering::Relaxed);
        });
        let mut result = Ok(());
        for client in self.clients {
            let ended = client.await.context("a client of the load gave up")?;
            result = result.and(ended);
        }
        patience.abort();
        result
    }
}

/// A wallet in bad weather.
async fn stormy(
    system: &System,
    run: &str,
    http: &Outside,
    (weather, seed): (&Weather, u64),
) -> Result<Wallet> {
    let folder = system.state.join("chaos-wallets").join(run);
    let wallet = Wallet::start(system, run, &folder, http).await?;
    wallet.weather(weather.percent, seed).await?;
    Ok(wallet)
}

/// The routers that serve a jurisdiction, those at home first.
fn routers<'a>(system: &'a System, code: &str) -> Vec<&'a domicile_topology::document::RouterNode> {
    let topology = &system.topology;
    let policy = topology.jurisdictions.iter().find(|policy| policy.code.as_str() == code);
    let home = |router: &domicile_topology::document::RouterNode| {
        topology.regions.iter().any(|r| r.id == router.region && r.country.as_str() == code)
    };
    let serves = |router: &&domicile_topology::document::RouterNode| {
        policy.is_some_and(|policy| policy.serve_regions.contains(&router.region))
    };
    let mut found: Vec<_> = topology.routers.iter().filter(serves).collect();
    found.sort_by_key(|router| !home(router));
    found
}

async fn register(system: &System, run: &str, codes: &[String]) -> Result<Credential> {
    let mut arguments = vec!["operator", "create", run, "--json"];
    for code in codes {
        arguments.extend(["--jurisdiction", code]);
    }
    let answer = system.must(&arguments).await?;
    serde_json::from_str(&answer).context("`domicile operator create` gave no credential")
}

/// Makes a play due at each of its times.
async fn make_due(sender: mpsc::Sender<Instant>, per_s: u32, shared: Arc<Shared>) -> Result<()> {
    let period = Duration::from_secs(1) / per_s.max(1);
    let mut due = Instant::now();
    while shared.on() {
        due += period;
        tokio::time::sleep_until(due.into()).await;
        if sender.try_send(due).is_err() {
            shared.shed.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
