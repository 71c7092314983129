//! Follows the control record: serves while it names this region and the ledger's epoch is the record's.
//!
//! Invariants: no database connection is opened for a region the record does not name; an engine serves one
//! epoch and one set of logs, and is replaced as a whole when either changes; while the record says that writes are
//! closing nothing is begun, what is in flight finishes for a bounded time, and then no connection is left. Whoever
//! is told *ready* is told of an epoch that is served.

use crate::config::Config;
use crate::engine::{Engine, EngineParts};
use crate::floor::Floor;
use crate::keys::Keys;
use crate::lease::{Standing, Tenure};
use crate::ledger;
use crate::limits;
use crate::log::{self, Holders, LogHandle, LogPlace, LogSettings, LogSigner, LogTasks, Terms};
use crate::loss::cut;
use crate::service::Service;
use crate::stream;
use crate::sweep;
use crate::wallet::{self, Book};
use domicile_control::{Pins, Watch};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use domicile_core::note::VerifierKey;
use domicile_core::operation;
use domicile_postgres::{AnswerGuard, LEDGER_SCHEMA_VERSION, Pool, PoolConfig, schema_version};
use domicile_service::client::HttpClient;
use domicile_service::clock::Clock;
use domicile_service::drain::Drain;
use domicile_service::health::Check;
use domicile_service::ids::IdSource;
use domicile_service::tasks;
use domicile_service::telemetry;
use domicile_service::tls::ClientTls;
use domicile_service::token::{TokenAlgorithm, TokenKeys};
use domicile_topology::agent_api::subscription_name;
use domicile_topology::record::{Beginning, Record, Writes};
use domicile_topology::{Topology, document};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is needed to serve an epoch.
pub struct Lifecycle {
    /// The configuration.
    pub config: Config,
    /// Where the log keys are.
    pub log_keys_dir: PathBuf,
    /// Connections as `domicile_writer`.
    pub pool: PoolConfig,
    /// The secrets.
    pub keys: Arc<Keys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: IdSource,
    /// Asks readers.
    pub client: HttpClient,
    /// What the control plane holds of the operations log.
    pub pins: Pins,
    /// Asks operators' wallets.
    pub wallet_tls: Arc<ClientTls>,
    /// The control record.
    pub record: Watch<Record>,
    /// What the record and the lease let this writer say.
    pub standing: Arc<Standing>,
    /// The topology.
    pub topology: Watch<Topology>,
    /// The handlers' state.
    pub service: Arc<Service>,
    /// The readiness check this owns.
    pub check: Check,
}

/// What an engine is bound to: another one is needed when any of it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    epoch: Epoch,
    beginning: Beginning,
    waived: BTreeSet<NodeId>,
    logs: Vec<LogPlan>,
}

/// What the record asks of this writer.
enum Wanted {
    /// To serve.
    Serve(Term),
    /// To finish what it has: the writer is about to move.
    Closing,
    /// Nothing.
    StandBy,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LogPlan {
    jurisdiction: Jurisdiction,
    vkey: String,
}

struct Running {
    term: Term,
    engine: Arc<Engine>,
    floor: Floor,
    logs: LogTasks,
    pool: Pool,
    is_ready: bool,
}

impl Lifecycle {
    /// Follows the record until the process leaves, and then lets requests in flight finish.
    pub async fn run(mut self, drain: Drain) {
        let mut running: Option<Running> = None;
        let mut keys_of = None;
        let mut changed = Instant::now();
        while !drain.has_begun() {
            self.follow_keys(&mut keys_of);
            let wanted = self.wanted();
            let (term, closing) = match wanted {
                Wanted::Serve(term) => (Some(term), false),
                Wanted::Closing => (None, true),
                Wanted::StandBy => (None, false),
            };
            if running.as_ref().is_none_or(|running| Some(&running.term) != term.as_ref()) {
                self.service.pause(closing);
                if let Some(ended) = running.take() {
                    self.stop(ended, Duration::ZERO).await;
                    continue;
                }
            }
            if running.is_none() {
                running = match term {
                    Some(term) => self.start(term).await,
                    None => None,
                };
            }
            let eager = running.is_none() && changed.elapsed() < limits::START_EAGER;
            let pause = if eager { limits::START_RETRY_EAGER } else { limits::START_RETRY };
            let is_settled = tokio::select! {
                () = settled(running.as_ref()) => true,
                () = drain.begun() => false,
                _ = self.record.changed() => { changed = Instant::now(); false }
                _ = self.topology.changed() => false,
                () = tokio::time::sleep(pause) => false,
            };
            if let Some(running) = &mut running {
                self.show(running, is_settled);
            }
        }
        if let Some(ended) = running.take() {
            self.service.pause(true);
            self.stop(ended, limits::FLOOR_FINISH).await;
        }
    }

    /// What the record asks, or why nothing is served meanwhile.
    fn wanted(&self) -> Wanted {
        let (Some(record), Some(topology)) = (self.record.value(), self.topology.value()) else {
            self.check.fail("the control record is not known yet");
            return Wanted::StandBy;
        };
        self.service.set_one_copy(record.durability == document::Durability::One);
        if record.writer_region != self.config.region {
            let writer = &record.writer_region;
            self.check.fail(format!("standing by: the record names region {writer}"));
            return Wanted::StandBy;
        }
        if record.writes == Writes::Closing {
            self.check.fail("closing: the writer is about to move");
            return Wanted::Closing;
        }
        Wanted::Serve(Term {
            epoch: record.epoch,
            beginning: record.beginning,
            waived: record.waived_readers.clone(),
            logs: log_plans(&topology, &self.config.region),
        })
    }

    /// Ready while the logs are settled and answers may leave.
    fn show(&self, running: &mut Running, is_settled: bool) {
        let epoch = running.term.epoch;
        let holds = running.engine.tenure.holds();
        if is_settled && holds {
            running.is_ready = true;
            self.check.pass_in(epoch);
        } else if running.is_ready && !holds {
            running.is_ready = false;
            self.check
                .fail(format!("epoch {epoch}: with one copy nothing is told without the lease"));
        }
    }

    async fn start(&self, term: Term) -> Option<Running> {
        match self.open(&term).await {
            Ok(running) => {
                tasks::spawn("sweep", sweep::run(Arc::downgrade(&running.engine)));
                tasks::spawn("wallets", wallet::worker::run(Arc::downgrade(&running.engine)));
                let (service, engine) =
                    (Arc::clone(&self.service), Arc::downgrade(&running.engine));
                tasks::spawn("streams", stream::run(service, engine));
                self.service.serve(Arc::clone(&running.engine));
                self.check.fail(format!("epoch {}: the logs are starting", term.epoch));
                Some(running)
            }
            Err(reason) => {
                self.check.fail(reason);
                None
            }
        }
    }

    async fn open(&self, term: &Term) -> Result<Running, String> {
        let chain = |error: domicile_postgres::Error| telemetry::chain(&error);
        let tenure = Tenure::new(Arc::clone(&self.standing), term.epoch);
        if !tenure.holds() {
            return Err(format!(
                "epoch {}: with one copy nothing is served without the lease",
                term.epoch
            ));
        }
        let guard: Arc<dyn AnswerGuard> = Arc::new(tenure.clone());
        let pool = Pool::guarded(self.pool.clone(), guard).map_err(chain)?;
        let session = pool.session().await.map_err(chain)?;
        let (schema, open) =
            tokio::try_join!(schema_version(&session), ledger::latest_epoch(&session))
                .map_err(chain)?;
        let book = Book::new(
            Arc::clone(&self.keys),
            Arc::clone(&self.wallet_tls),
            Arc::clone(&self.clock),
        );
        if schema < Some(LEDGER_SCHEMA_VERSION) {
            return Err(format!(
                "the ledger's schema is older than version {LEDGER_SCHEMA_VERSION}"
            ));
        }
        if open != Some(term.epoch) {
            let open = open.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
            return Err(format!("epoch {} is not open in the ledger (latest: {open})", term.epoch));
        }
        book.refresh(&session).await.map_err(|error| telemetry::chain(&error))?;
        drop(session);
        if term.beginning == Beginning::Forced {
            cut::make(&pool, term.epoch).await?;
        }
        let places = term.logs.iter().filter_map(|plan| self.place(plan)).collect();
        let terms = Terms {
            tenure: tenure.clone(),
            beginning: term.beginning,
            waived: term.waived.clone(),
            clock: Arc::clone(&self.clock),
        };
        let (log, logs) = log::start(LogSettings { pool: pool.clone(), terms, places });
        tokio::spawn(warm_later(pool.clone(), log.clone()));
        let engine = Arc::new(Engine::start(EngineParts {
            cluster: self.config.cluster.clone(),
            region: self.config.region.clone(),
            tenure,
            pool: pool.clone(),
            log,
            keys: Arc::clone(&self.keys),
            clock: Arc::clone(&self.clock),
            ids: self.ids.clone(),
            wallets: Arc::new(book),
            topology: self.topology.receiver(),
        }));
        let floor = Floor::start(&engine, pool.clone());
        Ok(Running { term: term.clone(), engine, floor, logs, pool, is_ready: false })
    }

    /// A log with its key and the readers that hold it. Without its key a jurisdiction is suspended alone.
    fn place(&self, plan: &LogPlan) -> Option<LogPlace> {
        let code = &plan.jurisdiction;
        let path = self.log_keys_dir.join(format!("log-{code}.key"));
        let unusable = |error: &dyn std::error::Error| {
            let reason = telemetry::chain(error);
            tracing::error!(jurisdiction = %code, reason, "no log key: the jurisdiction is suspended");
        };
        let published = VerifierKey::parse(&plan.vkey).inspect_err(|error| unusable(error)).ok()?;
        let signer =
            LogSigner::load(&path, &published).inspect_err(|error| unusable(error)).ok()?;
        let topology = self.topology.value()?;
        let readers = topology.permitted_readers(code);
        let asked = readers.iter().map(|reader| {
            (reader.node.to_string(), format!("{}/log/{code}/checkpoint", reader.endpoint))
        });
        let holders = if operation::is_log(code) {
            Holders::pinned(&self.client, self.pins.clone())
        } else {
            Holders::new(&self.client, asked.collect())
        };
        let elsewhere = readers.iter().filter(|reader| reader.region != self.config.region);
        let confirmers = elsewhere.map(|reader| subscription_name(&reader.node, code)).collect();
        Some(LogPlace { jurisdiction: code.clone(), signer, holders, confirmers })
    }

    /// Waits for rounds that end within `rounds_within`, for requests and log batches in flight, and ends the epoch's
    /// database connections.
    async fn stop(&self, ended: Running, rounds_within: Duration) {
        let Running { term, engine, floor, logs, pool, is_ready: _ } = ended;
        let begun = Instant::now();
        if rounds_within.is_zero() {
            engine.close();
        }
        floor.leave(rounds_within).await;
        engine.close();
        let requests = async {
            while Arc::strong_count(&engine) > 1 && begun.elapsed() < limits::DRAIN_WAIT {
                tokio::time::sleep(limits::DRAIN_POLL).await;
            }
        };
        tokio::join!(requests, logs.stop());
        let cut_off = Arc::strong_count(&engine).saturating_sub(1);
        pool.close();
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(epoch = %term.epoch, cut_off, took_ms, "the epoch's engine has stopped");
    }

    /// Puts the session keys of a new topology in place.
    fn follow_keys(&self, followed: &mut Option<Arc<Topology>>) {
        let Some(topology) = self.topology.value() else { return };
        if followed.as_ref().is_none_or(|known| known.session_keys != topology.session_keys) {
            self.service.tokens.replace_keys(token_keys(&topology));
            *followed = Some(topology);
        }
    }
}

/// Opens sessions ahead once the logs have theirs: requests wait for the logs, and each login takes its share of the machine.
async fn warm_later(pool: Pool, log: LogHandle) {
    // Past this time the logs wait for something else.
    let _settled = tokio::time::timeout(limits::WARM_AFTER, log.settled()).await;
    drop(log);
    pool.warm(limits::WARM_SESSIONS).await;
}

/// Waits until each log of an engine that is not ready yet is being written or suspended.
async fn settled(running: Option<&Running>) {
    match running {
        Some(running) if !running.is_ready && running.engine.tenure.holds() => {
            running.engine.log.settled().await;
        }
        _ => std::future::pending().await,
    }
}

/// The logs this region's writer keeps: those it may write for and has a published key of, and the operations log, which
/// no reader holds.
fn log_plans(topology: &Topology, region: &RegionId) -> Vec<LogPlan> {
    let may_write = |code: &Jurisdiction| topology.writer_may_write(region, code);
    let codes = topology.jurisdictions.iter().map(|policy| &policy.code);
    let logs = codes.filter(|code| may_write(code)).cloned().chain(operation::log());
    logs.filter_map(|code| log_plan(topology, &code)).collect()
}

fn log_plan(topology: &Topology, code: &Jurisdiction) -> Option<LogPlan> {
    let keys = topology.log_keys.iter().filter(|key| key.jurisdiction == *code);
    let Some(key) = keys.max_by_key(|key| key.epoch) else {
        tracing::error!(jurisdiction = %code, "the topology has no log key: the log is not written");
        return None;
    };
    Some(LogPlan { jurisdiction: code.clone(), vkey: key.vkey.clone() })
}

fn token_keys(topology: &Topology) -> TokenKeys {
    let mut keys = TokenKeys::new();
    for key in &topology.session_keys {
        let algorithm = match key.algorithm {
            document::TokenAlgorithm::EdDsa => TokenAlgorithm::EdDsa,
            document::TokenAlgorithm::Es256 => TokenAlgorithm::Es256,
        };
        if let Err(error) = keys.add(&key.kid, algorithm, &key.public_key) {
            tracing::error!(kid = %key.kid, %error, "a session key of the topology is unusable");
        }
    }
    keys
}
