//! Keys, transactions and leases.

use crate::cluster::{Cluster, eventually};
use domicile_control::Error;
use domicile_control::etcd::{Change, Condition, Transaction};
use domicile_control::limits::MAX_VALUE_BYTES;

fn put(key: &str, value: &str) -> Change {
    Change::Put { key: key.to_owned(), value: value.into(), lease: None }
}

#[tokio::test]
async fn keys_are_set_read_listed_and_removed() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let etcd = client.etcd();
    assert_eq!(client.key("journal"), "/domicile/demo/journal");
    assert_eq!(etcd.get("/a/1").await.unwrap().0, None);
    let first = etcd.put("/a/1", b"one".to_vec(), None).await.unwrap();
    let second = etcd.put("/a/2", b"two".to_vec(), None).await.unwrap();
    etcd.put("/b", b"other".to_vec(), None).await.unwrap();
    assert!(first < second);
    let (entry, seen) = etcd.get("/a/1").await.unwrap();
    let entry = entry.unwrap();
    assert_eq!(
        (entry.value.as_slice(), entry.created, entry.modified),
        (&b"one"[..], first, first)
    );
    assert!(seen > second);
    let listed: Vec<_> = etcd.list("/a/").await.unwrap().into_iter().map(|e| e.key).collect();
    assert_eq!(listed, ["/a/1", "/a/2"]);
    assert!(etcd.delete("/a/1").await.unwrap());
    assert!(!etcd.delete("/a/1").await.unwrap());
    let huge = etcd.put("/a/1", vec![0; MAX_VALUE_BYTES + 1], None).await;
    assert!(matches!(huge, Err(Error::TooLarge { .. })), "{huge:?}");
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let etcd = client.etcd();
    let absent = [Condition::Absent("/x".into()), Condition::Absent("/y".into())];
    let done = etcd.transact(&absent, vec![put("/x", "1"), put("/y", "1")]).await.unwrap();
    let Transaction::Done(revision) = done else { panic!("{done:?}") };
    // The same again finds both keys there and changes neither.
    match etcd.transact(&absent, vec![put("/x", "2"), put("/y", "2")]).await.unwrap() {
        Transaction::Refused(found) => {
            let values: Vec<_> = found.into_iter().map(|e| e.unwrap().value).collect();
            assert_eq!(values, [b"1", b"1"]);
        }
        Transaction::Done(_) => panic!("the keys exist"),
    }
    // One condition that does not hold is enough.
    let unchanged = Condition::Unchanged("/x".into(), revision);
    let mixed = [unchanged.clone(), Condition::Absent("/y".into())];
    let refused = etcd.transact(&mixed, vec![put("/x", "3")]).await.unwrap();
    assert!(matches!(refused, Transaction::Refused(_)));
    let removed = vec![put("/x", "4"), Change::Delete { key: "/y".into() }];
    assert!(matches!(etcd.transact(&[unchanged], removed).await.unwrap(), Transaction::Done(_)));
    assert_eq!(etcd.get("/x").await.unwrap().0.unwrap().value, b"4");
    assert_eq!(etcd.get("/y").await.unwrap().0, None);
}

#[tokio::test]
async fn a_key_ends_with_its_lease() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    let etcd = client.etcd();
    let (kept, silent) = (etcd.lease_grant(2).await.unwrap(), etcd.lease_grant(2).await.unwrap());
    etcd.put("/kept", b"1".to_vec(), Some(kept.id)).await.unwrap();
    etcd.put("/silent", b"1".to_vec(), Some(silent.id)).await.unwrap();
    eventually("the silent holder's key ends", async || {
        assert!(etcd.lease_keep_alive(kept.id).await.unwrap() >= 2);
        etcd.get("/silent").await.unwrap().0.is_none()
    })
    .await;
    assert_eq!(etcd.get("/kept").await.unwrap().0.unwrap().lease, Some(kept.id));
    assert!(matches!(etcd.lease_keep_alive(silent.id).await, Err(Error::LeaseGone)));
    etcd.lease_revoke(kept.id).await.unwrap();
    assert_eq!(etcd.get("/kept").await.unwrap().0, None);
    etcd.lease_revoke(kept.id).await.unwrap();
    let refused = etcd.put("/late", b"1".to_vec(), Some(kept.id)).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}
