//! Calls to the agents, over mutual TLS as `ctl`.
//!
//! How an operation is asked for, and asked for again, is the executor's: `domicile-execute`.

use crate::layout::Layout;
use anyhow::{Context, Result, anyhow};
use domicile_execute::{AgentCalls, chain};
use domicile_service::client::{ClientError, ClientLimits, HttpClient};
use domicile_service::config::TlsFiles;
use domicile_service::tls::ClientTls;
use domicile_topology::address::ServiceUrl;
use domicile_topology::observed::NodeStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// The operator's HTTP client.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    calls: AgentCalls,
}

/// The operator's certificate files.
pub(crate) fn tls_files(layout: &Layout) -> TlsFiles {
    tls_files_in(&layout.operator_tls())
}

/// The files of a certificate's folder.
pub(crate) fn tls_files_in(folder: &Path) -> TlsFiles {
    TlsFiles {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        ca: folder.join("ca.pem"),
    }
}

impl Agents {
    /// A client with the operator's certificate of this state folder.
    pub(crate) fn new(layout: &Layout) -> Result<Self> {
        let tls =
            ClientTls::load(&tls_files(layout)).context("cannot use the operator's certificate")?;
        Ok(Self { calls: AgentCalls::new(HttpClient::new(&tls, ClientLimits::default())) })
    }

    /// The HTTP client itself.
    pub(crate) fn client(&self) -> &HttpClient {
        self.calls.client()
    }

    /// What the agent observes of its node.
    pub(crate) async fn status(&self, agent: &ServiceUrl) -> Result<NodeStatus, ClientError> {
        self.calls.status(agent).await
    }

    /// One operation, within the agent's limit for it; asked again while the agent is busy or away.
    pub(crate) async fn call<A: DeserializeOwned>(
        &self,
        agent: &ServiceUrl,
        path: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<A> {
        self.calls.insist(agent, path, request).await.map_err(|error| anyhow!(chain(&error)))
    }
}
