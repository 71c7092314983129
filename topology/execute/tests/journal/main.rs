//! The executor over the real journal in a real etcd: killed in the middle of a plan, gone on with by another.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

#[expect(
    dead_code,
    reason = "the harness of the control plane's tests; some of it is for those only"
)]
#[path = "../../../control/tests/main/cluster.rs"]
mod cluster;
mod world;

use cluster::{Cluster, eventually, record, topology};
use domicile_control::{ControlClient, Plans, Record, Versioned};
use domicile_execute::{EtcdJournal, ExecuteError, Executor, Outcome, abandoned, audit};
use domicile_topology::document::Durability;
use domicile_topology::plan::{
    Action, Expected, Intent, LostWrites, Plan, RecordChange, Step, Undo,
};
use domicile_topology::{JoinId, Member};
use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Instant;
use world::HangingWorld;

/// Two copies, promotable: what a degradation begins with.
async fn promotable(client: &ControlClient) -> Versioned<Record> {
    let member = Member { node: "ledger-de".parse().unwrap(), join_id: JoinId::from_random(1) };
    let two = Record { durability: Durability::Two, sync_member: Some(member), ..record(1) };
    let created = client.create_record(&two).await.unwrap();
    let value = Record { promotable: true, ..two };
    let revision = client.compare_and_set_record(&value, created).await.unwrap();
    Versioned { value, revision }
}

fn degrade(under: &Versioned<Record>) -> Plan {
    let one = RecordChange::SetDurability { durability: Durability::One, standby: None };
    let actions = [
        Action::Record { change: RecordChange::ClearPromotable },
        Action::Record { change: one },
        Action::SyncOff { node: "ledger-mt".parse().unwrap() },
    ];
    let step = |action| Step { action, timeout_ms: 20_000, on_failure: Undo::Stop };
    Plan {
        id: "degrade-1".to_owned(),
        intent: Intent::Degrade { reason: "a test".to_owned() },
        record: under.value.clone(),
        record_revision: under.revision.0,
        steps: actions.map(step).to_vec(),
        expected: Expected {
            write_pause_ms: 0,
            lost_writes: LostWrites::None,
            suspended: BTreeSet::new(),
            reseeded_readers: BTreeSet::new(),
            unleased_writers: BTreeSet::new(),
        },
        remarks: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_plan_is_abandoned_by_name_and_makes_way_for_another() {
    let etcd = Cluster::start(1);
    let client = etcd.client().await;
    let plan = degrade(&promotable(&client).await);
    let (world, journal) = (
        Arc::new(HangingWorld::new(topology(1), client.clone())),
        Arc::new(EtcdJournal::new(&client)),
    );
    let file = etcd.cache("abandoned.jsonl");
    let executor =
        |owner: &str| Executor::new(world.clone(), journal.clone(), owner).with_audit(file.clone());
    assert!(matches!(
        executor("nobody").abandon("degrade-1", "why").await,
        Err(ExecuteError::NothingToResume)
    ));
    let (first, own) = (executor("first"), plan.clone());
    let running = tokio::spawn(async move { first.run(&own, &()).await.map(drop) });
    eventually("the agent is asked", async || world.was_asked()).await;
    let held = executor("second").abandon("degrade-1", "why").await;
    assert!(matches!(held, Err(ExecuteError::Held { .. })), "it is being run: {held:?}");
    running.abort();
    running.await.unwrap_err();
    let plans = Plans::new(&client);
    eventually("the dead executor's lock ends", async || plans.owner().await.unwrap().is_none())
        .await;
    let other = executor("second").abandon("degrade-2", "why").await;
    assert!(matches!(other, Err(ExecuteError::Unfinished { .. })), "{other:?}");
    executor("second").abandon("degrade-1", "the node is gone for good").await.unwrap();
    assert_eq!(plans.current_id().await.unwrap(), None);
    let resumed = executor("second").resume(&()).await;
    assert!(matches!(resumed, Err(ExecuteError::NothingToResume)), "{resumed:?}");
    // Asked to run it again, an executor says how it ended.
    let again = executor("second").run(&plan, &()).await.unwrap();
    assert!(matches!(again.outcome, Outcome::Abandoned { .. }), "{:?}", again.outcome);
    let file = std::fs::File::open(&file).unwrap();
    let verified = audit::verify(BufReader::new(file)).unwrap();
    assert_eq!(verified.plans["degrade-1"], again.history.next - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_whose_executor_died_is_gone_on_with_by_another() {
    let etcd = Cluster::start(1);
    let client = etcd.client().await;
    let plan = degrade(&promotable(&client).await);
    let (world, journal) = (
        Arc::new(HangingWorld::new(topology(1), client.clone())),
        Arc::new(EtcdJournal::new(&client)),
    );
    let executor = |owner: &str, file: &str| {
        Executor::new(world.clone(), journal.clone(), owner).with_audit(etcd.cache(file))
    };

    let (first, own) = (executor("first", "first.jsonl"), plan.clone());
    let killed = tokio::spawn(async move { first.run(&own, &()).await.map(drop) });
    eventually("the agent is asked", async || world.was_asked()).await;
    let refused = executor("second", "second.jsonl").run(&plan, &()).await;
    assert!(
        matches!(&refused, Err(ExecuteError::Held { owner }) if owner == "first"),
        "{refused:?}"
    );
    assert_eq!(abandoned(&client).await.unwrap(), None, "its executor lives");
    killed.abort();
    killed.await.unwrap_err();

    world.answer();
    let plans = Plans::new(&client);
    eventually("the dead executor's lock ends", async || plans.owner().await.unwrap().is_none())
        .await;
    assert_eq!(abandoned(&client).await.unwrap().as_deref(), Some("degrade-1"));
    let begun = Instant::now();
    let finished = executor("second", "second.jsonl").take_over(&()).await.unwrap();
    assert!(begun.elapsed().as_secs() < 5);
    assert_eq!((finished.outcome, finished.audit_fault), (Outcome::Completed, None));
    let now = client.record().await.unwrap().unwrap();
    assert_eq!((now.value.durability, now.value.promotable), (Durability::One, false));
    assert_eq!(now.revision, finished.history.record_revision);
    assert_eq!((plans.current().await.unwrap(), plans.owner().await.unwrap()), (None, None));
    assert_eq!(abandoned(&client).await.unwrap(), None);
    // The second's file holds what the first wrote too.
    let file = std::fs::File::open(etcd.cache("second.jsonl")).unwrap();
    let verified = audit::verify(BufReader::new(file)).unwrap();
    assert_eq!(verified.plans["degrade-1"], finished.history.next - 1);
}
