//! TLS for every listener and client: TLS 1.3 and 1.2, one crypto provider, certificates that can be
//! replaced while connections live.
//!
//! Invariants: private keys never leave this module's values; a reload that fails keeps what works; new
//! handshakes use the new certificates and authorities, old connections are not touched.
//! Deliberately absent: session resumption between our own parts, which would outlive an authority that
//! was withdrawn.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use x509_parser::prelude::{FromDer, X509Certificate};

mod dynamic;

use crate::config::TlsFiles;
use dynamic::{DynamicIdentity, DynamicVerifier};

/// How often certificate files are looked at.
pub const RELOAD_POLL_MS: u64 = 2_000;
/// The largest PEM file that is read.
pub const PEM_MAX_BYTES: u64 = 1024 * 1024;

/// Why certificates could not be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should, in PEM.
    #[error("{path} does not hold {expected} in PEM")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The certificate, its key and the authorities do not work together.
    #[error("{path} cannot be used")]
    Unusable {
        /// The certificate or authority file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The authorities cannot verify anything.
    #[error("{path} cannot be used as authority")]
    Authority {
        /// The authority file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::client::VerifierBuilderError,
    },
}

/// Whether a listener asks its clients for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Only clients with a certificate of our authority get through the handshake.
    Required,
    /// Anyone; for the router's public side.
    None,
}

/// The one crypto provider.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The server side.
pub struct ServerTls {
    auth: ClientAuth,
    files: WatchedFiles,
    current: ArcSwap<ServerConfig>,
}

impl ServerTls {
    /// Loads the files; `watch` keeps them fresh.
    pub fn load(files: &TlsFiles, auth: ClientAuth) -> Result<Arc<Self>, TlsError> {
        let (files, material) = WatchedFiles::open(files.clone())?;
        let current = ArcSwap::new(server_config(&files.files, &material, auth)?);
        Ok(Arc::new(Self { auth, files, current }))
    }

    /// What the next handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Follows changes of the files, and SIGHUP, for as long as the value lives. Needs a runtime.
    pub fn watch(self: &Arc<Self>) {
        watch("server", Arc::downgrade(self));
    }
}

impl Reload for ServerTls {
    fn reload(&self) -> Result<bool, TlsError> {
        self.files.reload(|material| {
            self.current.store(server_config(&self.files.files, material, self.auth)?);
            Ok(())
        })
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files.files).finish_non_exhaustive()
    }
}

/// The client side. Its configuration stays one value and picks up new files by itself, so that pools
/// and connectors built on it need not be rebuilt.
pub struct ClientTls {
    files: WatchedFiles,
    identity: Arc<DynamicIdentity>,
    verifier: Arc<DynamicVerifier>,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Loads the files; `watch` keeps them fresh.
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let (files, material) = WatchedFiles::open(files.clone())?;
        let identity =
            Arc::new(DynamicIdentity::new(Some(certified_key(&files.files, &material)?)));
        Self::assemble(files, &material, identity)
    }

    /// A client without a certificate of its own, such as a player.
    pub fn anonymous(ca: &Path) -> Result<Arc<Self>, TlsError> {
        let only_ca = TlsFiles { cert: ca.into(), key: ca.into(), ca: ca.into() };
        let (files, material) = WatchedFiles::open(only_ca)?;
        Self::assemble(files, &material, Arc::new(DynamicIdentity::new(None)))
    }

    fn assemble(
        files: WatchedFiles,
        material: &Material,
        identity: Arc<DynamicIdentity>,
    ) -> Result<Arc<Self>, TlsError> {
        let verifier = Arc::new(DynamicVerifier::new(server_verifier(&files.files, material)?));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|source| unusable(&files.files.cert, source))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_cert_resolver(identity.clone());
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(Self { files, identity, verifier, config: Arc::new(config) }))
    }

    /// The configuration, without ALPN: connectors that speak HTTP set their own.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Follows changes of the files, and SIGHUP, for as long as the value lives. Needs a runtime.
    pub fn watch(self: &Arc<Self>) {
        watch("client", Arc::downgrade(self));
    }
}

impl Reload for ClientTls {
    fn reload(&self) -> Result<bool, TlsError> {
        self.files.reload(|material| {
            let verifier = server_verifier(&self.files.files, material)?;
            if self.identity.is_present() {
                self.identity.replace(certified_key(&self.files.files, material)?);
            }
            self.verifier.replace(verifier);
            Ok(())
        })
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("files", &self.files.files).finish_non_exhaustive()
    }
}

/// Something that can look at its files again.
trait Reload: Send + Sync + 'static {
    /// Whether anything changed.
    fn reload(&self) -> Result<bool, TlsError>;
}

fn watch(side: &'static str, subject: Weak<impl Reload>) {
    // Taken before the task first runs: from now on SIGHUP no longer ends the process.
    let mut hangup = signal(SignalKind::hangup()).ok();
    crate::tasks::spawn("tls-reload", async move {
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = hung_up => {}
                () = tokio::time::sleep(Duration::from_millis(RELOAD_POLL_MS)) => {}
            }
            let Some(subject) = subject.upgrade() else { return };
            match tokio::task::spawn_blocking(move || subject.reload()).await {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => tracing::info!(side, "certificates replaced"),
                Ok(Err(error)) => {
                    metrics::counter!("domicile_tls_reload_failures_total", "side" => side)
                        .increment(1);
                    tracing::error!(side, error = %crate::telemetry::chain(&error), "certificates not replaced: the old ones stay");
                }
            }
        }
    });
}

/// The files' contents.
#[derive(Clone, PartialEq, Eq)]
struct Material {
    cert: Vec<u8>,
    key: zeroize::Zeroizing<Vec<u8>>,
    ca: Vec<u8>,
}

impl Material {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            cert: read_pem(&files.cert)?,
            key: read_pem(&files.key)?.into(),
            ca: read_pem(&files.ca)?,
        })
    }
}

struct WatchedFiles {
    files: TlsFiles,
    loaded: Mutex<Material>,
}

impl WatchedFiles {
    fn open(files: TlsFiles) -> Result<(Self, Material), TlsError> {
        let material = Material::read(&files)?;
        let loaded = Mutex::new(material.clone());
        Ok((Self { files, loaded }, material))
    }

    fn reload(
        &self,
        apply: impl FnOnce(&Material) -> Result<(), TlsError>,
    ) -> Result<bool, TlsError> {
        let material = Material::read(&self.files)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if *loaded == material {
            return Ok(false);
        }
        apply(&material)?;
        *loaded = material;
        Ok(true)
    }
}

fn read_pem(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = |source| TlsError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(read)?.len() > PEM_MAX_BYTES {
        return Err(read(std::io::ErrorKind::FileTooLarge.into()));
    }
    std::fs::read(path).map_err(read)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let missing = || TlsError::Pem { path: path.to_owned(), expected: "a certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(missing)
}

fn certified_key(files: &TlsFiles, material: &Material) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(&files.cert, &material.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&material.key).map_err(|_unreadable| {
        TlsError::Pem { path: files.key.clone(), expected: "a private key" }
    })?;
    let expiry = chain.first().and_then(|certificate| expires_at_unix_s(certificate));
    let certified = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| unusable(&files.cert, source))?;
    if let Some(expiry) = expiry {
        metrics::gauge!("domicile_tls_certificate_expires_at_unix_s").set(expiry);
    }
    Ok(Arc::new(certified))
}

/// When our certificate ends, for an alert in time. Beyond 2106 it is not worth one.
fn expires_at_unix_s(certificate: &[u8]) -> Option<u32> {
    let (_rest, certificate) = X509Certificate::from_der(certificate).ok()?;
    u32::try_from(certificate.validity().not_after.timestamp()).ok()
}

fn authorities(files: &TlsFiles, material: &Material) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(&files.ca, &material.ca)? {
        store.add(certificate).map_err(|source| unusable(&files.ca, source))?;
    }
    Ok(Arc::new(store))
}

fn server_verifier(
    files: &TlsFiles,
    material: &Material,
) -> Result<Arc<rustls::client::WebPkiServerVerifier>, TlsError> {
    let roots = authorities(files, material)?;
    rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|source| TlsError::Authority { path: files.ca.clone(), source })
}

fn server_config(
    files: &TlsFiles,
    material: &Material,
    auth: ClientAuth,
) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|source| unusable(&files.cert, source))?;
    let builder = match auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Required => {
            let roots = authorities(files, material)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|source| TlsError::Authority { path: files.ca.clone(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let identity = Arc::new(DynamicIdentity::new(Some(certified_key(files, material)?)));
    let mut config = builder.with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    match auth {
        ClientAuth::Required => {
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        ClientAuth::None => {
            config.ticketer =
                aws_lc_rs::Ticketer::new().map_err(|source| unusable(&files.cert, source))?;
        }
    }
    Ok(Arc::new(config))
}

fn unusable(path: &Path, source: rustls::Error) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), source }
}
