//! The HTTP interface over mutual TLS: who gets in, and what an answer looks like.

use domicile_service::client::{ClientError, ClientLimits, HttpClient};
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::peer::Role;
use domicile_service::testing::TestCa;
use domicile_topology::agent_api::{StartAnswer, StartRequest, paths};
use domicile_topology::observed::{NodeStatus, PostgresState};
use serde_json::json;

use crate::cluster::{Cluster, run};

fn code(error: &ClientError) -> &str {
    error.problem().map_or("no problem document", |problem| problem.code.as_str())
}

#[test]
fn operators_tools_get_in_and_answers_carry_codes() {
    run("api::operators_tools_get_in_and_answers_carry_codes", async {
        let cluster = Cluster::new(22_300);
        let node = cluster.node("ledger-a", "a", 0);
        let ca = TestCa::new();
        let tls = ca.server(Role::Agent, "ledger-a");
        let addr = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(addr, Some(tls), ListenerLimits::default()).await.unwrap();
        let url = format!("https://{}", listener.local_addr());
        let drain = Drain::new(DrainLimits::default());
        let app = domicile_service::request::app(domicile_agent::api::routes(&node.agent));
        tokio::spawn(async move { listener.serve_app(app, &drain).await });
        let client = |role, node| HttpClient::new(&ca.client(role, node), ClientLimits::default());

        let ctl = client(Role::Ctl, "ctl");
        let status: NodeStatus = ctl.get_json(&format!("{url}{}", paths::STATUS)).await.unwrap();
        assert_eq!(status.postgres.state, PostgresState::Absent);
        let start = format!("{url}{}", paths::START);
        let refused = ctl.post_json::<StartAnswer>(&start, &StartRequest {}).await.unwrap_err();
        assert_eq!(code(&refused), "node-state", "{refused}");
        let stop = format!("{url}{}", paths::STOP);
        for body in [json!({ "mode": "smart" }), json!({ "mode": "fast", "force": true })] {
            let refused = ctl.post_json::<StartAnswer>(&stop, &body).await.unwrap_err();
            assert_eq!(code(&refused), "malformed-body", "{refused}");
        }

        for role in [Role::Router, Role::Writer, Role::Reader] {
            let other = client(role, "other");
            let refused =
                other.post_json::<StartAnswer>(&start, &StartRequest {}).await.unwrap_err();
            assert_eq!(code(&refused), "peer-forbidden", "{refused}");
        }
    });
}
