//! The operations log's entrance for agents: a record handed to a writer that serves, under the agent's certificate.
//!
//! Repeating it is safe: the writer enters a record once.

use std::sync::Arc;

use domicile_execute::chain;
use domicile_service::client::{ClientLimits, HttpClient};
use serde::Serialize;
use thiserror::Error;

use crate::agent::Agent;

/// The longest wait for a writer, milliseconds.
const WRITER_TIMEOUT_MS: u64 = 5_000;
/// Where a writer takes records.
const PATH: &str = "/internal/v1/operations";

/// Why a record is not entered yet.
#[derive(Debug, Error)]
pub(crate) enum SubmitError {
    #[error("no writer is known")]
    NoWriter,
    #[error("the writer does not take the record of {id}: {cause}")]
    Refused { id: String, cause: String },
}

/// What hands records over.
pub(crate) struct Submitter {
    agent: Arc<Agent>,
    client: HttpClient,
}

impl Submitter {
    /// In this agent's name.
    pub(crate) fn new(agent: Arc<Agent>) -> Result<Self, crate::error::Error> {
        let client = HttpClient::new(&agent.outside_tls()?, ClientLimits::default());
        Ok(Self { agent, client: client.within_ms(WRITER_TIMEOUT_MS) })
    }

    /// Hands a record to the first writer of the current region that takes it.
    pub(crate) async fn submit(
        &self,
        id: &str,
        record: &(impl Serialize + Sync),
    ) -> Result<(), SubmitError> {
        let control = &self.agent.control;
        let known = control.last_record().zip(control.topology());
        let (current, topology) = known.ok_or(SubmitError::NoWriter)?;
        let mut last = SubmitError::NoWriter;
        for writer in topology.writers_in(&current.writer_region) {
            let url = format!("{}{PATH}", writer.endpoint);
            match self.client.post_json::<serde_json::Value>(&url, record).await {
                Ok(_entered) => return Ok(()),
                Err(error) => {
                    last = SubmitError::Refused { id: id.to_owned(), cause: chain(&error) };
                }
            }
        }
        Err(last)
    }
}
