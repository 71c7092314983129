//! Publishing a topology.

use crate::cluster::{Cluster, topology};
use domicile_control::{Error, Published};
use domicile_topology::document::SuccessionRefused;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_topology_is_only_ever_replaced_by_a_newer_one() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    assert_eq!(client.topology().await.unwrap(), None);
    assert!(matches!(client.publish_topology(&topology(2)).await, Ok(Published::Applied(_))));
    assert!(matches!(client.publish_topology(&topology(2)).await, Ok(Published::Unchanged)));
    let older = client.publish_topology(&topology(1)).await;
    assert!(matches!(older, Err(Error::Succession(SuccessionRefused::Older { .. }))), "{older:?}");
    let mut changed = topology(2);
    changed.jurisdictions[0].lag_limit_ms += 1;
    let different = client.publish_topology(&changed).await;
    let expected = SuccessionRefused::SameButDifferent(2);
    assert!(matches!(different, Err(Error::Succession(refused)) if refused == expected));
    changed.generation = 3;
    changed.readers.clear();
    let invalid = client.publish_topology(&changed).await;
    assert!(matches!(invalid, Err(Error::Malformed { .. })), "{invalid:?}");
    assert_eq!(client.topology().await.unwrap().unwrap().value, topology(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_next_generations_one_is_published() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    client.publish_topology(&topology(1)).await.unwrap();
    let mut tasks = JoinSet::new();
    for contender in 1..=8 {
        let client = client.clone();
        let mut offered = topology(2);
        offered.jurisdictions[0].lag_limit_ms += contender;
        tasks.spawn(async move { client.publish_topology(&offered).await });
    }
    let outcomes = tasks.join_all().await;
    let applied = outcomes.iter().filter(|o| matches!(o, Ok(Published::Applied(_)))).count();
    assert_eq!(applied, 1, "{outcomes:?}");
}
