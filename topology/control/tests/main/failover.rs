//! Members that die, and members that say nothing.

use crate::cluster::{Cluster, PATIENCE, Ports, eventually, record, topology, until};
use crate::plans::plan;
use domicile_control::etcd::MemberStatus;
use domicile_control::limits::ATTEMPT_TIMEOUT_MS;
use domicile_control::{ControlClient, Error, Plans, Record, Revision};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_watches_go_on_while_a_majority_lives() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let created = client.create_record(&record(1)).await.unwrap();
    let watch = client.watch_record();
    until(&watch, |known| *known == record(1)).await;

    cluster.kill_member(0);
    let next = Record { topology_generation: 2, ..record(1) };
    let changed = change(&client, &next, created).await;
    until(&watch, |known| known.topology_generation == 2).await;

    cluster.kill_member(1);
    let lonely = client.record().await;
    assert!(matches!(lonely, Err(Error::Unavailable { .. })), "{lonely:?}");
    let last = Record { topology_generation: 3, ..record(1) };
    let refused = client.compare_and_set_record(&last, changed).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    assert_eq!(watch.value().unwrap().topology_generation, 2);
    eventually("the watch grows stale", async || {
        watch.staleness().unwrap() > Duration::from_secs(3)
    })
    .await;

    cluster.start_member(1);
    eventually("a majority is back", async || client.record().await.is_ok()).await;
    change(&client, &last, changed).await;
    until(&watch, |known| known.topology_generation == 3).await;
    // Its question may have been sent while a leader was missing: the next one is young.
    eventually("the watch is fresh", async || watch.staleness().unwrap() < Duration::from_secs(3))
        .await;
}

/// Changes the record while a new leader may still be missing: what was not sent is sent again, and
/// after a lost answer the record itself tells whether it was made.
async fn change(client: &ControlClient, next: &Record, revision: Revision) -> Revision {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match client.compare_and_set_record(next, revision).await {
            Ok(revision) => return revision,
            Err(Error::Unavailable { .. } | Error::OutcomeUnknown { .. }) => {}
            Err(Error::RecordConflict { current: Some(current) }) if &current.value == next => {
                return current.revision;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no majority in time");
}

#[tokio::test]
async fn a_silent_endpoint_costs_one_attempt() {
    let cluster = Cluster::start(1);
    cluster.client().await;
    let silent = Ports::take();
    // Takes connections and never says a word.
    let _listener = TcpListener::bind(("127.0.0.1", silent.number(0))).await.unwrap();
    let ports = [silent.number(0), cluster.ports.number(0)];
    let client = ControlClient::new(&cluster.config_of_ports(&ports));
    let attempt = Duration::from_millis(ATTEMPT_TIMEOUT_MS);
    let start = Instant::now();
    client.publish_topology(&topology(1)).await.unwrap();
    assert!(start.elapsed() < attempt + Duration::from_secs(1), "{:?}", start.elapsed());
    let start = Instant::now();
    client.topology().await.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(500),
        "the endpoint that answered is asked first"
    );
}

/// The member that leads, once all that live agree, with what each says.
async fn led(members: &[ControlClient]) -> Option<(usize, Vec<MemberStatus>)> {
    let mut seen = Vec::new();
    for member in members {
        seen.push(member.etcd().member_status().await.ok()?);
    }
    let leader = seen.first()?.leader?;
    let agreed = seen.iter().all(|status| status.leader == Some(leader));
    let place = seen.iter().position(|status| status.member == leader);
    place.filter(|_| agreed).map(|place| (place, seen))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_by_the_leader_alone() {
    let cluster = Cluster::start(3);
    cluster.client().await;
    let members = [0, 1, 2].map(|index| ControlClient::new(&cluster.config(&[index])));
    eventually("a leader", async || led(&members).await.is_some()).await;
    let (first, seen) = led(&members).await.unwrap();
    let second = (first + 1) % 3;
    members[first].etcd().move_leader(seen[second].member).await.unwrap();
    let moved = async || led(&members).await.is_some_and(|(now, _)| now == second);
    eventually("the other leads", moved).await;
    let refused = members[first].etcd().move_leader(seen[first].member).await;
    assert!(refused.is_err(), "a member that does not lead has no lead to hand over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_goes_on_while_the_leader_is_replaced() {
    let mut cluster = Cluster::start(3);
    let client = cluster.client().await;
    let created = client.create_record(&record(1)).await.unwrap();
    let plans = Plans::new(&client);
    for round in 0..2 {
        let members = [0, 1, 2].map(|index| ControlClient::new(&cluster.config(&[index])));
        eventually("a leader", async || led(&members).await.is_some()).await;
        let (leader, _) = led(&members).await.unwrap();
        if round == 0 {
            // Nobody leads when the lock is asked for.
            cluster.kill_member(leader);
            let lock = plans.lock("ctl a").await.unwrap();
            lock.release().await.unwrap();
        } else {
            // Nobody leads when the next entry is written.
            let lock = plans.lock("ctl a").await.unwrap();
            lock.begin(&plan("move-1", created), None).await.unwrap();
            cluster.kill_member(leader);
            lock.write("move-1", 1, &[b"one".to_vec()], None).await.unwrap();
        }
        cluster.start_member(leader);
    }
}
