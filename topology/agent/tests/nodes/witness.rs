//! What a node sees of another: its agent over mutual TLS, its stream by its own clock.

use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::peer::Role;
use domicile_topology::agent_api::{
    AliveAnswer, ObserveAnswer, ObserveRequest, StopRequest, paths,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Duration, Instant, sleep};

use crate::cluster::{Cluster, Node, run, until};
use crate::ledger::pair;

/// Serves the node's interface where the topology says.
async fn serve(cluster: &Cluster, node: &Node, port_offset: u16) -> Drain {
    let tls = cluster.ca.server(Role::Agent, node.name.as_str());
    let addr = format!("127.0.0.1:{}", cluster.first_port + port_offset).parse().unwrap();
    let listener = Listener::bind(addr, Some(tls), ListenerLimits::default()).await.unwrap();
    let drain = Drain::new(DrainLimits { grace_ms: 0, wait_ms: 0 });
    let app = domicile_service::request::app(domicile_agent::api::routes(&node.agent));
    let ends = drain.clone();
    tokio::spawn(async move { listener.serve_app(app, &ends).await });
    drain
}

/// The server's other processes.
fn children(postmaster: Pid) -> Vec<Pid> {
    let file = format!("/proc/{0}/task/{0}/children", postmaster.as_raw_nonzero());
    let text = std::fs::read_to_string(file).unwrap();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

#[test]
fn a_stream_and_an_agent_are_judged_apart() {
    run("witness::a_stream_and_an_agent_are_judged_apart", async {
        let cluster = Cluster::new(22_600);
        let (a, b, _) = pair(&cluster).await;
        let looks = async |node: &Node| {
            let request = ObserveRequest { node: "ledger-a".parse().unwrap() };
            node.agent.observe_node(&request).await.unwrap()
        };
        let sees = async |node: &Node| ObserveAnswer { quiet_ms: None, ..looks(node).await };
        let expect = |agent_reachable, stream_alive| ObserveAnswer {
            agent_reachable,
            stream_alive,
            quiet_ms: None,
        };
        until("the idle stream is alive", async || sees(&b).await == expect(false, Some(true)))
            .await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            let silence_ms = b.agent.status().await.postgres.silence_ms.unwrap();
            assert!(silence_ms < 1_000, "an idle primary beats: {silence_ms} ms");
            sleep(Duration::from_millis(50)).await;
        }

        let serving = serve(&cluster, &a, 26).await;
        assert_eq!(sees(&b).await, expect(true, Some(true)));
        let quiet_ms = looks(&b).await.quiet_ms.unwrap();
        assert!(quiet_ms < 3_000, "it beats: {quiet_ms} ms");
        assert_eq!(sees(&a).await, expect(true, None), "it does not follow itself");
        let ctl = HttpClient::new(&cluster.ca.client(Role::Ctl, "ctl"), ClientLimits::default());
        let url = format!("https://127.0.0.1:{}{}", cluster.first_port + 26, paths::ALIVE);
        assert_eq!(ctl.get_json::<AliveAnswer>(&url).await.unwrap().node, a.name);

        let sender = "select pid from pg_stat_replication where state = 'streaming'";
        let sender = a.connect().await.query_one(sender, &[]).await.unwrap();
        let sender = Pid::from_raw(sender.get(0)).unwrap();
        kill_process(sender, Signal::STOP).unwrap();
        until("the stream is silent", async || sees(&b).await == expect(true, Some(false))).await;
        kill_process(sender, Signal::CONT).unwrap();
        until("the stream is alive again", async || sees(&b).await == expect(true, Some(true)))
            .await;

        let postmaster = a.postmaster().unwrap();
        let children = children(postmaster);
        for pid in children.iter().chain([&postmaster]) {
            kill_process(*pid, Signal::STOP).unwrap();
        }
        until("its agent says that it hangs", async || {
            looks(&b).await.quiet_ms.is_some_and(|quiet_ms| quiet_ms >= 3_000)
        })
        .await;
        a.agent.stop(&StopRequest::default()).await.unwrap();
        let dead = |pid: &Pid| {
            !std::path::Path::new("/proc").join(pid.as_raw_nonzero().to_string()).exists()
        };
        until("nothing of the frozen server is left", async || children.iter().all(dead)).await;
        assert_eq!(looks(&b).await.quiet_ms, None, "it is not wanted any more");
        a.agent.start().await.unwrap();
        until("it beats again", async || sees(&b).await == expect(true, Some(true))).await;

        serving.begin("the agent ends");
        until("nobody answers", async || !sees(&b).await.agent_reachable).await;
        kill_process(a.postmaster().unwrap(), Signal::QUIT).unwrap();
    });
}
