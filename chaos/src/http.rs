//! HTTP as somebody outside has it: the cluster's authority is trusted, no certificate is shown.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::Path;
use std::time::Duration;

/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long an unused connection is kept.
const IDLE_WITHIN: Duration = Duration::from_secs(20);
/// Largest answer, in bytes.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// A client; clones share connections.
#[derive(Debug, Clone)]
pub struct Outside {
    pool: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    within: Duration,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON, or nothing.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.parse().ok()
    }

    /// A header as text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.headers.get(name)?.to_str().ok().map(str::to_owned)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Silence {
    /// No connection came about: nothing was sent.
    NotSent(String),
    /// It broke or took too long: perhaps executed.
    Broken(String),
}

impl Outside {
    /// A client that trusts what the file holds; every call ends within the time.
    pub fn new(authority: &Path, within: Duration) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(authority)
            .with_context(|| format!("cannot read {}", authority.display()))?;
        for certificate in certificates {
            roots.add(certificate?).context("the authority's certificate is not usable")?;
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_WITHIN));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_WITHIN)
            .build(connector);
        Ok(Self { pool, within })
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, Silence> {
        let exchange = async {
            let answer = self.pool.request(request.map(Full::new)).await.map_err(|error| {
                if error.is_connect() {
                    Silence::NotSent(error.to_string())
                } else {
                    Silence::Broken(error.to_string())
                }
            })?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
            let body = body.map_err(|error| Silence::Broken(error.to_string()))?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        match tokio::time::timeout(self.within, exchange).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                Err(Silence::Broken(format!("no answer within {} ms", self.within.as_millis())))
            }
        }
    }
}
