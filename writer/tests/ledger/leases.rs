//! One copy: the lease, and the checkpoint that waits for a reader elsewhere.

use crate::bench::{Bench, CONFIRMER, record, region};
use crate::callers::Player;
use crate::etcd::{Cluster, eventually, soon, until};
use domicile_control::{ControlClient, Leases, Record, Watch};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use domicile_service::clock::SystemClock;
use domicile_topology::document::Durability;
use domicile_topology::lease::{TTL_S, WriterLease};
use domicile_topology::record::Beginning;
use domicile_writer::lease::{Keeper, Standing};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A writer that keeps its lease at a real control plane, and a player whose commitment is covered.
struct Kept {
    etcd: Cluster,
    control: ControlClient,
    leases: Leases,
    record: Watch<Record>,
    bench: Bench,
    player: Player,
    order: Value,
    _stop: watch::Sender<bool>,
}

impl Kept {
    async fn new() -> Self {
        let etcd = Cluster::start(1);
        let control = etcd.client().await;
        control.create_record(&record()).await.unwrap();
        let seen = control.watch_record();
        soon(async { while !seen.wait_heard(Duration::from_secs(1)).await {} }).await;
        let clock = Arc::new(SystemClock);
        let standing = Arc::new(Standing::new(seen.receiver(), region(), clock));
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper {
            leases: Leases::new(&control),
            record: seen.clone(),
            standing: Arc::clone(&standing),
            node: NodeId::parse("writer-mt").unwrap(),
        };
        tokio::spawn(keeper.run(stopped));
        let bench = Bench::under(standing).await;
        let operator = bench.operator("acme").await;
        let player = operator.session(&bench, "p1", "MT", "hilo-dice").await;
        let order = Player::order(&player.get(&bench).await.expect(200), 1_000_000);
        let leases = Leases::new(&control);
        let kept = Self { etcd, control, leases, record: seen, bench, player, order, _stop: stop };
        kept.lease_is(1, false).await;
        kept
    }

    async fn change(&self, change: impl FnOnce(&mut Record)) {
        let present = self.control.record().await.unwrap().unwrap();
        let mut next = present.value;
        change(&mut next);
        self.control.compare_and_set_record(&next, present.revision).await.unwrap();
        until(&self.record, |known| *known == next).await;
    }

    async fn lease_is(&self, epoch: u64, enforcing: bool) {
        let wanted = WriterLease {
            node: NodeId::parse("writer-mt").unwrap(),
            region: region(),
            epoch: Epoch(epoch),
            enforcing,
        };
        let is_there = async || self.leases.list().await.unwrap() == [wanted.clone()];
        eventually("the lease is as wanted", is_there).await;
    }

    /// Plays once under a key of its own; whether it was acknowledged.
    async fn plays(&self, key: &str) -> bool {
        let answer = self.player.post(&self.bench, "/v1/plays", key, &self.order).await;
        match (answer.status, answer.code().as_str()) {
            (201, _) => true,
            (503, "not-writer") | (504, "outcome-unknown") => false,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_cut_off_writer_with_one_copy_stops_answering_within_its_lease() {
    let mut kept = Kept::new().await;
    kept.change(|record| record.durability = Durability::One).await;
    kept.lease_is(1, true).await;
    assert!(kept.plays("leased").await, "the engine went on when the durability changed");
    kept.etcd.kill_member(0);
    let cut = Instant::now();
    let (mut answered, mut key) = (Duration::ZERO, 0);
    while cut.elapsed() < Duration::from_secs(5) {
        key += 1;
        if kept.plays(&format!("cut-{key}")).await {
            answered = cut.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ttl = Duration::from_secs(u64::try_from(TTL_S).unwrap());
    assert!(answered > Duration::ZERO, "the lease was still running");
    assert!(answered < ttl, "answered {answered:?} after it was cut off");
    kept.etcd.start_member(0);
    eventually("it answers under a new lease", async || kept.plays("back").await).await;
}

#[tokio::test]
async fn a_writer_that_the_record_no_longer_names_tells_nothing_and_gives_its_lease_back() {
    let kept = Kept::new().await;
    kept.change(|record| record.durability = Durability::One).await;
    kept.lease_is(1, true).await;
    assert!(kept.plays("named").await);
    let begun = Instant::now();
    kept.change(|record| {
        record.epoch = Epoch(2);
        record.writer_region = RegionId::parse("de-1").unwrap();
        record.writer_node = NodeId::parse("ledger-de").unwrap();
        record.sync_member = None;
        record.beginning = Beginning::Forced;
    })
    .await;
    assert!(!kept.plays("named").await, "a replay tells something, too");
    let gone = async || kept.leases.list().await.unwrap().is_empty();
    eventually("the lease is given back", gone).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "it ran out instead");
}

#[tokio::test]
async fn with_one_copy_a_checkpoint_waits_for_a_reader_in_another_region() {
    let kept = Kept::new().await;
    let mt = crate::bench::j("MT");
    let size = || kept.bench.engine.log.latest(&mt).map_or(0, |checkpoint| checkpoint.size);
    let is_unconfirmed = || kept.bench.engine.log.is_unconfirmed(&mt);
    kept.change(|record| record.durability = Durability::One).await;
    kept.lease_is(1, true).await;
    let before = size();
    assert!(kept.plays("first").await);
    eventually("the checkpoint waits", async || is_unconfirmed()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(size(), before, "nobody elsewhere has the leaf");
    let slot =
        format!("SELECT pg_create_logical_replication_slot('{CONFIRMER}', 'pgoutput', false)");
    kept.bench.admin.query(&slot, &[]).await.unwrap();
    eventually("a reader has it", async || size() > before && !is_unconfirmed()).await;

    let before = size();
    assert!(kept.plays("second").await);
    eventually("the next one waits as well", async || is_unconfirmed()).await;
    assert_eq!(size(), before, "the reader has not confirmed this one");
    let advance =
        format!("SELECT pg_replication_slot_advance('{CONFIRMER}', pg_current_wal_flush_lsn())");
    kept.bench.admin.query(&advance, &[]).await.unwrap();
    eventually("the reader has it", async || size() > before).await;

    let before = size();
    assert!(kept.plays("third").await);
    eventually("it waits again", async || is_unconfirmed()).await;
    kept.change(|record| {
        record.durability = Durability::Two;
        record.sync_member = self::record().sync_member;
    })
    .await;
    eventually("two copies need no reader", async || size() > before && !is_unconfirmed()).await;
}
