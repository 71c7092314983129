//! The log gate's evidence, from the writer's own listener.

use crate::bench::Bench;
use crate::etcd::eventually;
use domicile_service::peer::Role;

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
