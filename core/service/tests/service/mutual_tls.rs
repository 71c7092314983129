//! Who gets in, and how certificates are replaced.

use domicile_core::ids::ClusterId;
use domicile_core::operation::Grade;
use domicile_service::client::Failure;
use domicile_service::drain::DrainLimits;
use domicile_service::listener::ListenerLimits;
use domicile_service::peer::{PeerGuard, PeerIdentity, Role};
use domicile_service::testing::TestCa;
use domicile_service::tls::{ClientAuth, ClientTls, ServerTls};
use rcgen::SanType;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::support::{Server, client, eventually, whoami};

#[tokio::test]
async fn a_peer_is_known_by_its_spiffe_name_over_h1_and_h2() {
    let ca = TestCa::new();
    let server = Server::mutual(&ca, whoami()).await;
    let tls = ca.client(Role::Router, "router-a");
    let request = http::Request::get(server.url("/whoami")).body(bytes::Bytes::new()).unwrap();
    let answer = client(&tls).send(request).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.body(), "router router-a");
    assert!(server.raw(&tls).await.get("/whoami").await.ends_with("router router-a"));
}

#[tokio::test]
async fn without_a_certificate_of_our_authority_nobody_gets_in() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let server = Server::mutual(&ca, whoami()).await;
    let mut stranger = other.issue(Role::Router, "router-a");
    stranger.ca = ca.ca_file();
    let stranger = ClientTls::load(&stranger).unwrap();
    let nobody = ClientTls::anonymous(&ca.ca_file()).unwrap();
    for tls in [stranger, nobody] {
        let error = client(&tls).get_json::<String>(&server.url("/whoami")).await.unwrap_err();
        assert_eq!(error.status(), None, "refused in the handshake: {error}");
        assert!(error.to_string().starts_with("GET https://127.0.0.1:"), "{error}");
    }
    let deceived = other.client(Role::Router, "router-b");
    let error = client(&deceived).get_json::<String>(&server.url("/whoami")).await.unwrap_err();
    assert!(matches!(error.failure, Failure::Connect(_)), "an unknown server is refused: {error}");
    assert!(error.is_not_sent());
}

#[tokio::test]
async fn only_the_right_role_of_the_right_cluster_passes_the_guard() {
    let ca = TestCa::new();
    let guard = PeerGuard::new(ClusterId::parse("demo").unwrap(), &[Role::Router, Role::Ctl]);
    let server = Server::mutual(&ca, guard.protect(whoami())).await;
    let nameless = ClientTls::load(&ca.issue_with("nameless", Vec::new())).unwrap();
    let elsewhere = SanType::URI("spiffe://other/router/router-a".try_into().unwrap());
    let elsewhere = ClientTls::load(&ca.issue_with("elsewhere", vec![elsewhere])).unwrap();
    for (tls, passes) in [
        (ca.client(Role::Router, "router-a"), true),
        (ca.client(Role::Ctl, "ctl-a"), true),
        (ca.client(Role::Reader, "reader-a"), false),
        (nameless, false),
        (elsewhere, false),
    ] {
        let answer = server.raw(&tls).await.get("/whoami").await;
        assert_eq!(answer.contains(" 200 "), passes, "{answer}");
        assert_eq!(answer.contains("peer-forbidden"), !passes, "{answer}");
    }
}

#[tokio::test]
async fn persons_pass_by_their_grade_and_are_told_which_one_is_needed() {
    let ca = TestCa::new();
    let guard = PeerGuard::new(ClusterId::parse("demo").unwrap(), &[Role::Agent]);
    let server = Server::mutual(&ca, guard.and_persons(Grade::Operator).protect(whoami())).await;
    for (role, refused) in [
        (Role::Agent, None),
        (Role::Ctl, None),
        (Role::DrLead, None),
        (Role::Operator, None),
        (Role::Viewer, Some("role-insufficient")),
        (Role::Router, Some("peer-forbidden")),
    ] {
        let answer = server.raw(&ca.client(role, "anna")).await.get("/whoami").await;
        match refused {
            None => assert!(answer.contains(" 200 "), "{role:?}: {answer}"),
            Some(code) => assert!(answer.contains(code), "{role:?}: {answer}"),
        }
        let told = answer.contains("this needs the role operator; the certificate says viewer");
        assert_eq!(told, role == Role::Viewer, "{answer}");
    }
}

#[test]
fn an_identity_needs_exactly_one_well_formed_name() {
    let ca = TestCa::new();
    let identity = |uris: &[&str]| {
        let names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let files = ca.issue_with("probe", names);
        let der = CertificateDer::from_pem_file(files.cert).unwrap();
        PeerIdentity::from_certificate(&der)
    };
    let good = identity(&["https://example.org/", "spiffe://demo/etcd/etcd-mt"]).unwrap();
    assert_eq!(good.uri(), "spiffe://demo/etcd/etcd-mt");
    for uris in [
        &[][..],
        &["spiffe://demo/router/a", "spiffe://demo/writer/a"],
        &["spiffe://demo/root/a"],
        &["spiffe://demo/router"],
        &["spiffe://demo/router/a/b"],
        &["spiffe://demo/router/"],
        &["spiffe://Demo/router/a"],
        &["http://demo/router/a"],
    ] {
        assert_eq!(identity(uris), None, "{uris:?}");
    }
    assert_eq!(PeerIdentity::from_certificate(b"not a certificate"), None);
}

#[tokio::test]
async fn certificates_are_replaced_while_connections_live() {
    let ca = TestCa::new();
    let files = ca.issue(Role::Writer, "writer-a");
    let tls = ServerTls::load(&files, ClientAuth::Required).unwrap();
    tls.watch();
    let (limits, leaving) = (ListenerLimits::default(), DrainLimits::default());
    let server = Server::start(Some(tls), limits, leaving, whoami()).await;
    let router = ca.client(Role::Router, "router-a");
    router.watch();
    let mut old = server.raw(&router).await;
    assert!(old.get("/whoami").await.ends_with("router router-a"));
    let certificate_of = |raw: &crate::support::Raw<tokio_rustls::client::TlsStream<_>>| {
        raw.0.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = certificate_of(&old);

    // A half-written rotation changes nothing; SIGHUP looks at once.
    let key = std::fs::read(&files.key).unwrap();
    std::fs::write(&files.key, "garbage").unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(certificate_of(&server.raw(&router).await), first);
    std::fs::write(&files.key, key).unwrap();

    // The server's, found by looking from time to time.
    ca.issue(Role::Writer, "writer-a");
    eventually("the new certificate is used", async || {
        certificate_of(&server.raw(&router).await) != first
    })
    .await;
    assert!(old.get("/whoami").await.ends_with("router router-a"), "the old connection lives");

    // The client's own, and then its authority.
    let fresh = TestCa::new();
    let replacement = fresh.issue(Role::Router, "router-b");
    let own = ca.folder().join("router-a.cert.pem");
    std::fs::copy(&replacement.cert, &own).unwrap();
    std::fs::copy(&replacement.key, ca.folder().join("router-a.key.pem")).unwrap();
    eventually("the server refuses the client's new certificate", async || {
        server.raw(&router).await.get("/whoami").await.is_empty()
    })
    .await;
    std::fs::copy(fresh.ca_file(), ca.ca_file()).unwrap();
    eventually("the authority was replaced on both sides", async || {
        let answer = client(&router).get_json::<String>(&server.url("/whoami")).await;
        matches!(answer.unwrap_err().failure, Failure::Connect(_))
    })
    .await;
    assert!(old.get("/whoami").await.ends_with("router router-a"), "the old connection lives");
}

#[test]
fn files_that_do_not_fit_are_refused_with_their_name() {
    let ca = TestCa::new();
    let mut files = ca.issue(Role::Writer, "writer-a");
    files.key = ca.issue(Role::Writer, "writer-b").key;
    let error = ServerTls::load(&files, ClientAuth::Required).unwrap_err().to_string();
    assert!(error.contains("writer-a.cert.pem cannot be used"), "{error}");
    files.key = files.cert.clone();
    let error = ClientTls::load(&files).unwrap_err().to_string();
    assert!(error.contains("does not hold a private key in PEM"), "{error}");
    files.key = "missing.pem".into();
    let error = ClientTls::load(&files).unwrap_err().to_string();
    assert_eq!(error, "cannot read missing.pem");
}
