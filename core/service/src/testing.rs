//! A throw-away certificate authority for tests of this and other packages.
//!
//! Never part of a shipped binary: the feature `testing` turns it on.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot set itself up fails"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domicile_core::ids::{ClusterId, NodeId};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;

use crate::config::TlsFiles;
use crate::peer::{PeerIdentity, Role};
use crate::tls::{ClientAuth, ClientTls, ServerTls};

/// An authority with a folder for what it issues; both end with the value.
#[derive(Debug)]
pub struct TestCa {
    cluster: ClusterId,
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestCa {
    /// A new authority of the cluster `demo`.
    pub fn new() -> Self {
        Self::for_cluster("demo")
    }

    /// A new authority.
    pub fn for_cluster(cluster: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, format!("{cluster} test authority"));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { cluster: ClusterId::parse(cluster).unwrap(), folder, issuer }
    }

    /// The authority's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The folder the files are in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Certificate and key of a node, as PEM files. Issuing again replaces them, as a rotation does.
    pub fn issue(&self, role: Role, node: &str) -> TlsFiles {
        let (cluster, node) = (self.cluster.clone(), NodeId::parse(node).unwrap());
        let uri = PeerIdentity { cluster, role, node: node.clone() }.uri();
        self.issue_with(node.as_str(), vec![SanType::URI(uri.try_into().unwrap())])
    }

    /// Certificate and key with names of one's own besides 127.0.0.1, `localhost` and `name`.
    pub fn issue_with(&self, name: &str, mut names: Vec<SanType>) -> TlsFiles {
        let dns = vec![name.to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(dns).unwrap();
        names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.subject_alt_names.append(&mut names);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |suffix: &str| self.folder.path().join(format!("{name}.{suffix}"));
        std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        TlsFiles { cert: path("cert.pem"), key: path("key.pem"), ca: self.ca_file() }
    }

    /// A server that asks for client certificates.
    pub fn server(&self, role: Role, node: &str) -> Arc<ServerTls> {
        ServerTls::load(&self.issue(role, node), ClientAuth::Required).unwrap()
    }

    /// A client with a certificate.
    pub fn client(&self, role: Role, node: &str) -> Arc<ClientTls> {
        ClientTls::load(&self.issue(role, node)).unwrap()
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}
