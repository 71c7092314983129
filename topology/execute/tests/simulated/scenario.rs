//! Situations, plans made for them by the real planner, and executors that run them through whatever happens.

use crate::auditor::audit;
use crate::cluster::{Cluster, node, region};
use crate::faults::{Fault, Faults};
use crate::plane::SimulatedJournal;
use crate::world::SimulatedWorld;
use domicile_execute::{Executor, Finished, observe};
use domicile_topology::JoinId;
use domicile_topology::document::Durability;
use domicile_topology::plan::{Intent, Plan, PlanIds, Refusal, plan};
use domicile_topology::record::Record;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Most executors that one plan needs in a test: one per fault, and some.
const MAX_ROUNDS: usize = 8;
/// After the end, until everything late has arrived, seconds of virtual time.
const SETTLE_S: u64 = 300;

/// Where a case starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Two copies, both regions alive.
    Healthy,
    /// The writer's region is cut off; its players go on.
    WriterCutOff,
    /// The same, after it had acknowledged with one copy.
    WriterCutOffWithOneCopy,
    /// After a failover: the former writer's region is back, with a tail of its own.
    Returned,
}

/// A situation and what is asked for in it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    pub(crate) intent: Intent,
}

/// Every verb.
pub(crate) fn cases() -> Vec<Case> {
    let case = |name, start, intent| Case { name, start, intent };
    let reader = || node("reader-gb");
    vec![
        case("switchover", Start::Healthy, Intent::Switchover { to: region("de-1") }),
        case("failover", Start::WriterCutOff, failover(None)),
        case("forced failover", Start::WriterCutOffWithOneCopy, failover(Some("the fire"))),
        case("failback", Start::Returned, Intent::Failback),
        case("rejoin", Start::Returned, Intent::Rejoin { node: node("ledger-mt") }),
        case("restore-durability", Start::Returned, Intent::RestoreDurability),
        case("degrade", Start::Healthy, Intent::Degrade { reason: "the standby burns".into() }),
        case("reader add", Start::Healthy, Intent::ReaderAdd { node: reader() }),
        case("reader reseed", Start::Healthy, Intent::ReaderReseed { node: reader() }),
    ]
}

pub(crate) fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

fn failover(accepted: Option<&str>) -> Intent {
    let accept_data_loss = accepted.map(ToOwned::to_owned);
    Intent::Failover { to: region("de-1"), accept_data_loss, waived_readers: BTreeSet::new() }
}

/// A case as it came out.
pub(crate) struct Ended {
    pub(crate) finished: Finished,
    pub(crate) cluster: Cluster,
    /// The executor's calls, by name.
    pub(crate) calls: Vec<&'static str>,
}

/// Runs a case to its end, whatever goes wrong, and audits it.
pub(crate) fn run(case: &Case, faults: &[(u64, Fault)], file: Option<&Path>) -> Ended {
    in_virtual_time(async {
        let stage = Stage::new(start(case.start), faults);
        let plan = stage.plan(&case.intent).await;
        let finished = stage.insist(&plan, file).await;
        let calls = stage.faults.calls();
        let cluster = stage.settle_and_audit(&plan, &finished).await;
        Ended { finished, cluster, calls }
    })
}

/// Runs a case's plan with a change that no planner makes.
pub(crate) fn run_changed(case: &Case, change: impl FnOnce(&mut Plan)) {
    in_virtual_time(async {
        let stage = Stage::new(start(case.start), &[]);
        let mut plan = stage.plan(&case.intent).await;
        change(&mut plan);
        let finished = stage.insist(&plan, None).await;
        stage.settle_and_audit(&plan, &finished).await;
    });
}

pub(crate) fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(work)
}

/// The state a case starts from.
pub(crate) fn start(start: Start) -> Cluster {
    let mut cluster = Cluster::healthy();
    match start {
        Start::Healthy => {}
        Start::WriterCutOff => cluster.isolate("mt-1"),
        Start::WriterCutOffWithOneCopy => {
            let clear = Record { promotable: false, ..cluster.record().clone() };
            cluster.plane.set_record(&clear);
            let one = Record { durability: Durability::One, sync_member: None, ..clear };
            cluster.plane.set_record(&one);
            cluster.ledgers.get_mut(&node("ledger-mt")).unwrap().sync_member = None;
            cluster.tick();
            cluster.isolate("mt-1");
        }
        Start::Returned => return returned(),
    }
    cluster
}

fn returned() -> Cluster {
    static RETURNED: OnceLock<Cluster> = OnceLock::new();
    let make = || {
        let mut cluster =
            std::thread::spawn(|| run(&case("failover"), &[], None).cluster).join().unwrap();
        cluster.heal("mt-1");
        cluster.plane.plans.clear();
        cluster
    };
    RETURNED.get_or_init(make).clone()
}

/// A world with its faults, and executors for it.
pub(crate) struct Stage {
    pub(crate) cluster: Arc<Mutex<Cluster>>,
    pub(crate) faults: Faults,
}

impl Stage {
    pub(crate) fn new(cluster: Cluster, faults: &[(u64, Fault)]) -> Self {
        Self { cluster: Arc::new(Mutex::new(cluster)), faults: Faults::at(faults) }
    }

    fn world(&self, faults: &Faults) -> SimulatedWorld {
        let topology = Arc::new(self.cluster.lock().unwrap().topology.clone());
        SimulatedWorld { topology, cluster: Arc::clone(&self.cluster), faults: faults.clone() }
    }

    /// The planner's plan for what can be seen now.
    pub(crate) async fn plan(&self, intent: &Intent) -> Plan {
        self.try_plan(intent, "plan-1").await.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    pub(crate) async fn try_plan(&self, intent: &Intent, id: &str) -> Result<Plan, Refusal> {
        let facts = observe(&self.world(&Faults::default())).await.unwrap();
        plan(&facts, intent, PlanIds { plan: id.to_owned(), join: JoinId::from_random(99) })
    }

    /// Waits for everything late, and audits what is left.
    pub(crate) async fn settle_and_audit(&self, plan: &Plan, finished: &Finished) -> Cluster {
        tokio::time::sleep(Duration::from_secs(SETTLE_S)).await;
        // A lock that was not given back has ended with its lease.
        self.cluster.lock().unwrap().plane.lock = None;
        let mut cluster = self.cluster.lock().unwrap().clone();
        audit(&mut cluster, plan, finished);
        cluster
    }

    pub(crate) fn executor(&self, owner: &str, file: Option<&Path>) -> Executor {
        let world = Arc::new(self.world(&self.faults));
        let (cluster, faults) = (Arc::clone(&self.cluster), self.faults.clone());
        let executor = Executor::new(world, Arc::new(SimulatedJournal { cluster, faults }), owner);
        file.into_iter().fold(executor, Executor::with_audit)
    }

    /// Runs the plan, with a new executor whenever one dies or gives up, until it is over.
    pub(crate) async fn insist(&self, plan: &Plan, file: Option<&Path>) -> Finished {
        for round in 0..MAX_ROUNDS {
            let executor = self.executor(&format!("executor {round}"), file);
            let is_again = round > 0 && self.cluster.lock().unwrap().plane.current.is_some();
            let (own, asleep) = (plan.clone(), self.faults.clone());
            // A task of its own: one that sleeps goes on when it wakes.
            let mut work = tokio::spawn(async move {
                if is_again { executor.resume(&()).await } else { executor.run(&own, &()).await }
            });
            tokio::select! {
                biased;
                outcome = &mut work => match outcome.unwrap() {
                    Ok(finished) => return finished,
                    Err(error) => assert!(round + 1 < MAX_ROUNDS, "{error}"),
                },
                () = self.faults.killed() => {
                    work.abort();
                    work.await.unwrap_err();
                }
                () = asleep.asleep() => {}
            }
            // Its lease ends.
            self.cluster.lock().unwrap().plane.lock = None;
        }
        panic!("the plan does not come to an end");
    }
}
