//! The log gate over a real ledger: whom it waits for, and the evidence it leaves behind.

use crate::bench::{Bench, j, open_epoch};
use crate::etcd::{Cluster, eventually, soon};
use axum::Router;
use axum::routing::get;
use domicile_control::Pins;
use domicile_core::base64;
use domicile_core::checkpoint::{Checkpoint, Origin};
use domicile_core::epoch::Epoch;
use domicile_core::hex;
use domicile_core::log::proof::verify_consistency;
use domicile_core::note::SigningKey;
use domicile_service::peer::Role;
use domicile_topology::pin::Pin;
use domicile_topology::record::Beginning;
use domicile_writer::log::{Holders, LogState};

#[tokio::test]
async fn each_log_tells_its_state_and_what_its_gate_left_behind() {
    let bench = Bench::new().await;
    let path = "/internal/v1/log-gate";
    let told = bench.send(Role::Ctl, "GET", path, &[], b"").await.expect(200);
    assert_eq!(told["epoch"], 1);
    let logs = told["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 2);
    for log in logs {
        assert_eq!((&log["state"], &log["unconfirmed"]), (&"live".into(), &false.into()));
        let evidence = &log["evidence"];
        assert_eq!(evidence["beginning"], "first");
        assert_eq!(evidence["size"], 0, "a fresh log");
        assert!(evidence["checkpoint"].is_null(), "nothing to sign yet");
    }
    let refused = bench.send(Role::Router, "GET", path, &[], b"").await;
    assert_ne!(refused.status, 200, "it is not for routers");
}

#[tokio::test]
async fn leaves_are_sequenced_in_the_order_they_were_written_in() {
    let bench = Bench::new().await;
    let id = |digit: &str| format!("'{}'::uuid", digit.repeat(32));
    // The second writer's clock is behind: its ids sort before those of the first.
    let written = format!(
        "INSERT INTO log.pending (jurisdiction, id, subject, kind, entry) VALUES \
         ('MT', {f}, {f}, 'play', 'first'), ('MT', {a}, {a}, 'play', 'second')",
        f = id("f"),
        a = id("a"),
    );
    bench.admin.batch_execute(&written).await.unwrap();
    let leaves = "SELECT convert_from(entry, 'UTF8') FROM log.leaf ORDER BY idx";
    eventually("both are sequenced", async || {
        bench.count("SELECT count(*) FROM log.leaf").await == 2
    })
    .await;
    let rows = bench.admin.query(leaves, &[]).await.unwrap();
    let order: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(order, ["first", "second"]);
}

/// Serves a checkpoint as a reader would.
async fn holder(note: String) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", get(move || std::future::ready(note.clone())));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}/")
}

/// A ledger with an MT log of two leaves, and the checkpoint of the first.
async fn two_leaves() -> (Bench, String) {
    let mut bench = Bench::new().await;
    let operator = bench.operator("acme").await;
    for (player, leaves) in [("p1", 1), ("p2", 2)] {
        operator.session(&bench, player, "MT", "hilo-dice").await.get(&bench).await.expect(200);
        let held = "SELECT coalesce(max(size), 0) FROM log.checkpoint WHERE jurisdiction = 'MT'";
        assert_eq!(bench.count(held).await, leaves);
    }
    bench.stop_logs().await;
    let note = "SELECT note FROM log.checkpoint WHERE jurisdiction = 'MT' AND size = 1";
    let note = bench.admin.query(note, &[]).await.unwrap()[0].get(0);
    (bench, note)
}

#[tokio::test]
async fn after_a_switchover_one_holder_opens_the_gate_and_the_proof_is_kept() {
    let (bench, note) = two_leaves().await;
    open_epoch(&bench.admin, 2).await;
    let dead = "http://127.0.0.1:9/".to_owned();
    let holders = [("reader-mt", holder(note.clone()).await), ("reader-dead", dead)];
    let (log, tasks) = bench.log_of_epoch((2, Beginning::Switchover), &holders, &[]);
    soon(log.settled()).await;
    assert_eq!(log.state(&j("MT")), LogState::Live);
    let first = async || log.evidence(&j("MT")).is_some_and(|kept| kept.checkpoint.is_some());
    eventually("the first checkpoint is kept", first).await;
    let kept = log.evidence(&j("MT")).unwrap();
    assert!(kept.missing.iter().eq(["reader-dead"]));
    let opened = Checkpoint::open(kept.checkpoint.as_deref().unwrap(), &bench.keys).unwrap();
    assert_eq!((opened.size, hex::encode(&opened.root)), (2, kept.root.clone()));
    let before = Checkpoint::open(&note, &bench.keys).unwrap();
    let [held] = kept.holders.as_slice() else { panic!("one holder") };
    assert_eq!((held.size, held.root.clone()), (1, hex::encode(&before.root)));
    let proof: Vec<_> =
        held.consistency.iter().map(|hash| base64::decode_32(hash).unwrap()).collect();
    verify_consistency(before.size, opened.size, &before.root, &opened.root, &proof).unwrap();
    tasks.stop().await;
}

#[tokio::test]
async fn after_a_forced_failover_the_jurisdiction_waits_for_every_holder_that_nobody_waived() {
    let (bench, note) = two_leaves().await;
    open_epoch(&bench.admin, 2).await;
    let dead = "http://127.0.0.1:9/".to_owned();
    let holders = [("reader-mt", holder(note).await), ("reader-dead", dead)];
    for again in ["at first", "after a restart"] {
        let (log, tasks) = bench.log_of_epoch((2, Beginning::Forced), &holders, &[]);
        soon(log.settled()).await;
        let LogState::Suspended { reason } = log.state(&j("MT")) else { panic!("{again}") };
        assert!(reason.contains("reader-dead") && !reason.contains("reader-mt"), "{reason}");
        tasks.stop().await;
    }
    let (log, tasks) = bench.log_of_epoch((2, Beginning::Forced), &holders, &["reader-dead"]);
    soon(log.settled()).await;
    assert_eq!(log.state(&j("MT")), LogState::Live);
    tasks.stop().await;
}

#[tokio::test]
async fn a_pinned_checkpoint_counts_and_only_a_forced_failover_waits_for_it() {
    let (bench, note) = two_leaves().await;
    let mut etcd = Cluster::start(1);
    let pins = Pins::new(&etcd.client().await);
    let pin = Pin { epoch: Epoch(1), checkpoint: Some(note), uncovered: Vec::new(), unnamed: 0 };
    let first = pins.replace(None, pin.clone()).await.unwrap().expect("the first");
    assert_eq!(pins.replace(None, pin.clone()).await.unwrap(), None, "it was not seen");
    open_epoch(&bench.admin, 2).await;
    let held = || Holders::pinned(&bench.holders_client(), pins.clone());
    let (log, tasks) = bench.log_held_by((2, Beginning::Forced), held(), &[]);
    soon(log.settled()).await;
    let kept = log.evidence(&j("MT")).unwrap();
    assert_eq!((kept.holders.len(), kept.holders[0].size), (1, 1), "its checkpoint is extended");
    tasks.stop().await;

    // The same log, of which a longer history was published.
    let key = std::fs::read_to_string(bench.ca.folder().join("log-MT.key")).unwrap();
    let signer = SigningKey::from_text(key.trim()).unwrap();
    let origin = Origin::parse("demo/MT/1").unwrap();
    let longer = Checkpoint { origin, size: 3, root: [7; 32] }.sign(&signer).unwrap();
    let pin = Pin { checkpoint: Some(longer), ..pin };
    pins.replace(Some(&first), pin).await.unwrap().expect("it was seen");
    open_epoch(&bench.admin, 3).await;
    let (log, tasks) = bench.log_held_by((3, Beginning::Failover), held(), &[]);
    soon(log.settled()).await;
    let LogState::Suspended { reason } = log.state(&j("MT")) else { panic!("it signs") };
    assert!(reason.contains("the control plane holds 3 leaves"), "{reason}");
    tasks.stop().await;

    etcd.kill_member(0);
    open_epoch(&bench.admin, 4).await;
    let (log, tasks) = bench.log_held_by((4, Beginning::Failover), held(), &[]);
    soon(log.settled()).await;
    assert_eq!(log.state(&j("MT")), LogState::Live, "a move that lost nothing goes on without it");
    tasks.stop().await;
    open_epoch(&bench.admin, 5).await;
    let (log, tasks) = bench.log_held_by((5, Beginning::Forced), held(), &[]);
    soon(log.settled()).await;
    let LogState::Suspended { reason } = log.state(&j("MT")) else { panic!("it signs") };
    assert!(reason.contains("the control plane"), "{reason}");
    tasks.stop().await;
}
