//! Calls to the agents, over mutual TLS as `ctl`.
//!
//! Every operation of an agent is idempotent, so one that met a busy agent or a lost answer is sent again until its
//! deadline.

use crate::layout::Layout;
use crate::wait::chain;
use anyhow::{Context, Result, anyhow};
use domicile_core::error::Code;
use domicile_service::client::{ClientError, ClientLimits, Failure, HttpClient};
use domicile_service::config::TlsFiles;
use domicile_service::problem::RemoteProblem;
use domicile_service::tls::ClientTls;
use domicile_topology::address::ServiceUrl;
use domicile_topology::agent_api::{limits, paths};
use domicile_topology::observed::NodeStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// What an agent may take longer than its own limit: the way there and back.
const TRANSPORT_ALLOWANCE_MS: u64 = 5_000;
/// How long a busy or unreachable agent is asked again.
const RETRY_FOR: Duration = Duration::from_mins(1);
/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The longest wait for one look at a status or a health page.
pub(crate) const LOOK_TIMEOUT_MS: u64 = 3_000;

/// The operator's HTTP client.
#[derive(Debug, Clone)]
pub(crate) struct Agents {
    client: HttpClient,
}

/// The operator's certificate files.
pub(crate) fn tls_files(layout: &Layout) -> TlsFiles {
    let folder = layout.operator_tls();
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
        Ok(Self { client: HttpClient::new(&tls, ClientLimits::default()) })
    }

    /// The HTTP client itself.
    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// What the agent observes of its node.
    pub(crate) async fn status(&self, agent: &ServiceUrl) -> Result<NodeStatus, ClientError> {
        self.client.within_ms(LOOK_TIMEOUT_MS).get_json(&format!("{agent}{}", paths::STATUS)).await
    }

    /// One operation, within the agent's limit for it.
    pub(crate) async fn call<A: DeserializeOwned>(
        &self,
        agent: &ServiceUrl,
        path: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<A> {
        let limit_ms = if path == paths::CLONE {
            limits::CLONE_TIMEOUT_MS
        } else {
            limits::OPERATION_TIMEOUT_MS
        };
        let client = self.client.within_ms(limit_ms + TRANSPORT_ALLOWANCE_MS);
        let begun = Instant::now();
        loop {
            match client.post_json(&format!("{agent}{path}"), request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if is_passing(&error) && begun.elapsed() < RETRY_FOR => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(anyhow!(chain(&error))),
            }
        }
    }
}

/// Whether sending the operation again may help.
fn is_passing(error: &ClientError) -> bool {
    match &error.failure {
        Failure::Connect(_) | Failure::Broken(_) => true,
        Failure::Status { .. } => error
            .problem()
            .and_then(RemoteProblem::known_code)
            .is_some_and(|code| matches!(code, Code::NodeBusy | Code::ControlUnavailable)),
        _ => false,
    }
}
