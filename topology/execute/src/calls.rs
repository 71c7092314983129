//! Calls to agents over mutual TLS, and which failures of them pass by themselves.

use crate::world::WorldError;
use domicile_core::error::Code;
use domicile_service::client::{ClientError, Failure, HttpClient};
use domicile_service::problem::RemoteProblem;
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
pub const LOOK_TIMEOUT_MS: u64 = 3_000;

/// The agents, reached with one certificate.
#[derive(Debug, Clone)]
pub struct AgentCalls {
    client: HttpClient,
}

impl AgentCalls {
    /// Calls through this client.
    pub fn new(client: HttpClient) -> Self {
        Self { client }
    }

    /// The HTTP client itself.
    pub fn client(&self) -> &HttpClient {
        &self.client
    }

    /// What the agent observes of its node.
    pub async fn status(&self, agent: &ServiceUrl) -> Result<NodeStatus, ClientError> {
        self.client.within_ms(LOOK_TIMEOUT_MS).get_json(&format!("{agent}{}", paths::STATUS)).await
    }

    /// One operation, once.
    pub async fn post<A: DeserializeOwned>(
        &self,
        agent: &ServiceUrl,
        path: &str,
        request: &(impl Serialize + Sync),
        within: Duration,
    ) -> Result<A, ClientError> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.client.within_ms(within_ms).post_json(&format!("{agent}{path}"), request).await
    }

    /// One operation within the agent's own limit for it, again while the agent is busy or away: each is idempotent.
    pub async fn insist<A: DeserializeOwned>(
        &self,
        agent: &ServiceUrl,
        path: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<A, ClientError> {
        let within = Duration::from_millis(limit_ms(path) + TRANSPORT_ALLOWANCE_MS);
        let begun = Instant::now();
        loop {
            match self.post(agent, path, request, within).await {
                Err(error) if is_passing(&error) && begun.elapsed() < RETRY_FOR => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// The longest an agent takes before it answers.
fn limit_ms(path: &str) -> u64 {
    match path {
        paths::CLONE | paths::REJOIN => limits::CLONE_TIMEOUT_MS,
        _ => limits::OPERATION_TIMEOUT_MS,
    }
}

/// Whether sending the operation again may help.
fn is_passing(error: &ClientError) -> bool {
    match &error.failure {
        Failure::Connect(_) | Failure::Broken(_) => true,
        Failure::Status { .. } => {
            matches!(code(error), Some(Code::NodeBusy | Code::ControlUnavailable))
        }
        _ => false,
    }
}

fn code(error: &ClientError) -> Option<Code> {
    error.problem().and_then(RemoteProblem::known_code)
}

impl From<ClientError> for WorldError {
    fn from(error: ClientError) -> Self {
        let detail = chain(&error);
        match &error.failure {
            Failure::Request { .. } | Failure::Connect(_) => Self::Unreachable(detail),
            Failure::Broken(_) | Failure::Timeout { .. } => Self::Unanswered(detail),
            Failure::Status { .. } | Failure::TooLarge { .. } | Failure::Decode(_) => {
                Self::Refused { code: code(&error), detail }
            }
        }
    }
}

/// An error with its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}
