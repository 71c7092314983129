//! The lock, and what may be written under it.

use crate::cluster::{Cluster, eventually, record};
use domicile_control::plans::LOCK_TTL_S;
use domicile_control::{
    ControlClient, Error, PlanLock, Plans, Record, RecordStep, Revision, Superseded, Versioned,
};
use domicile_topology::plan::{Expected, Intent, LostWrites, Plan};
use std::collections::BTreeSet;

pub(crate) fn plan(id: &str, revision: Revision) -> Plan {
    Plan {
        id: id.to_owned(),
        intent: Intent::Failback,
        record: record(1),
        record_revision: revision.0,
        steps: Vec::new(),
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

async fn present(client: &ControlClient) -> Versioned<Record> {
    client.record().await.unwrap().unwrap()
}

fn next(from: &Versioned<Record>) -> Record {
    let topology_generation = from.value.topology_generation + 1;
    Record { topology_generation, ..from.value.clone() }
}

/// Loses the lock as an executor does that sleeps through its lease, without its noticing.
async fn lose(client: &ControlClient) {
    assert!(client.etcd().delete(&client.key("plan/lock")).await.unwrap());
}

#[tokio::test]
async fn one_executor_holds_the_lock_and_the_other_learns_who() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let plans = Plans::new(&client);
    let held = plans.lock("agent ledger-de").await.unwrap();
    match plans.lock("ctl a").await {
        Err(Error::LockHeld { owner }) => assert_eq!(owner, "agent ledger-de"),
        other => panic!("{other:?}"),
    }
    assert_eq!(plans.owner().await.unwrap().as_deref(), Some("agent ledger-de"));
    held.release().await.unwrap();
    let second = plans.lock("ctl a").await.unwrap();
    let seconds = LOCK_TTL_S.unsigned_abs() + 1;
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    assert_eq!(plans.owner().await.unwrap().as_deref(), Some("ctl a"), "it is kept alive");
    assert!(!second.is_lost());
    drop(second);
    eventually("a dead executor's lock ends", async || plans.lock("ctl b").await.is_ok()).await;
}

#[tokio::test]
async fn a_journal_and_the_record_change_together_and_only_under_the_lock() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let created = client.create_record(&record(1)).await.unwrap();
    let plans = Plans::new(&client);
    let lock = plans.lock("ctl a").await.unwrap();
    lock.begin(&plan("move-1", created), None).await.unwrap();
    let values = [b"one".to_vec(), b"two".to_vec()];
    lock.write("move-1", 1, &values, None).await.unwrap();
    let from = present(&client).await;
    let to = next(&from);
    let step = RecordStep { from: &from, to: &to };
    let changed = lock.write("move-1", 3, &[b"three".to_vec()], Some(step)).await.unwrap();
    assert_eq!(present(&client).await, Versioned { value: to.clone(), revision: changed });
    let stored = plans.current().await.unwrap().unwrap();
    let numbers: Vec<_> = stored.journal.iter().map(|entry| entry.number).collect();
    assert_eq!((stored.plan, numbers), (plan("move-1", created), vec![1, 2, 3]));
    assert_eq!(stored.journal[2].revision, changed);

    // A stale record, an entry written before, a change that the record does not allow: nothing is written.
    let stale = lock.write("move-1", 4, &[b"four".to_vec()], Some(step)).await;
    assert!(matches!(stale, Err(Error::RecordConflict { .. })), "{stale:?}");
    let again = lock.write("move-1", 3, &[b"other".to_vec()], None).await;
    assert!(matches!(again, Err(Error::PlanConflict { .. })), "{again:?}");
    let from = present(&client).await;
    let forbidden = Record { promotable: true, ..to };
    let step = RecordStep { from: &from, to: &forbidden };
    let refused = lock.write("move-1", 4, &[b"four".to_vec()], Some(step)).await;
    assert!(matches!(refused, Err(Error::Record(_))), "{refused:?}");

    lose(&client).await;
    let to = next(&from);
    let step = RecordStep { from: &from, to: &to };
    for record in [None, Some(step)] {
        let late = lock.write("move-1", 4, &[b"late".to_vec()], record).await;
        assert!(matches!(late, Err(Error::LockLost)), "{late:?}");
    }
    assert!(lock.is_lost());
    let other = plans.lock("ctl b").await.unwrap();
    let late = lock.finish("move-1", 4, &[b"late".to_vec()], Some(step)).await;
    assert!(matches!(late, Err(Error::LockLost)), "{late:?}");
    assert_eq!(present(&client).await, from);
    other.finish("move-1", 4, &[b"end".to_vec()], None).await.unwrap();
    assert_eq!(plans.current().await.unwrap(), None);
    assert_eq!(plans.find("move-1").await.unwrap().unwrap().journal.len(), 4);
}

#[tokio::test]
async fn a_plan_begins_once_under_its_record_and_alone() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let created = client.create_record(&record(1)).await.unwrap();
    let plans = Plans::new(&client);
    let lock = plans.lock("ctl a").await.unwrap();
    let stale = lock.begin(&plan("move-0", Revision(created.0 - 1)), None).await;
    assert!(matches!(stale, Err(Error::RecordConflict { .. })), "{stale:?}");
    lock.begin(&plan("move-1", created), None).await.unwrap();
    let second = lock.begin(&plan("move-2", created), None).await;
    assert!(matches!(second, Err(Error::PlanConflict { .. })), "{second:?}");
    let end = Superseded { id: "move-1".to_owned(), number: 1, value: b"superseded".to_vec() };
    lock.begin(&plan("move-2", created), Some(&end)).await.unwrap();
    assert_eq!(plans.current().await.unwrap().unwrap().plan.id, "move-2");
    assert_eq!(plans.find("move-1").await.unwrap().unwrap().journal[0].value, b"superseded");
    lock.finish("move-2", 1, &[b"end".to_vec()], None).await.unwrap();
    let again = lock.begin(&plan("move-1", created), None).await;
    assert!(matches!(again, Err(Error::PlanConflict { .. })), "{again:?}");
    for bad in ["", "Move", "a/b", "lock_"] {
        let refused = lock.begin(&plan(bad, created), None).await;
        assert!(matches!(refused, Err(Error::Malformed { .. })), "{refused:?}");
    }
    prunes_the_oldest(&plans, &lock, created).await;
}

async fn prunes_the_oldest(plans: &Plans, lock: &PlanLock, created: Revision) {
    lock.begin(&plan("move-3", created), None).await.unwrap();
    assert_eq!(plans.ids().await.unwrap(), ["move-1", "move-2", "move-3"]);
    assert_eq!(lock.prune_to(2).await.unwrap(), 1);
    assert_eq!(plans.ids().await.unwrap(), ["move-2", "move-3"]);
    assert_eq!(plans.find("move-1").await.unwrap(), None);
    assert_eq!(lock.prune_to(0).await.unwrap(), 1, "the plan under way stays");
    assert_eq!(plans.ids().await.unwrap(), ["move-3"]);
    assert_eq!(lock.prune().await.unwrap(), 0);
}

/// Who slept over the loss of what was entered must not note it as entered after.
#[tokio::test]
async fn a_note_of_what_is_entered_replaces_the_one_that_was_seen() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let plans = Plans::new(&client);
    let none = plans.entered().await.unwrap();
    assert_eq!(none.up_to, None);
    plans.forget_entered().await.unwrap();
    let forgotten = plans.entered().await.unwrap();
    assert!(forgotten.up_to.is_none() && none.is_forgotten_in(&forgotten));
    assert!(!plans.note_entered(&none, "move-1").await.unwrap(), "it was forgotten meanwhile");
    assert!(plans.note_entered(&forgotten, "move-1").await.unwrap());
    let first = plans.entered().await.unwrap();
    assert_eq!(first.up_to.as_deref(), Some("move-1"));
    assert!(!forgotten.is_forgotten_in(&first));
    plans.forget_entered().await.unwrap();
    let again = plans.entered().await.unwrap();
    assert!(again.up_to.is_none() && first.is_forgotten_in(&again));
    assert!(!plans.note_entered(&first, "move-2").await.unwrap(), "it was forgotten meanwhile");
    assert_eq!(plans.entered().await.unwrap(), again);
    assert!(!again.is_forgotten_in(&plans.entered().await.unwrap()), "once only");
}
