//! Everything one epoch's writer needs to serve: made when the epoch is found open, dropped when it ends.
//!
//! Invariant: whatever leaves through [`Engine::acknowledge`] or a lane was read or written before a commit
//! that waited for the second region.

use crate::answer::{Acknowledged, Failure, Handled, Verdict};
use crate::audit::Audits;
use crate::bet;
use crate::directory::Directory;
use crate::floor::Recovery;
use crate::gates::Gates;
use crate::hands::Hands;
use crate::keys::Keys;
use crate::lane::{BatchError, Executor, JobError, Lane};
use crate::lease::Tenure;
use crate::limits;
use crate::log::{LogHandle, LogState};
use crate::meters::Meters;
use crate::pending::{CommitLook, CommitLooker};
use crate::play;
use crate::session::{CaptchaChecker, Viewer};
use crate::wallet::{Book, Money};
use domicile_control::Known;
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_core::ids::{ClusterId, Jurisdiction, RegionId, RoundId, SessionId};
use domicile_core::note::VerifierKey;
use domicile_postgres::Pool;
use domicile_service::clock::Clock;
use domicile_service::ids::IdSource;
use domicile_topology::Topology;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

/// What an engine is made of.
pub struct EngineParts {
    /// The cluster.
    pub cluster: ClusterId,
    /// This writer's region.
    pub region: RegionId,
    /// The epoch it serves, and whether its answers may leave.
    pub tenure: Tenure,
    /// Connections as `domicile_writer`, guarded by the tenure.
    pub pool: Pool,
    /// The logs.
    pub log: LogHandle,
    /// The secrets.
    pub keys: Arc<Keys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: IdSource,
    /// Operators' wallets.
    pub wallets: Arc<Book>,
    /// The topology as last known.
    pub topology: watch::Receiver<Option<Known<Topology>>>,
}

/// A writer that serves one epoch.
pub struct Engine {
    /// The cluster.
    pub cluster: ClusterId,
    /// The epoch.
    pub epoch: Epoch,
    /// Whether its answers may leave.
    pub tenure: Tenure,
    /// The logs.
    pub log: LogHandle,
    /// The secrets.
    pub keys: Arc<Keys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids and randomness.
    pub ids: IdSource,
    /// Operators and credentials.
    pub directory: Directory,
    /// Counters.
    pub meters: Meters,
    /// Turns of requests of one session.
    pub sessions: Gates<SessionId>,
    /// Turns of bets and changes of one round.
    pub rounds: Gates<RoundId>,
    /// Turns of copies of one operator request.
    pub requests: Gates<(String, String)>,
    /// Plays.
    pub plays: play::Lanes,
    /// Operators' wallets.
    pub money: Money,
    /// Bets of shared rounds.
    pub bets: bet::Lanes,
    /// Sessions for requests that are transactions of their own.
    pub hands: Hands,
    /// Who checks players' captchas.
    pub captchas: CaptchaChecker,
    /// Conservation checks.
    pub audits: Audits,
    /// What players see of their sessions.
    pub views: Lane<Viewer>,
    /// What became of rounds that were found under way.
    pub recovery: Recovery,
    fences: Lane<Fence>,
    commits: Lane<CommitLooker>,
    coverage: Semaphore,
    closing: watch::Sender<bool>,
    region: RegionId,
    topology: watch::Receiver<Option<Known<Topology>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the lanes.
    pub fn start(parts: EngineParts) -> Self {
        let EngineParts { cluster, region, tenure, pool, log, keys, clock, ids, wallets, topology } =
            parts;
        let epoch = tenure.epoch;
        let hands = Hands::new(pool.clone());
        Self {
            plays: play::Lanes::start(&pool, epoch),
            bets: bet::Lanes::start(&pool, epoch),
            captchas: CaptchaChecker::new(wallets.tls()),
            money: Money::start(wallets, &pool, epoch),
            views: Lane::start(Viewer { pool: pool.clone() }),
            fences: Lane::start(Fence { pool: pool.clone() }),
            commits: Lane::start(CommitLooker { pool: pool.clone() }),
            sessions: Gates::new(limits::SESSION_REQUESTS),
            rounds: Gates::new(limits::ROUND_REQUESTS),
            requests: Gates::new(limits::REQUEST_COPIES),
            coverage: Semaphore::new(limits::COVERAGE_WAITERS_REQUESTS),
            closing: watch::Sender::new(false),
            directory: Directory::new(hands.clone(), Arc::clone(&keys), Arc::clone(&clock)),
            hands,
            meters: Meters::default(),
            recovery: Recovery::default(),
            audits: Audits::default(),
            cluster,
            region,
            epoch,
            tenure,
            log,
            keys,
            clock,
            ids,
            topology,
        }
    }

    /// Tells what was read or refused by the ledger's state, after a commit that waited for the second region.
    pub async fn acknowledge(&self, verdict: Verdict) -> Handled {
        self.fences.submit(verdict).await.map_err(JobError::unraced)
    }

    /// Refuses a jurisdiction that this writer may not begin anything for.
    pub fn check_writable(&self, jurisdiction: &Jurisdiction) -> Result<(), Failure> {
        let known = self.topology.borrow().clone().ok_or(Failure::new(Code::NotWriter))?;
        let topology = known.value;
        if topology.policy(jurisdiction).is_none() {
            return Err(Failure::new(Code::JurisdictionUnknown));
        }
        if !topology.writer_may_write(&self.region, jurisdiction) {
            let detail = "the writer's region may not write for this jurisdiction";
            return Err(Failure::with(Code::JurisdictionSuspended, detail));
        }
        match self.log.state(jurisdiction) {
            LogState::Live => Ok(()),
            // Not executed and soon over: routers hold the request and offer it again.
            LogState::Starting => {
                Err(Failure::with(Code::NotWriter, "the jurisdiction's log is starting"))
            }
            LogState::Suspended { .. } => Err(Failure::with(
                Code::JurisdictionSuspended,
                "the jurisdiction's log is suspended",
            )),
        }
    }

    /// The keys that receipts of this cluster may be signed with.
    pub fn receipt_keys(&self) -> Vec<VerifierKey> {
        let known = self.topology.borrow().clone();
        let published = known.iter().flat_map(|known| &known.value.receipt_keys);
        let mut keys: Vec<_> =
            published.filter_map(|key| VerifierKey::parse(&key.vkey).ok()).collect();
        let own = self.keys.receipt.verifier();
        if !keys.contains(own) {
            keys.push(own.clone());
        }
        keys
    }

    /// Whether this writer may not go on with the jurisdiction, and not only for a moment.
    pub fn is_suspended(&self, jurisdiction: &Jurisdiction) -> bool {
        let refused = self.check_writable(jurisdiction).err();
        refused.is_some_and(|failure| failure.code == Code::JurisdictionSuspended)
    }

    /// Tells the sequencers of these jurisdictions that leaves are pending.
    pub fn wake<'a>(&self, jurisdictions: impl IntoIterator<Item = &'a Jurisdiction>) {
        for jurisdiction in jurisdictions {
            self.log.wake(jurisdiction);
        }
    }

    /// Ends every wait that a transaction need not end: those requests have changed nothing, and whoever writes
    /// next can wait as well.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits, bounded, for a published checkpoint that covers the commitment of a round or chain. Not executed
    /// when the engine closes meanwhile.
    pub async fn covering(
        &self,
        jurisdiction: &Jurisdiction,
        subject: Uuid,
    ) -> Result<Covered, Failure> {
        let covered = self.unless_closing(self.covered(jurisdiction, subject)).await;
        covered.unwrap_or(Err(Failure::new(Code::WriterDraining)))
    }

    /// Waits for what a transaction need not end; `None` when the engine closes first.
    pub async fn unless_closing<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            value = wait => Some(value),
            // The sender lives in `self`, so this is the engine's closing and nothing else.
            _closed = closing.wait_for(|closing| *closing) => None,
        }
    }

    async fn covered(
        &self,
        jurisdiction: &Jurisdiction,
        subject: Uuid,
    ) -> Result<Covered, Failure> {
        let permit = self.coverage.try_acquire();
        let _permit = permit.map_err(|_all_taken| Failure::new(Code::WriterOverloaded))?;
        let deadline = tokio::time::Instant::now() + limits::COVERAGE_WAIT;
        let not_published = Failure::new(Code::CommitmentNotPublished);
        let index = loop {
            let look = CommitLook { jurisdiction: jurisdiction.clone(), subject };
            if let Some(index) = self.commits.submit(look).await.map_err(JobError::unraced)? {
                break index;
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(not_published);
            }
            tokio::time::sleep(limits::COVERAGE_POLL).await;
        };
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let checkpoint = self.log.covering(jurisdiction, index, left).await.ok_or(not_published)?;
        Ok(Covered { index, size: checkpoint.size, note: checkpoint.note })
    }
}

/// A commitment and a published checkpoint that covers it.
#[derive(Debug, Clone)]
pub struct Covered {
    /// Where the commitment stands.
    pub index: u64,
    /// The checkpoint's size.
    pub size: u64,
    /// The checkpoint as published.
    pub note: Arc<str>,
}

/// Lets answers out that wrote nothing themselves: an empty write that the second region confirms.
struct Fence {
    pool: Pool,
}

impl Executor for Fence {
    type Job = Verdict;
    type Done = Acknowledged<Verdict>;
    const NAME: &'static str = "fence";
    const WORKERS: usize = limits::WRITE_WORKERS;

    async fn run(&self, verdicts: &[Verdict]) -> Result<Vec<Acknowledged<Verdict>>, BatchError> {
        let fenced = async {
            let mut session = self.pool.session().await?;
            let tx = session.begin().await?;
            tx.fence().await?;
            Ok::<_, Failure>(tx.commit(limits::COMMIT_WAIT).await?)
        };
        let durable = fenced.await.map_err(BatchError::Whole)?;
        Ok(verdicts.iter().map(|verdict| Acknowledged::new(&durable, verdict.clone())).collect())
    }
}
