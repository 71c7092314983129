//! Readers on real Postgres: they get their jurisdiction's rows and no other, and follow the writer.

use domicile_agent::decide::Authority;
use domicile_core::epoch::Epoch;
use domicile_core::error::Code;
use domicile_postgres::Connection;
use domicile_topology::agent_api::{
    CloneRequest, EpochOpenRequest, StopRequest, SubscriptionAction, SubscriptionsRequest,
    SyncRequest,
};
use domicile_topology::observed::{PostgresState, StandbyStatus};

use crate::cluster::{Cluster, Node, run, until};
use crate::ledger::{make_sync, pair};
use crate::moves::writer_gets_in;

async fn reader(cluster: &Cluster, name: &str, port_offset: u16) -> Node {
    let node = cluster.node(name, name, port_offset);
    assert!(node.agent.init().await.unwrap().created);
    let migrated = node.agent.migrate().await.unwrap();
    assert!(migrated.applied > 0 && migrated.schema_version > 0);
    assert_eq!(node.agent.migrate().await.unwrap().applied, 0, "a second run finds it done");
    node
}

async fn subscribe(node: &Node, reseed: &[&str]) -> SubscriptionAction {
    let reseed = reseed.iter().map(|code| code.parse().unwrap()).collect();
    let answer = node.agent.subscriptions(&SubscriptionsRequest { reseed }).await.unwrap();
    let [subscription] = answer.subscriptions.try_into().unwrap();
    subscription.action
}

/// One published row for each jurisdiction.
async fn write(ledger: &Connection, index: i64) {
    let insert = "insert into log.leaf (jurisdiction, log_epoch, idx, entry, leaf_hash)
                  select code, 1, $1, '\\x01', sha256('\\x01') from unnest(array['MT', 'DE']) as j(code)";
    assert_eq!(ledger.execute(insert, &[&index]).await.unwrap(), 2);
}

async fn rows(reader: &Connection) -> Vec<(String, i64)> {
    let sql = "select jurisdiction, idx from log.leaf order by 1, 2";
    let rows = reader.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn own(code: &str, up_to: i64) -> Vec<(String, i64)> {
    (0..=up_to).map(|index| (code.to_owned(), index)).collect()
}

#[test]
fn a_reader_gets_its_own_rows_and_follows_the_writer() {
    run("reader::a_reader_gets_its_own_rows_and_follows_the_writer", async {
        let cluster = Cluster::new(22_240);
        let (a, b, member) = pair(&cluster).await;
        make_sync(&cluster, &a, &member).await;
        let (mt, de) =
            (reader(&cluster, "reader-mt", 2).await, reader(&cluster, "reader-de", 3).await);
        let early = mt.agent.subscriptions(&SubscriptionsRequest::default()).await.unwrap_err();
        assert_eq!(early.code(), Code::NodeState, "nothing is published yet: {early}");
        assert_eq!(a.agent.migrate().await.unwrap().published.len(), 2);
        let ledger = a.connect().await;
        write(&ledger, 0).await;
        for node in [&mt, &de] {
            assert_eq!(subscribe(node, &[]).await, SubscriptionAction::Created);
            assert_eq!(subscribe(node, &[]).await, SubscriptionAction::Unchanged);
        }
        write(&ledger, 1).await;
        let (mt_rows, de_rows) = (mt.connect().await, de.connect().await);
        until("MT has its rows", async || rows(&mt_rows).await == own("MT", 1)).await;
        until("DE has its rows", async || rows(&de_rows).await == own("DE", 1)).await;
        let seen = mt.status_until("the reader shows its log", |status| {
            status.log.values().any(|log| log.size == 2)
                && status.subscriptions.iter().all(|sub| sub.enabled && sub.tables_ready)
        });
        assert_eq!(seen.await.log.len(), 1, "of its own jurisdiction only");

        open_epoch(&a, 1).await;
        b.status_until("the standby's slots are ready", |status| {
            status.slots.len() == 2 && status.slots.iter().all(|slot| slot.ready)
        })
        .await;
        hand_over(&cluster, &a, &b).await;

        let ledger = b.connect().await;
        write(&ledger, 2).await;
        until("MT follows the new writer", async || rows(&mt_rows).await == own("MT", 2)).await;
        until("DE follows the new writer", async || rows(&de_rows).await == own("DE", 2)).await;

        // A reader whose slot is gone says so, and copies anew only when asked.
        lose_slot(&mt, &ledger).await;
        write(&ledger, 3).await;
        assert_eq!(subscribe(&mt, &[]).await, SubscriptionAction::NeedsReseed);
        assert_eq!(rows(&mt_rows).await, own("MT", 2), "nothing is deleted unasked");
        assert_eq!(subscribe(&mt, &["MT"]).await, SubscriptionAction::Reseeded);
        until("MT has its rows again", async || rows(&mt_rows).await == own("MT", 3)).await;

        // The old primary comes back as a standby of the new one, under a new joining.
        rejoin(&cluster, &a, &b).await;
    });
}

async fn open_epoch(node: &Node, epoch: u64) {
    let request = EpochOpenRequest { epoch: Epoch(epoch) };
    assert!(node.agent.open_epoch(&request).await.unwrap().opened);
    assert!(!node.agent.open_epoch(&request).await.unwrap().opened, "a second time it is open");
    let other = EpochOpenRequest { epoch: Epoch(epoch + 1) };
    let refused = node.agent.open_epoch(&other).await.unwrap_err();
    assert_eq!(refused.code(), Code::WriterNotNamed, "{refused}");
    assert!(writer_gets_in(node).await);
    node.status_until("the status shows the epoch", |s| s.epoch_open == Some(Epoch(epoch))).await;
}

// What a plan does, by hand: stop the old primary, name the standby, promote it.
async fn hand_over(cluster: &Cluster, a: &Node, b: &Node) {
    assert!(a.agent.stop(&StopRequest::default()).await.unwrap().clean);
    // In a plan's order: an agent stops a primary that the record does not name.
    cluster.control.name("ledger-b", 2, None);
    b.connect().await.query("select pg_promote()", &[]).await.unwrap();
    b.status_until("it is primary", |s| s.postgres.state == PostgresState::Primary).await;
    let closed = EpochOpenRequest { epoch: Epoch(2) };
    let refused = b.agent.open_epoch(&closed).await.unwrap_err();
    assert_eq!(refused.code(), Code::NodeState, "commits still wait for nobody's name: {refused}");
    b.agent.sync(&SyncRequest { member: None }).await.unwrap();
    open_epoch(b, 2).await;
}

async fn rejoin(cluster: &Cluster, a: &Node, b: &Node) {
    let source_node = "ledger-b".parse().unwrap();
    let mut request = CloneRequest { source_node, discard_existing: false };
    let kept = a.agent.copy_from(&request).await.unwrap_err();
    assert_eq!(kept.code(), Code::NodeState, "data is not discarded unasked: {kept}");
    request.discard_existing = true;
    cluster.control.set(Authority::Away(None));
    let kept = a.agent.copy_from(&request).await.unwrap_err();
    assert_eq!(kept.code(), Code::ControlUnavailable, "nor without the record's word: {kept}");
    cluster.control.name("ledger-b", 2, None);
    let member = a.agent.copy_from(&request).await.unwrap().member;
    b.agent.sync(&SyncRequest { member: Some(member.clone()) }).await.unwrap();
    cluster.control.name("ledger-b", 2, Some(&member));
    b.status_until("writes succeed in two regions", |status| {
        status.standby(&member).is_some_and(StandbyStatus::is_synchronous)
            && status.probe.is_some_and(|probe| probe.ok)
    })
    .await;
}

async fn lose_slot(reader: &Node, ledger: &Connection) {
    let local = reader.connect().await;
    local.batch_execute("alter subscription sub_reader_mt_mt disable").await.unwrap();
    let free = "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
                where slot_name = 'sub_reader_mt_mt' and not active";
    until("the slot is dropped", async || ledger.query(free, &[]).await.unwrap().len() == 1).await;
}
