//! A request on its way to an upstream, however often it goes there.
//!
//! Invariant: a body is sent again only when it is held, whole; a request counts as repeatable only where the API promises
//! one effect for it, however often it arrives.
//! Deliberately absent: sending.

use bytes::Bytes;
use domicile_core::error::Code;
use domicile_service::{problem::Problem, trace};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use serde::{Deserialize, de::IgnoredAny};

use crate::body::{Bounded, Outbound, Reason};

/// With it a player's write has one effect, however often it is sent.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A request as it goes out, however often.
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Headers, fit for an upstream.
    pub headers: HeaderMap,
    /// The body.
    pub payload: Payload,
    /// Requests of one session carry the same number, and go to the same one of several writers while that is ready: they
    /// take turns there in memory rather than at the ledger's rows.
    pub session: Option<usize>,
}

/// A request's body.
pub enum Payload {
    /// Complete: may be sent again.
    Held(Bytes),
    /// Comes from the caller as it is sent: once.
    Once(Option<Bounded>, Reason),
}

impl Payload {
    /// A body that is passed on as it comes.
    pub fn once(body: Bounded) -> Self {
        let reason = body.reason();
        Self::Once(Some(body), reason)
    }

    /// Whether it can be sent again.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// The body for the next attempt; `None` when it was sent already and not kept.
    pub fn take(&mut self) -> Option<Outbound> {
        match self {
            Self::Held(bytes) => Some(Outbound::Held(Full::new(bytes.clone()))),
            Self::Once(body, _) => body.take().map(Outbound::Streamed),
        }
    }

    fn broke(&self) -> Option<Code> {
        match self {
            Self::Held(_) => None,
            Self::Once(_, reason) => reason.get().copied(),
        }
    }
}

impl Outgoing {
    /// The request with this body.
    pub fn request(&self, body: Outbound) -> Request<Outbound> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        trace::inject(request.headers_mut());
        request
    }

    /// Whether sending it again has no second effect: a read, or a write under a key of its caller's.
    pub fn is_repeatable(&self) -> bool {
        let Payload::Held(body) = &self.payload else { return false };
        self.is_safe() || self.headers.contains_key(IDEMPOTENCY_KEY) || has_request_id(body)
    }

    /// What is answered when nobody can say whether it was executed. A body that broke on the way in explains itself;
    /// otherwise only a read is certainly without effect.
    pub fn fate_unknown(&self) -> Problem {
        let code = if self.is_safe() { Code::UpstreamUnavailable } else { Code::OutcomeUnknown };
        Problem::new(self.payload.broke().unwrap_or(code))
    }

    fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

/// What of an operator's body makes it repeatable.
#[derive(Deserialize)]
struct Named {
    request_id: Option<IgnoredAny>,
}

fn has_request_id(body: &[u8]) -> bool {
    serde_json::from_slice::<Named>(body).is_ok_and(|named| named.request_id.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outgoing(method: Method, key: Option<&str>, body: &'static str) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.extend(
            key.map(|key| (http::HeaderName::from_static(IDEMPOTENCY_KEY), key.parse().unwrap())),
        );
        let payload = Payload::Held(Bytes::from_static(body.as_bytes()));
        let uri = Uri::from_static("/v1/plays");
        Outgoing { method, uri, headers, payload, session: None }
    }

    #[test]
    fn only_what_has_one_effect_is_repeatable() {
        let repeatable = |method, key, body| outgoing(method, key, body).is_repeatable();
        assert!(repeatable(Method::GET, None, ""));
        assert!(repeatable(Method::POST, Some("k"), "{}"));
        assert!(repeatable(Method::POST, None, r#"{"game":"wheel","request_id":"r-1"}"#));
        for body in
            ["", "{}", r#"{"request_id":null}"#, r#"{"inner":{"request_id":"r"}}"#, "request_id"]
        {
            assert!(!repeatable(Method::POST, None, body), "{body}");
        }
    }
}
