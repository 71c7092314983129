//! The log gate's evidence, from the writer's own listener.

use crate::bench::Bench;
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
