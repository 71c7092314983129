//! Former primaries on real Postgres: they yield, their tails are kept, and they come back as standbys by themselves.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use domicile_core::epoch::Epoch;
use domicile_core::ids::NodeId;
use domicile_postgres::Connection;
use domicile_topology::Record;
use domicile_topology::agent_api::{
    OrphanTail, PromoteRequest, Rejoined, StopRequest, SyncRequest,
};
use domicile_topology::document::Durability;
use domicile_topology::observed::PostgresState;
use domicile_topology::record::Beginning;
use rustix::process::{Signal, kill_process};

use crate::cluster::{Cluster, Node, run};
use crate::moves::{open, ready_pair};

const BOTH: &str = "00000000-0000-0000-0000-000000000001";
const SETTLED: &str = "00000000-0000-0000-0000-000000000002";
const LOST: &str = "00000000-0000-0000-0000-000000000003";

async fn round(ledger: &Connection, id: &str) {
    let insert = format!(
        "insert into ledger.round (jurisdiction, id, kind, operator_id, game, params, currency, commitment, state, opened_at)
         values ('MT', '{id}', 'round', 'acme', 'wheel', 'p', 'EUR', sha256('c'), 'open', now())"
    );
    ledger.batch_execute(&insert).await.unwrap();
}

async fn bet(ledger: &Connection, round: &str, stake_micro: u32) {
    let insert = format!(
        "insert into ledger.bet (jurisdiction, id, round_id, session_id, operator_id, player_ref, currency, stake_micro,
           selection, client_seed, record, salt, record_commitment, checkpoint_size, receipt, placed_at)
         values ('MT', gen_random_uuid(), '{round}', gen_random_uuid(), 'acme', 'p', 'EUR', {stake_micro},
           's', sha256('a'), 'r', sha256('b'), sha256('c'), 1, 'r', now())"
    );
    ledger.batch_execute(&insert).await.unwrap();
}

async fn session(ledger: &Connection) {
    let insert = "insert into ledger.session (jurisdiction, id, operator_id, player_ref, game, currency, expires_at)
         values ('MT', gen_random_uuid(), 'acme', 'p', 'wheel', 'EUR', now())";
    ledger.batch_execute(insert).await.unwrap();
}

async fn settle(ledger: &Connection, round: &str) {
    let update = format!(
        "update ledger.round set state = 'settled', outcome = 'o', ended_at = now() where id = '{round}'"
    );
    ledger.batch_execute(&update).await.unwrap();
}

/// The record after a forced failover to this node.
fn forced(cluster: &Cluster, to: &str, epoch: u64) {
    cluster.control.put(Record {
        epoch: Epoch(epoch),
        writer_node: NodeId::parse(to).unwrap(),
        beginning: Beginning::Forced,
        durability: Durability::One,
        sync_member: None,
        promotable: false,
        ..cluster.control.record()
    });
}

fn inode(node: &Node) -> u64 {
    node.data_dir.metadata().unwrap().ino()
}

fn summary(tail: &OrphanTail) -> Vec<(String, &str, u32, u64)> {
    let rounds = tail.rounds.iter();
    rounds.map(|r| (r.id.to_string(), r.state.as_str(), r.bets, r.stake_micro)).collect()
}

// What `a` writes after `b` is gone is in one place only.
async fn write_alone(cluster: &Cluster, a: &Node, b: &Node) {
    let ledger = a.connect().await;
    for id in [BOTH, SETTLED] {
        round(&ledger, id).await;
        bet(&ledger, id, 5).await;
    }
    // Until it is let in again, nobody can compare what is not published.
    let shut = "revoke connect on database domicile from domicile_rewind";
    ledger.batch_execute(shut).await.unwrap();
    cluster.control.name("ledger-a", 1, None);
    a.agent.sync(&SyncRequest { member: None }).await.unwrap();
    b.agent.stop(&StopRequest::default()).await.unwrap();
    settle(&ledger, SETTLED).await;
    session(&ledger).await;
    round(&ledger, LOST).await;
    bet(&ledger, LOST, 7).await;
    bet(&ledger, LOST, 8).await;
}

#[test]
fn a_killed_primary_keeps_its_tail_and_comes_back() {
    run("returns::a_killed_primary_keeps_its_tail_and_comes_back", async {
        let cluster = Cluster::new(22_480);
        let (a, b, _) = ready_pair(&cluster).await;
        write_alone(&cluster, &a, &b).await;
        let before = inode(&a);

        forced(&cluster, "ledger-b", 2);
        kill_process(a.postmaster().unwrap(), Signal::KILL).unwrap();
        b.agent.start().await.unwrap();
        a.status_until("it says why it is not back", |status| {
            status.postgres.refusal.as_ref().is_some_and(|why| why.contains("not primary yet"))
        })
        .await;
        b.agent.promote(&PromoteRequest { epoch: Epoch(2) }).await.unwrap();
        open(&b, 2).await;
        settle(&b.connect().await, BOTH).await;
        a.status_until("it does not come back without the whole comparison", |status| {
            status.postgres.refusal.as_ref().is_some_and(|why| why.contains("for a comparison"))
        })
        .await;
        let open = "grant connect on database domicile to domicile_rewind";
        b.connect().await.batch_execute(open).await.unwrap();

        let back = a
            .status_until("it is back without being asked", |status| {
                status.postgres.state == PostgresState::Standby
                    && status.postgres.receiving == Some(true)
            })
            .await;
        assert_eq!(back.postgres.timeline, Some(2));
        assert_eq!(inode(&a), before, "rewound, not copied");
        assert_eq!(a.agent.rejoin().await.unwrap().how, Rejoined::Unchanged);

        let tails = a.agent.orphans().unwrap().tails;
        let [tail] = tails.as_slice() else { panic!("{tails:?}") };
        let expected = [(SETTLED.to_owned(), "settled", 0, 0), (LOST.to_owned(), "open", 2, 15)];
        assert_eq!(
            summary(tail),
            expected,
            "what both have, or the new one has later, is no orphan"
        );
        assert_eq!((tail.epoch, tail.rounds[1].operator.as_str()), (Epoch(1), "acme"));
        let file = std::fs::metadata(&tail.file).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let kept = std::fs::read_to_string(&tail.file).unwrap();
        let bets = kept.lines().filter(|line| line.contains(r#""table":"ledger.bet""#));
        assert_eq!((bets.count(), tail.rows["ledger.bet"]), (2, 2));
        assert_eq!(tail.rows["ledger.session"], 1, "what is not published is compared too");
        assert!(tail.uncompared.is_empty(), "{tail:?}");

        // A rewind that was begun and not finished is never repeated.
        unfinished_rewind(&cluster, a, &b).await;
    });
}

async fn unfinished_rewind(cluster: &Cluster, a: Node, b: &Node) {
    let (before, memory) = (inode(&a), a.data_dir.with_file_name("postgres").join("memory.json"));
    a.abandon();
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(a);
    let text = std::fs::read_to_string(&memory).unwrap();
    let mut remembered: serde_json::Value = serde_json::from_str(&text).unwrap();
    remembered.as_object_mut().unwrap().insert("returning".to_owned(), "rewinding".into());
    std::fs::write(&memory, remembered.to_string()).unwrap();

    let a = cluster.node("ledger-a", "a", 0);
    let back = a.status_until("it is a copy", |status| status.postgres.receiving == Some(true));
    let member = back.await.postgres.member.unwrap();
    assert_ne!(inode(&a), before, "copied anew");
    b.agent.sync(&SyncRequest { member: Some(member) }).await.unwrap();
}

#[test]
fn a_primary_that_another_replaced_yields_and_comes_back() {
    run("returns::a_primary_that_another_replaced_yields_and_comes_back", async {
        let cluster = Cluster::new(22_540);
        let (a, b, member) = ready_pair(&cluster).await;
        let record = cluster.control.record();
        cluster.control.put(Record { promotable: true, ..record.clone() });
        // Its own stopped process must not keep it from yielding.
        let sender = "select pid from pg_stat_replication where state = 'streaming'";
        let sender = a.connect().await.query_one(sender, &[]).await.unwrap();
        let sender = rustix::process::Pid::from_raw(sender.get(0)).unwrap();
        kill_process(sender, Signal::STOP).unwrap();
        cluster.control.put(Record {
            epoch: Epoch(2),
            writer_node: member.node.clone(),
            beginning: Beginning::Failover,
            durability: Durability::One,
            sync_member: None,
            ..record
        });
        b.agent.promote(&PromoteRequest { epoch: Epoch(2) }).await.unwrap();
        open(&b, 2).await;
        let back = a.status_until("it is back", |s| s.postgres.receiving == Some(true)).await;
        assert!(a.agent.orphans().unwrap().tails.is_empty(), "nothing was written alone");
        let member = back.postgres.member.unwrap();
        b.agent.sync(&SyncRequest { member: Some(member.clone()) }).await.unwrap();
        cluster.control.name("ledger-b", 2, Some(&member));
        b.status_until("writes succeed in two regions", |s| s.probe.is_some_and(|p| p.ok)).await;
    });
}
