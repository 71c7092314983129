//! What no well-behaved client does: bytes that stop in the middle, tokens signed with the cluster's own key.

use crate::cluster::Cluster;
use domicile_core::claims::Claims;
use domicile_service::config;
use domicile_service::tls::ClientTls;
use domicile_service::token::TokenSigner;
use rustls::pki_types::ServerName;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer to a body that never ends may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Announces a body of 100 bytes, sends 10 and waits: returns the raw answer.
pub async fn slow_body(cluster: &Cluster, base: &str, token: &str) -> String {
    let address = base.trim_start_matches("https://").trim_end_matches('/');
    let tcp = TcpStream::connect(address).await.expect("connect to the router");
    let tls =
        ClientTls::anonymous(&cluster.state().join("operator/tls/ca.pem")).expect("the authority");
    let mut config = (*tls.config()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let host = address.split(':').next().expect("a host").to_owned();
    let name = ServerName::try_from(host).expect("a server name");
    let mut stream = connector.connect(name, tcp).await.expect("TLS to the router");
    let request = format!(
        "POST /v1/plays HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         idempotency-key: slow\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n0123456789"
    );
    stream.write_all(request.as_bytes()).await.expect("send half a request");
    let mut answer = vec![0u8; 4096];
    let read = tokio::time::timeout(ANSWER_WITHIN, stream.read(&mut answer)).await;
    let length = read.expect("an answer in time").expect("an answer");
    answer.truncate(length);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A signer with the session key of the preferred region's writer.
pub fn session_signer(cluster: &Cluster) -> TokenSigner {
    let region = &cluster.topology().failover.preferred_region;
    let key = cluster.topology().session_keys.iter().find(|key| key.region == *region);
    let kid = &key.expect("a session key").kid;
    let writer = cluster.topology().writers_in(region).first().map(|writer| writer.node.clone());
    let folder = cluster.state().join(format!("nodes/{}/writer", writer.expect("a writer")));
    let file =
        std::fs::read_to_string(folder.join("config.toml")).expect("the writer's configuration");
    let file: toml::Table = toml::from_str(&file).expect("TOML");
    let path = file["keys"]["session_signing_key_file"].as_str().expect("the key's file");
    let pem = config::secret(&folder.join(path)).expect("the private key");
    TokenSigner::from_pem(kid, &pem).expect("a signing key")
}

/// A token with these claims, signed as the writer would.
pub fn token(signer: &TokenSigner, claims: &Claims) -> String {
    signer.sign(claims).expect("a token")
}
