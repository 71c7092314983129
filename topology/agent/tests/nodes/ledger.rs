//! Ledger nodes on real Postgres: made, cloned, synchronous, killed, fenced.

use std::time::Duration;

use crate::cluster::{Cluster, Node, run, until};
use domicile_agent::decide::Authority;
use domicile_core::error::Code;
use domicile_topology::agent_api::{CloneRequest, Role, StopRequest, SyncRequest};
use domicile_topology::member::Member;
use domicile_topology::observed::PostgresState;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

fn from_a() -> CloneRequest {
    let source_node = "ledger-a".parse().unwrap();
    CloneRequest { source_node, discard_existing: false }
}

pub(crate) async fn pair(cluster: &Cluster) -> (Node, Node, Member) {
    let (a, b) = (cluster.node("ledger-a", "a", 0), cluster.node("ledger-b", "b", 1));
    let made = a.agent.init().await.unwrap();
    assert!(made.created && made.role == Role::Primary);
    cluster.control.name("ledger-a", 1, None);
    let cloned = b.agent.copy_from(&from_a()).await.unwrap();
    assert!(cloned.cloned);
    assert_eq!(cloned.system_identifier, made.system_identifier);
    (a, b, cloned.member)
}

pub(crate) async fn make_sync(cluster: &Cluster, a: &Node, member: &Member) {
    let request = SyncRequest { member: Some(member.clone()) };
    let synced = a.agent.sync(&request).await.unwrap();
    assert!(synced.changed && synced.confirmed_lsn.unwrap() >= synced.current_lsn);
    cluster.control.name("ledger-a", 1, Some(member));
}

#[test]
fn a_ledger_is_made_cloned_and_synchronous() {
    run("ledger::a_ledger_is_made_cloned_and_synchronous", async {
        let cluster = Cluster::new(22_000);
        let (a, b, member) = pair(&cluster).await;
        assert!(!a.agent.init().await.unwrap().created, "a second init finds it done");
        let again = b.agent.copy_from(&from_a()).await.unwrap();
        assert!(!again.cloned && again.member == member, "a second clone finds it done");

        let joined = |sync: &'static str| {
            let member = member.clone();
            move |status: &domicile_topology::observed::NodeStatus| {
                status
                    .standby(&member)
                    .is_some_and(|s| s.state == "streaming" && s.sync_state == sync)
            }
        };
        a.status_until("the standby streams", joined("async")).await;
        make_sync(&cluster, &a, &member).await;
        let status = a.status_until("the standby is sync", joined("sync")).await;
        assert_eq!(status.postgres.state, PostgresState::Primary);
        assert_eq!(status.postgres.sync_member, Some(member.clone()));
        let standby = b.agent.status().await;
        assert_eq!(standby.postgres.state, PostgresState::Standby);
        assert_eq!(standby.postgres.receiving, Some(true));
        assert_eq!(standby.postgres.member, Some(member.clone()));

        // A stopped walsender holds every commit; the status names it.
        let sender = "select pid from pg_stat_replication where state = 'streaming'";
        let sender = a.connect().await.query_one(sender, &[]).await.unwrap();
        let sender = Pid::from_raw(sender.get(0)).unwrap();
        kill_process(sender, Signal::STOP).unwrap();
        let stalled = a.status_until("the stopped process is seen", |status| {
            status.postgres.stalled.iter().any(|process| process.process.starts_with("walsender"))
        });
        assert_eq!(stalled.await.postgres.stalled.len(), 1);
        a.status_until("it is woken", |status| status.postgres.stalled.is_empty()).await;
        a.status_until("writes succeed", |status| status.probe.is_some_and(|p| p.ok)).await;
        assert_eq!(a.agent.status().await.postgres.restarts, 0, "without a restart");

        let again = a.agent.sync(&SyncRequest { member: Some(member) }).await.unwrap();
        assert!(!again.changed, "a second sync finds it done");
        let off = a.agent.sync(&SyncRequest { member: None }).await.unwrap_err();
        assert_eq!(off.code(), Code::NodeState, "the record says two: {off}");
    });
}

#[test]
fn a_namesake_never_acknowledges() {
    run("ledger::a_namesake_never_acknowledges", async {
        let cluster = Cluster::new(22_060);
        let (a, b, member) = pair(&cluster).await;
        make_sync(&cluster, &a, &member).await;
        let namesake = cluster.node("ledger-b", "namesake", 10);
        let other = namesake.agent.copy_from(&from_a()).await.unwrap().member;
        assert_eq!(other.node, member.node);
        assert_ne!(other.join_id, member.join_id);
        let seen = a
            .status_until("the namesake streams", |status| {
                status.standby(&other).is_some_and(|s| s.state == "streaming")
            })
            .await;
        assert_eq!(seen.standby(&other).unwrap().sync_state, "async");
        assert!(seen.standby(&member).unwrap().is_synchronous());
        a.status_until("writes succeed", |status| status.probe.is_some_and(|p| p.ok)).await;

        b.agent.stop(&StopRequest::default()).await.unwrap();
        let alone = a
            .status_until("writes wait, though the namesake streams", |status| {
                status.probe.is_some_and(|probe| !probe.ok)
                    && status.postgres.sync_waiters.is_some_and(|waiters| waiters > 0)
            })
            .await;
        assert_eq!(alone.standby(&other).unwrap().state, "streaming");
        sleep(Duration::from_secs(2)).await;
        let later = a.agent.status().await;
        assert_eq!(
            later.postgres.sync_waiters,
            Some(1),
            "one probe waits, not one more each second"
        );
        b.agent.start().await.unwrap();
        a.status_until("writes succeed again", |status| status.probe.is_some_and(|p| p.ok)).await;
    });
}

#[test]
fn a_killed_server_comes_back_only_where_the_record_names_it() {
    run("ledger::a_killed_server_comes_back_only_where_the_record_names_it", async {
        let cluster = Cluster::new(22_120);
        let (a, b, member) = pair(&cluster).await;
        make_sync(&cluster, &a, &member).await;

        let killed = a.postmaster().unwrap();
        kill_process(killed, Signal::KILL).unwrap();
        a.status_until("the primary is back", |status| {
            status.postgres.state == PostgresState::Primary && status.postgres.restarts == 1
        })
        .await;
        assert_ne!(a.postmaster(), Some(killed));

        // etcd away: the last known record of the same epoch, and the standby as the fence, suffice.
        let record = cluster.control.name("ledger-a", 1, Some(&member));
        cluster.control.set(Authority::Away(Some(record)));
        kill_process(a.postmaster().unwrap(), Signal::KILL).unwrap();
        a.status_until("it is back without etcd", |s| s.postgres.restarts == 2).await;

        // Another node is named: the primary stops, and stays down.
        cluster.control.name("ledger-b", 2, None);
        let down = a
            .status_until("the old primary yields", |status| {
                status.postgres.state == PostgresState::Stopped && status.postgres.refusal.is_some()
            })
            .await;
        assert_eq!(down.postgres.restarts, 2);
        assert_eq!(a.agent.start().await.unwrap_err().code(), Code::WriterNotNamed);
        cluster.control.set(Authority::Away(None));
        assert_eq!(a.agent.start().await.unwrap_err().code(), Code::ControlUnavailable);
        let status = b.agent.status().await;
        assert_eq!(status.postgres.state, PostgresState::Standby, "nobody promoted it");
    });
}

#[test]
fn a_running_server_is_adopted_and_a_stopped_one_stays_stopped() {
    run("ledger::a_running_server_is_adopted_and_a_stopped_one_stays_stopped", async {
        let cluster = Cluster::new(22_180);
        let first = cluster.node("ledger-a", "a", 0);
        first.agent.init().await.unwrap();
        let postmaster = first.postmaster().unwrap();
        first.abandon();

        let second = cluster.node("ledger-a", "a", 0);
        assert!(!second.agent.start().await.unwrap().started, "it runs already");
        assert_eq!(second.postmaster(), Some(postmaster));
        let stopped = second.agent.stop(&StopRequest::default()).await.unwrap();
        assert!(stopped.stopped && stopped.clean);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(second.agent.status().await.postgres.state, PostgresState::Stopped);
        assert!(!second.agent.stop(&StopRequest::default()).await.unwrap().stopped);
        assert!(second.agent.start().await.unwrap().started);
        until("it is up", || async {
            second.agent.status().await.postgres.state == PostgresState::Primary
        })
        .await;

        // A raw copy has no configuration of its own, so it cannot start by itself.
        assert!(!second.data_dir.join("postgresql.conf").exists());
        assert!(!second.data_dir.join("pg_hba.conf").exists());
    });
}
