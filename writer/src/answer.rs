//! What may leave the writer: an answer built from the proof that a commit reached two regions.
//!
//! Invariant: [`Acknowledged`] is made from a [`Durable`], unless it says nothing, and it is the only type of this
//! package that becomes a success response. State-dependent refusals travel the same way, because "the
//! round is settled" tells something too. [`Failure`] alone is for what was decided without the ledger's
//! state, and for not knowing.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domicile_core::error::Code;
use domicile_postgres::{CommitError, Durable};
use domicile_service::problem::Problem;
use domicile_service::telemetry;
use http::{HeaderValue, StatusCode, header};
use std::borrow::Cow;

/// Seconds after which a request whose outcome is unknown is worth repeating.
const RETRY_AFTER_S: u64 = 1;
/// Marks an answer that was stored by an earlier request of the same key.
pub const REPLAYED_HEADER: &str = "domicile-replayed";

/// A refusal: the code and, where it helps, a detail without secrets or personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// What exactly, for the caller.
    pub detail: Option<Cow<'static, str>>,
}

impl Failure {
    /// A refusal that its code explains.
    pub const fn new(code: Code) -> Self {
        Self { code, detail: None }
    }

    /// A refusal with a detail.
    pub fn with(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    /// Logs the cause, which stays inside, and refuses with a code.
    pub fn because(code: Code, cause: &dyn std::error::Error) -> Self {
        tracing::error!(code = %code, error = telemetry::chain(cause), "request failed");
        Self::new(code)
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<domicile_postgres::Error> for Failure {
    fn from(error: domicile_postgres::Error) -> Self {
        tracing::warn!(error = %error, "the ledger did not execute a request");
        Self::new(error.code())
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unknown(_) => Self::new(Code::OutcomeUnknown),
            CommitError::NotExecuted(error) => error.into(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut problem = Problem::new(self.code);
        if let Some(detail) = self.detail {
            problem = problem.detail(detail);
        }
        if self.code == Code::OutcomeUnknown {
            problem = problem.retry_after_s(RETRY_AFTER_S);
        }
        problem.into_response()
    }
}

/// A success answer: stored with its request and returned byte for byte to every repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: Bytes,
    /// Whether an earlier request of the same key got this answer.
    pub replayed: bool,
}

impl Reply {
    /// Encodes a first answer.
    pub fn json(status: u16, value: &impl serde::Serialize) -> Result<Self, Failure> {
        let body =
            serde_json::to_vec(value).map_err(|error| Failure::because(Code::Internal, &error))?;
        Ok(Self { status, body: body.into(), replayed: false })
    }
}

/// What a look at the ledger led to.
pub type Verdict = Result<Reply, Failure>;

/// A value that the second region has made good: it may be told to anyone.
#[derive(Debug)]
pub struct Acknowledged<T>(T);

impl<T> Acknowledged<T> {
    /// Acknowledges `value`, which this commit or an earlier one wrote.
    pub const fn new(_proof: &Durable, value: T) -> Self {
        Self(value)
    }
}

impl Acknowledged<Verdict> {
    /// Says nothing, so that nobody may go by it: for a caller that then knows what it knew before.
    pub const fn nothing() -> Self {
        Self(Ok(Reply { status: 204, body: Bytes::new(), replayed: false }))
    }

    /// Why it was refused, if it was.
    pub fn refusal(self) -> Option<Failure> {
        self.0.err()
    }
}

/// What every handler of a ledger operation returns.
pub type Handled = Result<Acknowledged<Verdict>, Failure>;

impl IntoResponse for Acknowledged<Verdict> {
    fn into_response(self) -> Response {
        match self.0 {
            Ok(reply) => reply_response(reply),
            Err(failure) => failure.into_response(),
        }
    }
}

fn reply_response(reply: Reply) -> Response {
    let mut response = Response::new(reply.body.into());
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    if reply.replayed {
        headers.insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    }
    response
}
