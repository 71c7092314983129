//! Watches: through restarts, lost connections and compaction, and from disk while etcd is away.

use crate::cluster::{Cluster, eventually, record, soon, topology, until};
use domicile_control::etcd::Etcd;
use domicile_control::{ControlClient, ControlConfig, Error, Known, Record};
use prost::Message;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_survives_a_restart_of_etcd() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client().await;
    let mut watch = client.watch_topology();
    assert!(watch.wait_heard(Duration::from_secs(5)).await);
    assert!(watch.known().is_none());
    client.publish_topology(&topology(1)).await.unwrap();
    assert!(soon(watch.changed()).await);
    assert_eq!(watch.value().as_deref(), Some(&topology(1)));

    cluster.kill_member(0);
    eventually("the watch grows stale", async || {
        watch.staleness().unwrap() > Duration::from_secs(2)
    })
    .await;
    assert_eq!(watch.value().unwrap().generation, 1);
    cluster.start_member(0);
    eventually("etcd is back", async || client.publish_topology(&topology(2)).await.is_ok()).await;
    until(&watch, |known| known.generation == 2).await;
    eventually("the watch is fresh", async || {
        watch.staleness().unwrap() < Duration::from_millis(1_500)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_from_disk_while_etcd_is_away() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client().await;
    client.publish_topology(&topology(1)).await.unwrap();
    client.create_record(&record(1)).await.unwrap();
    {
        let (topologies, records) = (client.watch_topology(), client.watch_record());
        until(&topologies, |known| known.generation == 1).await;
        until(&records, |known| *known == record(1)).await;
    }
    cluster.kill_member(0);

    let started = ControlClient::new(&cluster.config(&[0]));
    let (topologies, records) = (started.watch_topology(), started.watch_record());
    let Known { value, revision } = topologies.known().unwrap();
    assert_eq!((*value == topology(1), revision), (true, None));
    assert_eq!(records.wait_known(Duration::ZERO).await.as_deref(), Some(&record(1)));
    assert!(!records.wait_heard(Duration::from_secs(3)).await);
    assert_eq!(records.staleness(), None);

    cluster.start_member(0);
    eventually("etcd confirms what was kept", async || {
        topologies.known().unwrap().revision.is_some()
    })
    .await;
    client.publish_topology(&topology(2)).await.unwrap();
    until(&topologies, |known| known.generation == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_takes_the_last_known_value_away() {
    let cluster = Cluster::start(1);
    let client = cluster.client().await;
    client.publish_topology(&topology(2)).await.unwrap();
    client.create_record(&record(1)).await.unwrap();
    let (topologies, records) = (client.watch_topology(), client.watch_record());
    until(&topologies, |known| known.generation == 2).await;
    until(&records, |known| *known == record(1)).await;

    let etcd = client.etcd();
    let (topology_key, record_key) = (client.key("topology"), client.key("record"));
    let put = async |key: &str, value: Vec<u8>| etcd.put(key, value, None).await.unwrap();
    let json = |record: &Record| serde_json::to_vec(record).unwrap();
    put(&topology_key, topology(1).to_json().unwrap()).await;
    put(&topology_key, b"not json".to_vec()).await;
    etcd.delete(&topology_key).await.unwrap();
    put(&record_key, json(&Record { promotable: true, ..record(9) })).await;
    put(&record_key, json(&record(3))).await;
    until(&records, |known| *known == record(3)).await;
    put(&record_key, json(&record(2))).await;
    etcd.delete(&record_key).await.unwrap();
    put(&topology_key, topology(3).to_json().unwrap()).await;
    until(&topologies, |known| known.generation == 3).await;
    // All of the above lies before this in etcd's history.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(records.value().as_deref(), Some(&record(3)));

    // A restart does not bring an older value back either: the disk has what was last in force.
    let restarted = ControlClient::new(&cluster.config(&[0]));
    assert_eq!(restarted.watch_record().value().as_deref(), Some(&record(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_and_a_compaction_lose_no_change() {
    let cluster = Cluster::start(1);
    let direct = cluster.client().await;
    direct.publish_topology(&topology(1)).await.unwrap();
    let line = Line::open(cluster.ports.number(6), cluster.ports.number(0)).await;
    let config = ControlConfig {
        topology_cache: cluster.cache("behind-the-line.json"),
        ..cluster.config_of_ports(&[cluster.ports.number(6)])
    };
    let watch = ControlClient::new(&config).watch_topology();
    until(&watch, |known| known.generation == 1).await;
    for generation in [2, 4, 6] {
        line.cut();
        direct.publish_topology(&topology(generation)).await.unwrap();
        direct.publish_topology(&topology(generation + 1)).await.unwrap();
        compact(&cluster, direct.etcd()).await;
        line.mend();
        until(&watch, |known| known.generation == generation + 1).await;
    }
    // Without the line being cut a change arrives at once, through the stream.
    let mut values = watch.receiver();
    values.borrow_and_update();
    direct.publish_topology(&topology(8)).await.unwrap();
    tokio::time::timeout(Duration::from_millis(900), values.changed()).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_background_work_ends_with_the_last_watch() {
    let cluster = Cluster::stopped(1);
    let client = ControlClient::new(&cluster.config(&[0]));
    let watch = client.watch_record();
    let clone = watch.clone();
    drop(watch);
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    eventually("the follower runs", async || alive() > 0).await;
    assert!(matches!(client.record().await, Err(Error::Unavailable { .. })));
    drop((clone, client));
    eventually("nothing runs", async || alive() == 0).await;
}

/// A TCP relay that can be cut, as a network between two regions can.
struct Line(watch::Sender<bool>);

impl Line {
    async fn open(port: u16, target: u16) -> Self {
        let (whole, state) = watch::channel(true);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(async move {
            loop {
                let (mut inbound, _) = listener.accept().await.unwrap();
                let mut state = state.clone();
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let mut outbound = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut inbound, &mut outbound) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self(whole)
    }

    fn cut(&self) {
        self.0.send_replace(false);
    }

    fn mend(&self) {
        self.0.send_replace(true);
    }
}

/// `etcdserverpb.CompactionRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
struct CompactionRequest {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(bool, tag = "2")]
    physical: bool,
}

/// `etcdserverpb.CompactionResponse`.
#[derive(Clone, PartialEq, Eq, Message)]
struct CompactionResponse {}

/// Forgets etcd's whole history up to now.
async fn compact(cluster: &Cluster, etcd: &Etcd) {
    let (_, revision) = etcd.get("/").await.unwrap();
    let config = cluster.config(&[0]);
    let read = |path| std::fs::read(path).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&config.tls.ca)))
        .identity(Identity::from_pem(read(&config.tls.cert), read(&config.tls.key)));
    let endpoint = Endpoint::from_shared(config.endpoints[0].to_string()).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Compact");
    let request = CompactionRequest { revision: revision.0, physical: true };
    let codec = ProstCodec::<CompactionRequest, CompactionResponse>::default();
    client.unary(tonic::Request::new(request), path, codec).await.unwrap();
}
