//! The replaceable parts of a TLS configuration: our own certificate, and who vouches for the peer's.
//!
//! Invariant: verification itself is rustls's own; this module only decides which authorities it uses.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Our own certificate and key.
#[derive(Debug)]
pub(super) struct DynamicIdentity(ArcSwapOption<CertifiedKey>);

impl DynamicIdentity {
    pub(super) fn new(key: Option<Arc<CertifiedKey>>) -> Self {
        Self(ArcSwapOption::new(key))
    }

    pub(super) fn is_present(&self) -> bool {
        self.0.load().is_some()
    }

    pub(super) fn replace(&self, key: Arc<CertifiedKey>) {
        self.0.store(Some(key));
    }
}

impl ResolvesClientCert for DynamicIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.is_present()
    }
}

impl ResolvesServerCert for DynamicIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// Verifies servers by the present authorities.
#[derive(Debug)]
pub(super) struct DynamicVerifier(ArcSwap<WebPkiServerVerifier>);

impl DynamicVerifier {
    pub(super) fn new(verifier: Arc<WebPkiServerVerifier>) -> Self {
        Self(ArcSwap::new(verifier))
    }

    pub(super) fn replace(&self, verifier: Arc<WebPkiServerVerifier>) {
        self.0.store(verifier);
    }
}

impl ServerCertVerifier for DynamicVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.load().verify_server_cert(end_entity, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.load().verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.load().supported_verify_schemes()
    }
}
