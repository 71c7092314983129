//! The control record under competition.

use crate::cluster::{Cluster, record};
use domicile_control::{ControlClient, Error, Record, Revision};
use domicile_topology::document::Durability;
use domicile_topology::{JoinId, Member};
use tokio::task::JoinSet;

const CONTENDERS: u64 = 32;

/// A record that names a different join for each contender.
fn joined(contender: u64) -> Record {
    let node = "ledger-de".parse().unwrap();
    let member = Member { node, join_id: JoinId::from_random(contender) };
    Record { durability: Durability::Two, sync_member: Some(member), ..record(1) }
}

/// Lets all contenders change the record at once and returns the winner's record and revision.
async fn race(
    client: &ControlClient,
    revision: Option<Revision>,
    offer: fn(u64) -> Record,
) -> (Record, Revision) {
    let mut tasks = JoinSet::new();
    for contender in 0..CONTENDERS {
        let client = client.clone();
        tasks.spawn(async move {
            let offered = offer(contender);
            let outcome = match revision {
                Some(revision) => client.compare_and_set_record(&offered, revision).await,
                None => client.create_record(&offered).await,
            };
            (offered, outcome)
        });
    }
    let mut winners = Vec::new();
    let mut seen_by_losers = Vec::new();
    while let Some(task) = tasks.join_next().await {
        match task.unwrap() {
            (offered, Ok(revision)) => winners.push((offered, revision)),
            (_, Err(Error::RecordConflict { current })) => seen_by_losers.push(current.unwrap()),
            (_, Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    let (winner, revision) = winners.remove(0);
    let current = client.record().await.unwrap().unwrap();
    assert_eq!((&current.value, current.revision), (&winner, revision));
    assert!(seen_by_losers.iter().all(|seen| **seen == current));
    (winner, revision)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_contenders_exactly_one_wins() {
    let cluster = Cluster::start(3);
    let client = cluster.client().await;
    assert_eq!(client.record().await.unwrap(), None);
    let (_, revision) = race(&client, None, |_| record(1)).await;
    let (winner, revision) = race(&client, Some(revision), joined).await;
    for promotable in [true, false] {
        let next = Record { promotable, ..winner.clone() };
        let current = client.record().await.unwrap().unwrap();
        client.compare_and_set_record(&next, current.revision).await.unwrap();
    }
    // Whoever still holds an old revision has lost, whatever the content.
    let stale = client.compare_and_set_record(&winner, revision).await;
    assert!(matches!(stale, Err(Error::RecordConflict { .. })), "{stale:?}");
}

#[tokio::test]
async fn a_change_that_the_record_does_not_allow_is_not_sent() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let created = client.create_record(&record(1)).await.unwrap();
    let too_early = Record { promotable: true, ..joined(1) };
    let inconsistent = Record { promotable: true, ..record(1) };
    for refused in [too_early, inconsistent, record(3)] {
        let outcome = client.compare_and_set_record(&refused, created).await;
        assert!(matches!(outcome, Err(Error::Record(_))), "{outcome:?}");
    }
    assert_eq!(client.record().await.unwrap().unwrap().revision, created);
    client.etcd().put(&client.key("record"), b"{}".to_vec(), None).await.unwrap();
    assert!(matches!(client.record().await, Err(Error::Malformed { .. })));
}
