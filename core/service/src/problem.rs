//! Errors on the wire: RFC 9457 `application/problem+json` with a stable code.
//!
//! Invariants: `type`, `title`, `status`, `code` and `remedy` come from the code alone; a detail is
//! written for the caller and never carries an internal error's text.

use std::borrow::Cow;
use std::future::{Ready, ready};

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domicile_core::error::{Code, ErrorClass};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::trace;

/// The media type of a problem document.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error answer, ready to be sent.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: Option<Cow<'static, str>>,
    retry_after_s: Option<u64>,
    extras: Map<String, Value>,
}

impl Problem {
    /// The bare problem of this code.
    pub fn new(code: Code) -> Self {
        Self { code, detail: None, retry_after_s: None, extras: Map::new() }
    }

    /// Adds what happened this time, for the caller's eyes.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Tells the caller when to come back.
    #[must_use]
    pub fn retry_after_s(mut self, retry_after_s: u64) -> Self {
        self.retry_after_s = Some(retry_after_s);
        self
    }

    /// Adds a member of its own to the document, such as `permitted`.
    #[must_use]
    pub fn extra(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extras.insert(name.to_owned(), value.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The document with the current request's trace id.
    pub fn to_json(&self) -> Value {
        let mut document = self.extras.clone();
        document.insert("type".into(), json!(format!("urn:domicile:error:{}", self.code)));
        document.insert("title".into(), json!(self.code.title()));
        document.insert("status".into(), json!(self.code.status()));
        document.insert("code".into(), json!(self.code.as_str()));
        document.insert("remedy".into(), json!(self.code.remedy()));
        if let Some(detail) = &self.detail {
            document.insert("detail".into(), json!(detail));
        }
        if let Some(trace) = trace::current() {
            document.insert("trace_id".into(), json!(trace.trace_id_hex()));
        }
        Value::Object(document)
    }

    /// How the caller has to authenticate.
    fn scheme(&self) -> &'static str {
        let operator = self.code.as_str().starts_with("operator-");
        if operator { "Domicile-Signature" } else { "Bearer" }
    }

    fn retry_after(&self) -> Option<u64> {
        let waits = matches!(
            self.code.class(),
            ErrorClass::Unavailable | ErrorClass::Limited | ErrorClass::OutcomeUnknown
        );
        self.retry_after_s.or(waits.then_some(1))
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl Problem {
    /// The whole answer, for a service without axum.
    pub fn to_http(&self) -> http::Response<Bytes> {
        let mut response = http::Response::new(self.to_json().to_string().into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(self.scheme()));
        }
        // The access log and the metrics read it back from here.
        response.extensions_mut().insert(self.code);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.to_http().map(axum::body::Body::from)
    }
}

/// The answer for a path that does not exist.
pub fn not_found() -> Ready<Problem> {
    ready(Problem::new(Code::NotFound))
}

/// The answer for a method the path does not take.
pub fn method_not_allowed() -> Ready<Problem> {
    ready(Problem::new(Code::MethodNotAllowed))
}

/// A problem document received from another service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct RemoteProblem {
    /// The stable code, as text: the peer may be newer and know more codes.
    pub code: String,
    /// One sentence: what happened.
    #[serde(default)]
    pub title: String,
    /// What happened this time.
    #[serde(default)]
    pub detail: Option<String>,
    /// What the caller does next.
    #[serde(default)]
    pub remedy: Option<String>,
    /// The peer's trace of the request.
    #[serde(default)]
    pub trace_id: Option<String>,
}

impl RemoteProblem {
    /// The code, if this build knows it.
    pub fn known_code(&self) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == self.code)
    }
}

impl std::fmt::Display for RemoteProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail.as_deref().unwrap_or(&self.title))?;
        self.remedy.iter().try_for_each(|remedy| write!(f, " {remedy}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_problem_is_a_complete_document() {
        let problem = Problem::new(Code::JurisdictionMisdirected)
            .detail("MT is served elsewhere.")
            .extra("permitted", vec!["https://mt.example"]);
        let response = problem.into_response();
        assert_eq!(response.status(), 421);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        assert_eq!(response.extensions().get(), Some(&Code::JurisdictionMisdirected));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let document: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["type"], "urn:domicile:error:jurisdiction-misdirected");
        assert_eq!(document["status"], 421);
        assert_eq!(document["permitted"][0], "https://mt.example");
        let remote: RemoteProblem = serde_json::from_slice(&body).unwrap();
        assert_eq!(remote.known_code(), Some(Code::JurisdictionMisdirected));
    }

    #[test]
    fn what_may_be_repeated_says_when() {
        let retry =
            |problem: Problem| problem.into_response().headers().get(header::RETRY_AFTER).cloned();
        assert_eq!(retry(Problem::new(Code::WriterOverloaded)).unwrap(), "1");
        assert_eq!(retry(Problem::new(Code::Database).retry_after_s(7)).unwrap(), "7");
        assert_eq!(retry(Problem::new(Code::BetInvalid)), None);
    }
}
