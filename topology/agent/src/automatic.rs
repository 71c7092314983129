//! What a ledger node's agent does by itself, by the same plans and executor as people: fail over to its node when the
//! policy says so, have the second copy back after a failover, and go on with a plan whose executor died.
//!
//! Invariants: the judgement is `judgement`'s; the plan is the planner's, never one with loss; the executor's
//! lock and the record's revision decide between two who act at once; attempts are spaced and bounded per epoch.
//! Deliberately absent: switchovers and failbacks, which are for people to choose.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domicile_control::ControlClient;
use domicile_core::ids::NodeId;
use domicile_execute::{
    EtcdJournal, ExecuteError, Executor, LiveWorld, PrimaryDead, World, abandoned, observe,
};
use domicile_service::client::{ClientError, ClientLimits, HttpClient};
use domicile_topology::Topology;
use domicile_topology::address::ServiceUrl;
use domicile_topology::agent_api::{ObserveAnswer, ObserveRequest, paths};
use domicile_topology::member::JoinId;
use domicile_topology::observed::NodeStatus;
use domicile_topology::plan::{Intent, PlanIds, plan};
use domicile_topology::record::Record;
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::agent::Agent;
use crate::comeback::Attempts;
use crate::error::Error;
use crate::judgement::{
    Sight, Stay, SuspicionFacts, concludes, is_back, is_half_promoted, lacks_second_copy,
    observers, sight, suspects,
};

/// How often the agent judges.
const PERIOD: Duration = Duration::from_millis(100);
/// An observer's whole answer, with its own short look at the node in doubt, milliseconds.
const OBSERVER_TIMEOUT_MS: u64 = 1_000;
/// The longest look at another agent's status, milliseconds.
const STATUS_TIMEOUT_MS: u64 = 3_000;
/// How often a plan that its executor left is looked for.
const ABANDONED_LOOK: Duration = Duration::from_secs(2);
/// How long one such look may take.
const ABANDONED_WITHIN: Duration = Duration::from_millis(400);
/// How long something must have lacked before it is seen to: whoever moved the writer may be about to.
const LACKING_FOR: Duration = Duration::from_secs(3);

/// The agent's hands: what it acts with outside its own node.
pub struct Automatic {
    agent: Arc<Agent>,
    control: ControlClient,
    client: HttpClient,
    failovers: Attempts,
    restorations: Attempts,
    resumptions: Attempts,
    looked_for_abandoned: Instant,
    lacking_since: Option<Instant>,
    stayed: Option<Stay>,
}

impl Automatic {
    /// The automatic part of this agent.
    pub fn new(agent: Arc<Agent>, control: ControlClient) -> Result<Self, Error> {
        let client = HttpClient::new(&agent.outside_tls()?, ClientLimits::default());
        Ok(Self {
            agent,
            control,
            client,
            failovers: Attempts::default(),
            restorations: Attempts::default(),
            resumptions: Attempts::default(),
            looked_for_abandoned: Instant::now(),
            lacking_since: None,
            stayed: None,
        })
    }

    /// Judges, and acts, for as long as the agent lives.
    pub async fn run(mut self) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let known = self.agent.control.last_record().zip(self.agent.control.topology());
            if let Some((record, topology)) = known {
                self.consider_failover(&record, &topology).await;
                self.consider_completion(&record, &topology).await;
                self.consider_abandoned(&record, &topology).await;
            }
        }
    }

    async fn consider_failover(&mut self, record: &Record, topology: &Arc<Topology>) {
        match self.primary_is_dead(record, topology).await {
            Ok(()) if self.failovers.due(record.epoch) => {
                let at = Instant::now();
                let silence_ms = self.agent.silence_ms();
                tracing::warn!(primary = %record.writer_node, ?silence_ms, "the primary is dead: failing over");
                let intent = Intent::Failover {
                    to: self.agent.config.region.clone(),
                    accept_data_loss: None,
                    waived_readers: BTreeSet::new(),
                };
                let silence_ms = silence_ms.unwrap_or_default();
                let because = Some(PrimaryDead { silence_ms, at });
                self.act(&intent, because, topology, record).await;
            }
            Ok(()) => {}
            Err(stay) => {
                if stay == Stay::StreamAlive {
                    // What kept earlier attempts from succeeding says nothing of the next death.
                    self.failovers = Attempts::default();
                }
                self.tell(stay);
            }
        }
    }

    async fn primary_is_dead(&self, record: &Record, topology: &Topology) -> Result<(), Stay> {
        let agent = &self.agent;
        self.suspects(record, topology)?;
        let third = observers(topology, &agent.config.region, &record.writer_region);
        let asked = third.into_iter().map(|url| self.ask(url, &record.writer_node));
        let (sign, words) = tokio::join!(agent.sign_of_life(&record.writer_node), join_all(asked));
        // A look that could not be made is no sign of death.
        let own = match sign {
            Err(_) => Sight::Alive,
            Ok(None) => Sight::Gone,
            Ok(Some(sign)) => sight(record, true, sign.quiet_ms),
        };
        concludes(record, own, &words)?;
        self.suspects(record, topology)
    }

    fn suspects(&self, record: &Record, topology: &Topology) -> Result<(), Stay> {
        let agent = &self.agent;
        suspects(&SuspicionFacts {
            node: &agent.config.node,
            policy: topology.failover.policy,
            record,
            disk: agent.postmaster.disk(),
            memory: &agent.memory(),
            silence_ms: agent.silence_ms(),
        })
    }

    async fn ask(&self, observer: &ServiceUrl, node: &NodeId) -> Option<ObserveAnswer> {
        let url = format!("{observer}{}", paths::OBSERVE);
        let client = self.client.within_ms(OBSERVER_TIMEOUT_MS);
        let answer: Result<ObserveAnswer, ClientError> =
            client.post_json(&url, &ObserveRequest { node: node.clone() }).await;
        answer.inspect_err(|error| tracing::debug!(%error, "no second word")).ok()
    }

    // What keeps this node from failing over is told once, and only while something is amiss.
    fn tell(&mut self, stay: Stay) {
        let quiet = matches!(
            stay,
            Stay::Manual | Stay::NotStandby | Stay::NotPromotable | Stay::StreamAlive
        );
        if self.stayed.replace(stay) != Some(stay) && !quiet {
            tracing::warn!(%stay, "the stream is silent, and this node does not fail over");
        }
    }

    // A failover of this node's that was left half-way, or the second copy that lacks after one.
    async fn consider_completion(&mut self, record: &Record, topology: &Arc<Topology>) {
        let agent = &self.agent;
        let (memory, disk) = (agent.memory(), agent.postmaster.disk());
        let node = &agent.config.node;
        let half = is_half_promoted(node, topology.failover.policy, record, &memory);
        let lacks = lacks_second_copy(node, topology.durability.mode, record, disk, &memory);
        if !half && !lacks {
            self.lacking_since = None;
            return;
        }
        let since = *self.lacking_since.get_or_insert_with(Instant::now);
        if since.elapsed() < LACKING_FOR || !self.restorations.due(record.epoch) {
            return;
        }
        if half {
            let done = self.go_on(topology).await;
            self.judge_attempt("complete", done);
        } else if self.another_is_back(topology, record).await {
            self.act(&Intent::RestoreDurability, None, topology, record).await;
        } else {
            // Looked again after the usual pause, without using an attempt up.
            self.lacking_since = Some(Instant::now());
        }
    }

    // A plan whose executor died may have closed the writes: whoever sees it first goes on with it, whatever the policy,
    // because a person or a policy has decided on it already.
    async fn consider_abandoned(&mut self, record: &Record, topology: &Arc<Topology>) {
        if self.looked_for_abandoned.elapsed() < ABANDONED_LOOK
            || !self.resumptions.due(record.epoch)
        {
            return;
        }
        self.looked_for_abandoned = Instant::now();
        // While the control plane has no leader this would keep the agent from seeing that the primary is dead.
        let looked = timeout(ABANDONED_WITHIN, abandoned(&self.control)).await;
        match looked.unwrap_or(Ok(None)) {
            Ok(Some(plan)) => {
                tracing::warn!(plan, "its executor seems to have died: going on with the plan");
                match self.executor(topology).0.take_over(&()).await {
                    Err(ExecuteError::NothingToResume) => {
                        tracing::info!(plan, "it ended, or stopped by itself, after all");
                    }
                    done => self
                        .judge_attempt("resume", done.map(drop).map_err(|error| error.to_string())),
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "cannot look for an abandoned plan"),
        }
    }

    async fn another_is_back(&self, topology: &Topology, record: &Record) -> bool {
        let client = self.client.within_ms(STATUS_TIMEOUT_MS);
        for ledger in topology.ledgers.iter().filter(|l| l.region != record.writer_region) {
            let url = format!("{}{}", ledger.agent, paths::STATUS);
            let status: Result<NodeStatus, ClientError> = client.get_json(&url).await;
            if status.is_ok_and(|status| is_back(&status, &record.writer_node)) {
                return true;
            }
        }
        false
    }

    async fn act(
        &mut self,
        intent: &Intent,
        because: Option<PrimaryDead>,
        topology: &Arc<Topology>,
        record: &Record,
    ) {
        let done = self.plan_and_run(intent, because, topology, record).await;
        self.judge_attempt(intent.verb(), done);
    }

    async fn go_on(&self, topology: &Arc<Topology>) -> Result<(), String> {
        let (executor, _world) = self.executor(topology);
        executor.resume(&()).await.map(drop).map_err(|error| error.to_string())
    }

    fn judge_attempt(&mut self, verb: &'static str, done: Result<(), String>) {
        let outcome = if done.is_ok() { "done" } else { "failed" };
        metrics::counter!("domicile_agent_automatic_plans_total", "verb" => verb, "outcome" => outcome)
            .increment(1);
        let attempts = match verb {
            "failover" => &mut self.failovers,
            "resume" => &mut self.resumptions,
            _ => &mut self.restorations,
        };
        match done {
            Ok(()) => *attempts = Attempts::default(),
            Err(reason) => {
                attempts.note_failure();
                tracing::warn!(verb, reason, "not done by itself");
            }
        }
    }

    async fn plan_and_run(
        &self,
        intent: &Intent,
        because: Option<PrimaryDead>,
        topology: &Arc<Topology>,
        record: &Record,
    ) -> Result<(), String> {
        let (mut executor, world) = self.executor(topology);
        if let Some(because) = because {
            executor = executor.because(because);
        }
        let facts = observe(&*world).await.map_err(|error| error.to_string())?;
        if facts.record != *record {
            return Err("the control record has changed meanwhile".to_owned());
        }
        // While the control plane was waited for, the primary may have come back.
        if because.is_some() {
            self.suspects(record, topology).map_err(|stay| stay.to_string())?;
        }
        let bits = u64::from_be_bytes(self.agent.ids.bytes());
        let verb = intent.verb();
        let ids = PlanIds {
            plan: format!("auto-{verb}-{}-{bits:016x}", record.epoch),
            join: JoinId::from_random(u64::from_be_bytes(self.agent.ids.bytes())),
        };
        let plan = plan(&facts, intent, ids).map_err(|refusal| refusal.to_string())?;
        match executor.run(&plan, &()).await {
            Ok(finished) => {
                let elapsed_ms = finished.elapsed.as_millis();
                tracing::info!(verb, plan = plan.id, outcome = ?finished.outcome, elapsed_ms, "done by itself");
                Ok(())
            }
            Err(error @ ExecuteError::Stopped { .. }) => {
                tracing::warn!(verb, plan = plan.id, %error, "the plan stopped");
                Err(error.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn executor(&self, topology: &Arc<Topology>) -> (Executor, Arc<dyn World>) {
        let (client, control) = (self.client.clone(), self.control.clone());
        let world: Arc<dyn World> = Arc::new(LiveWorld::new(Arc::clone(topology), client, control));
        let journal = Arc::new(EtcdJournal::new(&self.control));
        let owner = format!("agent {}", self.agent.config.node);
        let audit = self.agent.config.postgres.config_dir.join("plans.jsonl");
        (Executor::new(Arc::clone(&world), journal, owner).with_audit(audit), world)
    }
}
