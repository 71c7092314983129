//! Mutual TLS: who is let in, whom the client believes, and renewed certificates.

use crate::cluster::Cluster;
use domicile_control::{ControlClient, Error, TlsPaths};
use domicile_service::config::TlsFiles;
use domicile_service::peer::Role;
use domicile_service::testing::TestCa;

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let cluster = Cluster::start(1);
    let good = cluster.client().await;
    good.record().await.unwrap();

    let stranger = TestCa::new();
    let TlsFiles { cert, key, ca } = stranger.issue(Role::Ctl, "ctl-x");
    let own = cluster.tls("ctl-b");
    let unknown_client = TlsPaths { cert, key, ca: own.ca.clone() };
    let wrong_authority = TlsPaths { ca, ..own };
    for tls in [unknown_client, wrong_authority] {
        let config = domicile_control::ControlConfig { tls, ..cluster.config(&[0]) };
        let outcome = ControlClient::new(&config).record().await;
        assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    }
    let missing = TlsPaths { cert: "/nowhere.pem".into(), ..cluster.tls("ctl-c") };
    let config = domicile_control::ControlConfig { tls: missing, ..cluster.config(&[0]) };
    let outcome = ControlClient::new(&config).record().await;
    assert!(matches!(outcome, Err(Error::Tls { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_renewed_certificate_needs_no_restart() {
    let cluster = Cluster::start(1);
    cluster.client().await;
    let stranger = TestCa::new();
    let foreign = stranger.issue(Role::Ctl, "ctl-x");
    let tls = cluster.tls("ctl-d");
    let good = (std::fs::read(&tls.cert).unwrap(), std::fs::read(&tls.key).unwrap());
    std::fs::copy(&foreign.cert, &tls.cert).unwrap();
    std::fs::copy(&foreign.key, &tls.key).unwrap();
    let config = domicile_control::ControlConfig { tls: tls.clone(), ..cluster.config(&[0]) };
    let client = ControlClient::new(&config);
    assert!(client.record().await.is_err());
    std::fs::write(&tls.cert, good.0).unwrap();
    std::fs::write(&tls.key, good.1).unwrap();
    assert_eq!(client.record().await.unwrap(), None);
}
