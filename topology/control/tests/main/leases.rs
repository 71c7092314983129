//! The writers' leases.

use crate::cluster::{Cluster, eventually, record};
use domicile_control::{Error, Leases, Record};
use domicile_core::epoch::Epoch;
use domicile_topology::lease::{TTL_S, WriterLease};
use std::time::Instant;

fn lease(node: &str, epoch: u64) -> WriterLease {
    let (node, region) = (node.parse().unwrap(), "mt-1".parse().unwrap());
    WriterLease { node, region, epoch: Epoch(epoch), enforcing: epoch > 1 }
}

#[tokio::test]
async fn a_lease_stands_only_under_the_record_its_writer_has_seen() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let leases = Leases::new(&client);
    let seen = client.create_record(&record(1)).await.unwrap();
    let granted = leases.grant(TTL_S, Instant::now).await.unwrap();
    assert!(granted.ttl_s >= TTL_S);
    leases.put(&lease("writer-mt", 1), granted.lease, seen).await.unwrap();
    assert_eq!(leases.list().await.unwrap(), [lease("writer-mt", 1)]);

    let next = Record { topology_generation: 2, ..record(1) };
    let changed = client.compare_and_set_record(&next, seen).await.unwrap();
    let stale = leases.put(&lease("writer-mt", 2), granted.lease, seen).await;
    match stale {
        Err(Error::RecordConflict { current: Some(current) }) => {
            assert_eq!((current.value, current.revision), (next, changed));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(leases.list().await.unwrap(), [lease("writer-mt", 1)]);
    leases.put(&lease("writer-mt", 2), granted.lease, changed).await.unwrap();
    assert_eq!(leases.list().await.unwrap(), [lease("writer-mt", 2)]);

    leases.give_back(granted.lease).await.unwrap();
    assert_eq!(leases.list().await.unwrap(), []);
    let gone = leases.keep_alive(granted.lease, Instant::now).await;
    assert!(matches!(gone, Err(Error::LeaseGone)), "{gone:?}");
    let late = leases.put(&lease("writer-mt", 2), granted.lease, changed).await;
    assert!(matches!(late, Err(Error::Refused { .. })), "{late:?}");
}

#[tokio::test]
async fn a_silent_writer_loses_its_lease_and_a_kept_one_stays() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let leases = Leases::new(&client);
    let seen = client.create_record(&record(1)).await.unwrap();
    let silent = leases.grant(1, Instant::now).await.unwrap();
    let kept = leases.grant(1, Instant::now).await.unwrap();
    leases.put(&lease("writer-a", 1), silent.lease, seen).await.unwrap();
    leases.put(&lease("writer-b", 1), kept.lease, seen).await.unwrap();
    eventually("the silent writer's lease ends", async || {
        let before = Instant::now();
        let renewal = leases.keep_alive(kept.lease, Instant::now).await.unwrap();
        assert!(renewal.sent >= before && renewal.ttl_s >= 1);
        leases.list().await.unwrap() == [lease("writer-b", 1)]
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_is_not_taken_for_absent() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    client.etcd().put(&client.key("writer-lease/x"), b"?".to_vec(), None).await.unwrap();
    let listed = Leases::new(&client).list().await;
    assert!(matches!(listed, Err(Error::Malformed { .. })), "{listed:?}");
}
