//! etcd itself refuses what a role may not change, whoever asks it without the command line in between.

use domicile_control::{ControlClient, ControlConfig, Error, Plans, TlsPaths};
use domicile_service::config::TlsFiles;
use domicile_service::tls::ClientTls;
use domicile_tests::cluster::{Cluster, certificate};
use rustls::pki_types::ServerName;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A client with the certificate in a folder of the cluster.
fn client(cluster: &Cluster, folder: &str) -> ControlClient {
    let TlsFiles { cert, key, ca } = certificate(&cluster.state().join(folder));
    let topology = cluster.topology();
    let members: Vec<_> = topology.etcd.iter().map(|member| member.client.to_string()).collect();
    let tls = TlsPaths { cert, key, ca };
    let cache = Path::new("/nonexistent/nothing-is-watched.json").to_owned();
    let config = ControlConfig::new(topology.cluster.clone(), &members, tls, cache);
    ControlClient::new(&config.expect("a configuration"))
}

/// Asks a member who the members are, on the port where they speak with each other; the first line of its answer.
async fn as_member(cluster: &Cluster, folder: &str) -> std::io::Result<String> {
    let own = certificate(&cluster.state().join(folder));
    let mut config = (*ClientTls::load(&own).expect("a certificate").config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let peer = cluster.topology().etcd.first().expect("a member").peer.address().clone();
    let tcp = TcpStream::connect((peer.host(), peer.port())).await?;
    let name = ServerName::try_from(peer.host().to_owned()).expect("a server name");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let request = format!("GET /members HTTP/1.1\r\nhost: {peer}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// The persons' certificates are those of `vera`, `otto` and `dora`.
pub(crate) async fn refuse_what_a_role_may_not_change(cluster: &Cluster) {
    for folder in [
        "operator/people/vera",
        "operator/people/otto",
        "nodes/router-mt/router/tls",
        "nodes/reader-mt/reader/tls",
        "nodes/writer-mt/writer/tls",
    ] {
        let client = client(cluster, folder);
        let stands = client.record().await.expect("everyone reads the record").expect("a record");
        for outcome in [
            client.compare_and_set_record(&stands.value, stands.revision).await.map(drop),
            client.etcd().put(&client.key("record"), b"{}".to_vec(), None).await.map(drop),
            client.etcd().delete(&client.key("topology")).await.map(drop),
            client.etcd().put(&client.key("operations/pin"), b"{}".to_vec(), None).await.map(drop),
            Plans::new(&client).lock(folder).await.map(drop),
            client.enforce_roles().await.map(drop),
        ] {
            assert!(
                matches!(outcome, Err(Error::RoleInsufficient { .. })),
                "{folder}: {outcome:?}"
            );
        }
        assert_eq!(client.record().await.expect("the record"), Some(stands), "{folder}");
    }
    for folder in ["operator/people/vera", "operator/people/dora", "nodes/writer-mt/writer/tls"] {
        let refused = as_member(cluster, folder).await.expect_err(folder).to_string();
        assert!(refused.contains("BadCertificate"), "{folder}: {refused}");
    }
    let member = as_member(cluster, "nodes/etcd-de/etcd/tls").await.expect("members do");
    assert_eq!(member, "HTTP/1.1 200 OK");
    let lead = client(cluster, "operator/people/dora");
    let lock = Plans::new(&lead).lock("dora").await.expect("a dr-lead takes the lock");
    lock.release().await.expect("and gives it back");
}
