//! etcd itself refuses what the role in a certificate may not change.

use crate::cluster::{Cluster, PATIENCE, record, topology, until};
use domicile_control::{ControlClient, ControlConfig, Enforced, Error, Leases, Plans, TlsPaths};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use domicile_service::config::TlsFiles;
use domicile_topology::lease::WriterLease;
use prost::{Message, Oneof};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

/// A client whose certificate names a role the way the cluster's authority does: as its common name.
fn client(cluster: &Cluster, role: &str) -> ControlClient {
    let TlsFiles { cert, key, ca } = cluster.ca.issue_with(role, Vec::new());
    let tls = TlsPaths { cert, key, ca };
    let cache = cluster.cache(&format!("{role}.json"));
    ControlClient::new(&ControlConfig { tls, topology_cache: cache, ..cluster.config(&[0]) })
}

async fn put(client: &ControlClient, name: &str) -> Result<(), Error> {
    client.etcd().put(&client.key(name), b"{}".to_vec(), None).await.map(drop)
}

fn is_refused<T: std::fmt::Debug>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::RoleInsufficient { .. }))
}

async fn enforced() -> Cluster {
    let cluster = Cluster::start(1);
    cluster.client().await;
    let root = client(&cluster, "root");
    assert_eq!(root.enforce_roles().await.unwrap(), Enforced::FromNow);
    cluster
}

#[tokio::test]
async fn each_role_changes_its_own_keys_only() {
    let cluster = enforced().await;
    let keys = ["record", "topology", "plan/current", "operations/pin", "writer-lease/w"];
    for (role, may) in [
        ("viewer", &[][..]),
        ("operator", &[]),
        ("router", &[]),
        ("reader", &[]),
        ("writer", &["writer-lease/w"]),
        ("agent", &["record", "plan/current", "operations/pin"]),
        ("dr-lead", &["record", "topology", "plan/current"]),
        ("ctl", &["record", "topology", "plan/current"]),
    ] {
        let client = client(&cluster, role);
        for key in keys {
            let outcome = put(&client, key).await;
            assert_eq!(outcome.is_ok(), may.contains(&key), "{role} {key}: {outcome:?}");
            assert!(outcome.is_ok() || is_refused(&outcome), "{role} {key}: {outcome:?}");
            client.etcd().get(&client.key(key)).await.unwrap();
        }
        // Nor what is no key of this cluster.
        assert!(is_refused(&client.etcd().get("/other").await), "{role}");
    }
    // A member's certificate, and any other name, opens nothing.
    for role in ["etcd", "test", "agents"] {
        assert!(is_refused(&client(&cluster, role).record().await), "{role}");
    }
}

#[tokio::test]
async fn a_refusal_has_a_code_and_names_who_may() {
    let cluster = enforced().await;
    client(&cluster, "dr-lead").create_record(&record(1)).await.unwrap();
    let viewer = client(&cluster, "viewer");
    let stands = viewer.record().await.unwrap().unwrap();
    let refused = viewer.compare_and_set_record(&stands.value, stands.revision).await;
    let text = refused.unwrap_err().to_string();
    let code = text.starts_with("role-insufficient: ");
    assert!(code && text.ends_with("this needs the role agent, ctl or dr-lead"), "{text}");
    let refused = viewer.publish_topology(&topology(1)).await.unwrap_err().to_string();
    assert!(refused.ends_with("this needs the role ctl or dr-lead"), "{refused}");
}

#[tokio::test]
async fn locks_plans_leases_and_watches_go_on_working() {
    let cluster = enforced().await;
    let (lead, agent, writer) =
        (client(&cluster, "dr-lead"), client(&cluster, "agent"), client(&cluster, "writer"));
    lead.publish_topology(&topology(1)).await.unwrap();
    let revision = lead.create_record(&record(1)).await.unwrap();
    let router = client(&cluster, "router").watch_record();
    assert!(router.wait_heard(PATIENCE).await);

    for client in [&lead, &agent] {
        let lock = Plans::new(client).lock("somebody").await.unwrap();
        lock.release().await.unwrap();
    }
    let lock = Plans::new(&agent).lock("agent").await.unwrap();
    let holder = agent.etcd().get(&agent.key("plan/lock")).await.unwrap().0.unwrap();
    let viewer = client(&cluster, "viewer");
    let revoked = viewer.etcd().lease_revoke(holder.lease.unwrap()).await;
    assert!(is_refused(&revoked), "a viewer took the lock away: {revoked:?}");
    lock.release().await.unwrap();

    let leases = Leases::new(&writer);
    let lease = leases.grant(5, || ()).await.unwrap().lease;
    let node = NodeId::parse("writer-mt").unwrap();
    let (region, epoch) = (RegionId::parse("mt-1").unwrap(), Epoch(1));
    let value = WriterLease { node, region, epoch, enforcing: false };
    leases.put(&value, lease, revision).await.unwrap();
    leases.keep_alive(lease, || ()).await.unwrap();
    assert!(is_refused(&client(&cluster, "reader").etcd().lease_revoke(lease).await));
    leases.give_back(lease).await.unwrap();

    lead.compare_and_set_record(&record(2), revision).await.unwrap();
    until(&router, |record| record.epoch.0 == 2).await;
}

#[tokio::test]
async fn enforcing_again_changes_nothing_and_corrects_what_differs() {
    let cluster = Cluster::start(1);
    cluster.client().await;
    // While nobody is asked who they are, anybody may make users of their own.
    let (root, viewer) = (client(&cluster, "root"), client(&cluster, "viewer"));
    assert!(!viewer.enforces_roles().await.unwrap());
    put(&viewer, "record").await.unwrap();
    let planted = Planted { name: "viewer".to_owned(), password: "known".to_owned() };
    call(&cluster, "viewer", "/etcdserverpb.Auth/UserAdd", planted.clone()).await.unwrap();
    assert_eq!(root.enforce_roles().await.unwrap(), Enforced::FromNow);
    let login = call(&cluster, "viewer", "/etcdserverpb.Auth/Authenticate", planted).await;
    assert!(login.is_err(), "a password from before lets somebody in");
    assert_eq!(root.enforce_roles().await.unwrap(), Enforced::Already);
    assert!(viewer.enforces_roles().await.unwrap());
    assert!(is_refused(&put(&viewer, "record").await));
    for role in ["viewer", "dr-lead"] {
        let outcome = client(&cluster, role).enforce_roles().await;
        assert!(is_refused(&outcome), "{role}: {outcome:?}");
    }
}

/// A user with a password, as one is added and as one logs in; and a key with its value.
#[derive(Clone, PartialEq, Eq, Message)]
struct Planted {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    password: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Answer {}

/// A call that the client here does not know.
async fn call<Q: Message + 'static>(
    cluster: &Cluster,
    role: &str,
    path: &'static str,
    request: Q,
) -> Result<Answer, tonic::Status> {
    let TlsFiles { cert, key, ca } = cluster.ca.issue_with(role, Vec::new());
    let read = |path| std::fs::read(path).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(ca)))
        .identity(Identity::from_pem(read(cert), read(key)));
    let url = cluster.config(&[0]).endpoints[0].to_string();
    let channel: Channel =
        Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = ProstCodec::<Q, Answer>::default();
    let answer =
        client.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await;
    answer.map(tonic::Response::into_inner)
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Txn {
    #[prost(message, repeated, tag = "2")]
    success: Vec<Op>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Op {
    #[prost(oneof = "Kind", tags = "2, 4")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum Kind {
    #[prost(message, tag = "2")]
    Put(Planted),
    #[prost(message, tag = "4")]
    Txn(Txn),
}

/// What one version of etcd permits is known of it, so that it can be said.
#[tokio::test]
async fn a_nested_change_passes_only_where_it_is_known_to() {
    let cluster = enforced().await;
    let put = Kind::Put(Planted { name: "/domicile/demo/record".into(), password: "{}".into() });
    let nested = Kind::Txn(Txn { success: vec![Op { kind: Some(put.clone()) }] });
    let passes = async |kind| {
        let txn = Txn { success: vec![Op { kind: Some(kind) }] };
        call(&cluster, "viewer", "/etcdserverpb.KV/Txn", txn).await.is_ok()
    };
    assert!(!passes(put).await);
    let known = client(&cluster, "root").passes_nested_changes().await.unwrap();
    assert_eq!(passes(nested).await, known.is_some(), "{known:?}");
}
