//! Moving the writer between two ledger nodes on real Postgres, step by step, as a plan does it.

use std::time::Duration;

use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::error::Code;
use domicile_core::ids::NodeId;
use domicile_postgres::{CommitError, ConnectConfig, Connection};
use domicile_topology::Record;
use domicile_topology::agent_api::{
    DemoteAnswer, DemoteRequest, EpochOpenRequest, PromoteRequest, Rejoined, Role, SlotRequest,
    StopRequest, SubscriptionsRequest, SyncRequest, UndoDemoteRequest,
};
use domicile_topology::lease::WriterLease;
use domicile_topology::member::{JoinId, Member};
use domicile_topology::observed::{PostgresState, StandbyStatus};
use domicile_topology::record::{Beginning, Writes};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::cluster::{Cluster, Node, run, until};
use crate::ledger::{make_sync, pair};

/// Prints how long a step took, and passes its result on.
#[expect(clippy::print_stderr, reason = "shown with --no-capture")]
async fn timed<T>(step: &str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let result = work.await;
    eprintln!("{step}: {} ms", begun.elapsed().as_millis());
    result
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub(crate) fn joining(name: &str, join: u64) -> Member {
    Member { node: node(name), join_id: JoinId::from_random(join) }
}

/// A primary `ledger-a` with its epoch open and a synchronous, promotable standby `ledger-b`.
pub(crate) async fn ready_pair(cluster: &Cluster) -> (Node, Node, Member) {
    let (a, b, member) = pair(cluster).await;
    make_sync(cluster, &a, &member).await;
    a.agent.migrate().await.unwrap();
    open(&a, 1).await;
    (a, b, member)
}

pub(crate) async fn open(node: &Node, epoch: u64) {
    node.agent.open_epoch(&EpochOpenRequest { epoch: Epoch(epoch) }).await.unwrap();
}

fn demotion(epoch: u64, to: &str, member: &Member) -> DemoteRequest {
    let (source, member) = (node(to), member.clone());
    DemoteRequest { epoch: Epoch(epoch), source, member, drain_timeout_ms: 2_000 }
}

/// Whether the writer's role gets in.
pub(crate) async fn writer_gets_in(node: &Node) -> bool {
    let config = ConnectConfig { user: "domicile_writer".to_owned(), ..node.superuser() };
    domicile_postgres::connect(&config).await.is_ok()
}

async fn replayed(node: &Node, end: Lsn) {
    until("the standby has replayed everything", async || {
        node.agent.status().await.postgres.replay_lsn.is_some_and(|lsn| lsn > end)
    })
    .await;
}

// One switchover, in the order of the plan.
async fn switch(cluster: &Cluster, epoch: u64, from: &Node, to: &Node, names: (&str, &str)) {
    let member = joining(names.0, epoch + 100);
    timed("checkpoint", from.agent.checkpoint()).await.unwrap();
    timed("checkpoint of the standby", to.agent.checkpoint()).await.unwrap();
    let slot = SlotRequest { member: member.clone() };
    assert!(timed("slot", to.agent.make_slot(&slot)).await.unwrap().created);
    assert!(!to.agent.make_slot(&slot).await.unwrap().created, "a second time it is there");

    let record = cluster.control.record();
    cluster.control.put(Record { writes: Writes::Closing, ..record.clone() });
    let request = demotion(epoch, names.1, &member);
    let ended: DemoteAnswer = timed("demote", from.agent.demote(&request)).await.unwrap();
    assert!(ended.demoted);
    let again = from.agent.demote(&request).await.unwrap();
    assert_eq!(again, DemoteAnswer { demoted: false, ..ended.clone() });
    assert_eq!(from.agent.start().await.unwrap_err().code(), Code::NodeState, "it waits");
    replayed(to, ended.end_lsn).await;

    let early = to.agent.promote(&PromoteRequest { epoch: Epoch(epoch + 1) }).await.unwrap_err();
    assert_eq!(early.code(), Code::WriterNotNamed, "{early}");
    cluster.control.put(Record {
        epoch: Epoch(epoch + 1),
        writer_node: node(names.1),
        beginning: Beginning::Switchover,
        sync_member: Some(member.clone()),
        writes: Writes::Open,
        ..record
    });
    let request = PromoteRequest { epoch: Epoch(epoch + 1) };
    let promoted = timed("promote", to.agent.promote(&request)).await.unwrap();
    assert!(promoted.promoted && promoted.begin_lsn >= ended.end_lsn);
    assert_eq!(promoted.timeline, ended.timeline + 1);
    let again = to.agent.promote(&request).await.unwrap();
    assert!(!again.promoted && again.begin_lsn == promoted.begin_lsn);
    assert!(!writer_gets_in(to).await, "the epoch is not open yet");

    let rejoined = timed("rejoin", from.agent.rejoin()).await.unwrap();
    assert_eq!((&rejoined.source, &rejoined.member), (&node(names.1), &member));
    assert_eq!(from.agent.rejoin().await.unwrap().how, Rejoined::Unchanged);
    timed("open the epoch", open(to, epoch + 1)).await;
    assert!(writer_gets_in(to).await && !writer_gets_in(from).await);
    to.status_until("writes succeed in two regions", |status| {
        status.standby(&member).is_some_and(StandbyStatus::is_synchronous)
            && status.probe.is_some_and(|probe| probe.ok)
    })
    .await;
}

#[test]
fn the_writer_moves_there_and_back() {
    run("moves::the_writer_moves_there_and_back", async {
        let cluster = Cluster::new(22_360);
        let (a, b, _) = ready_pair(&cluster).await;
        assert!(writer_gets_in(&a).await && !writer_gets_in(&b).await);
        // Slots as readers' subscriptions make them; nobody takes them up here.
        let sql = "select pg_create_logical_replication_slot('sub_reader_mt_mt', 'pgoutput', false, false, true)";
        a.connect().await.query(sql, &[]).await.unwrap();
        switch(&cluster, 1, &a, &b, ("ledger-a", "ledger-b")).await;
        let settled = a.status_until("the old primary is a tidy standby", |status| {
            status.postgres.state == PostgresState::Standby
                && status.slots.iter().all(|slot| slot.synced)
        });
        assert_eq!(settled.await.postgres.source, Some(node("ledger-b")));
        switch(&cluster, 2, &b, &a, ("ledger-b", "ledger-a")).await;
        assert_eq!(a.agent.status().await.epoch_open, Some(Epoch(3)));
    });
}

#[test]
fn a_frozen_reader_does_not_hold_a_demotion_up() {
    run("moves::a_frozen_reader_does_not_hold_a_demotion_up", async {
        let cluster = Cluster::new(22_660);
        let (a, _b, _) = ready_pair(&cluster).await;
        let mt = cluster.node("reader-mt", "reader-mt", 2);
        mt.agent.init().await.unwrap();
        mt.agent.migrate().await.unwrap();
        mt.agent.subscriptions(&SubscriptionsRequest::default()).await.unwrap();
        let sender = "select active_pid from pg_replication_slots where slot_name = 'sub_reader_mt_mt' \
                      and active_pid is not null";
        let ledger = a.connect().await;
        until("the reader streams", async || ledger.query(sender, &[]).await.unwrap().len() == 1)
            .await;
        let sender = ledger.query_one(sender, &[]).await.unwrap();
        kill_process(Pid::from_raw(sender.get(0)).unwrap(), Signal::STOP).unwrap();
        drop(ledger);
        let record = cluster.control.record();
        cluster.control.put(Record { writes: Writes::Closing, ..record });
        let begun = Instant::now();
        let request = demotion(1, "ledger-b", &joining("ledger-a", 9));
        assert!(timed("demote", a.agent.demote(&request)).await.unwrap().demoted);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_demotion_waits_for_the_writer_and_can_be_called_off() {
    run("moves::a_demotion_waits_for_the_writer_and_can_be_called_off", async {
        let cluster = Cluster::new(22_420);
        let (a, b, standby) = ready_pair(&cluster).await;
        let member = joining("ledger-a", 9);
        let mut request = demotion(1, "ledger-b", &member);
        let open = a.agent.demote(&request).await.unwrap_err();
        assert_eq!(open.code(), Code::WriterNotNamed, "writes are not closing: {open}");
        let record = cluster.control.record();
        cluster.control.put(Record { writes: Writes::Closing, ..record.clone() });

        // A session of the writer holds the demotion up, busy or between two transactions, and nothing is changed.
        let config = ConnectConfig { user: "domicile_writer".to_owned(), ..a.superuser() };
        let writer = domicile_postgres::connect(&config).await.unwrap();
        writer.batch_execute("begin; select 1").await.unwrap();
        request.drain_timeout_ms = 200;
        let late = a.agent.demote(&request).await.unwrap_err();
        assert_eq!(late.code(), Code::StepTimeout, "{late}");
        writer.batch_execute("rollback").await.unwrap();
        let late = a.agent.demote(&request).await.unwrap_err();
        assert_eq!(late.code(), Code::StepTimeout, "{late}");
        assert!(writer_gets_in(&a).await, "as it was");

        // One that works goes on holding it up, and is named; one that says nothing more does not.
        request.drain_timeout_ms = 2_000;
        let (late, slept) =
            tokio::join!(a.agent.demote(&request), writer.batch_execute("select pg_sleep(4)"),);
        let late = late.unwrap_err();
        assert!(late.to_string().contains("1 of test are busy"), "{late}");
        slept.unwrap();
        let begun = Instant::now();
        let ended = a.agent.demote(&request).await.unwrap();
        assert!(ended.demoted && begun.elapsed() >= Duration::from_secs(1));
        assert_eq!(ended.silent_writers, ["test".to_owned()].into());
        let over = writer.batch_execute("select 1").await;
        assert!(over.is_err(), "its session has ended");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(a.agent.status().await.postgres.state, PostgresState::Stopped, "it waits");

        // Called off: primary again, of the same epoch, and the writer gets in.
        let undo = UndoDemoteRequest { epoch: Epoch(1) };
        assert!(timed("undo", a.agent.undo_demote(&undo)).await.unwrap().restored);
        assert!(!a.agent.undo_demote(&undo).await.unwrap().restored);
        cluster.control.put(record);
        assert_eq!(a.agent.start().await.unwrap().role, Role::Primary);
        assert!(writer_gets_in(&a).await);
        a.status_until("writes succeed", |status| {
            status.standby(&standby).is_some_and(StandbyStatus::is_synchronous)
                && status.probe.is_some_and(|probe| probe.ok)
        })
        .await;
        assert_eq!(b.agent.rejoin().await.unwrap().how, Rejoined::Unchanged);
        let named = a.agent.rejoin().await.unwrap_err();
        assert_eq!(
            named.code(),
            Code::WriterNotNamed,
            "the writer's node does not rejoin: {named}"
        );
    });
}

/// A session of a writer process, as the writer opens it.
async fn session_of(node: &Node, writer: &str) -> Connection {
    let config = ConnectConfig {
        user: "domicile_writer".to_owned(),
        application_name: format!("domicile-writer/{writer}"),
        ..node.superuser()
    };
    domicile_postgres::connect(&config).await.unwrap()
}

#[test]
fn commits_stop_waiting_only_when_no_writer_without_a_lease_has_a_session() {
    run("moves::commits_stop_waiting_only_when_no_writer_without_a_lease_has_a_session", async {
        let cluster = Cluster::new(22_720);
        let (a, b, _) = ready_pair(&cluster).await;
        let enforcing = session_of(&a, "writer-mt").await;
        let lax = session_of(&a, "writer-mt-2").await;
        let mut waiting = session_of(&a, "writer-mt-2").await;
        b.agent.stop(&StopRequest::default()).await.unwrap();
        let lease = |node_name: &str, enforcing: bool| WriterLease {
            node: node(node_name),
            region: "mt-1".parse().unwrap(),
            epoch: Epoch(1),
            enforcing,
        };
        let leases = vec![lease("writer-mt", true), lease("writer-mt-2", false)];
        *cluster.control.leases.lock().unwrap() = leases;
        cluster.control.name("ledger-a", 1, None);

        // The commit of a writer that does not know better waits for the standby that is gone.
        let tx = waiting.begin().await.unwrap();
        tx.fence().await.unwrap();
        let (outcome, synced) = tokio::join!(tx.commit(Duration::from_secs(20)), async {
            a.status_until("a commit waits", |status| {
                status.postgres.sync_waiters.is_some_and(|waiters| waiters > 0)
            })
            .await;
            a.agent.sync(&SyncRequest { member: None }).await
        });
        assert!(synced.unwrap().changed);
        assert!(matches!(outcome, Err(CommitError::Unknown(_))), "{outcome:?}");
        assert!(lax.batch_execute("select 1").await.is_err(), "its sessions have ended");
        enforcing.batch_execute("select 1").await.unwrap();
        a.status_until("writes succeed", |status| status.probe.is_some_and(|p| p.ok)).await;
        assert!(writer_gets_in(&a).await, "whoever is back may ask");
        assert!(!a.agent.sync(&SyncRequest { member: None }).await.unwrap().changed);
        enforcing.batch_execute("select 1").await.unwrap();
    });
}
