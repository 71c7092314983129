//! Reading request bodies: bounded in size and in time, strict in form.
//!
//! Invariants: never more than `max_bytes` are held; a sender that pauses is cut off; each way to fail
//! has its own code.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use domicile_core::error::Code;
use http::{HeaderMap, Request, header};
use http_body::Body;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The longest parser message that is passed on to the caller.
const DETAIL_MAX_CHARS: usize = 200;

/// How much of a body is taken, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// The largest body.
    pub max_bytes: usize,
    /// The longest time from the headers to the last byte.
    pub timeout_ms: u64,
}

impl BodyLimits {
    /// For API requests: 64 KiB within 10 s.
    pub const API: Self = Self { max_bytes: 64 * 1024, timeout_ms: 10_000 };
}

/// Reads the whole body.
pub async fn read<B>(body: B, limits: BodyLimits) -> Result<Bytes, Problem>
where
    B: Body<Data: Buf, Error: std::fmt::Debug>,
{
    let too_large = || {
        let detail = format!("At most {} bytes are accepted here.", limits.max_bytes);
        Problem::new(Code::BodyTooLarge).detail(detail)
    };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limits.max_bytes {
        return Err(too_large());
    }
    let collect = async {
        let mut body = std::pin::pin!(body);
        let mut whole = BytesMut::with_capacity(declared);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| {
                Problem::new(Code::MalformedRequest).detail("The body broke off.")
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len().saturating_add(data.remaining()) > limits.max_bytes {
                return Err(too_large());
            }
            bytes::BufMut::put(&mut whole, data);
        }
        Ok(whole.freeze())
    };
    match tokio::time::timeout(Duration::from_millis(limits.timeout_ms), collect).await {
        Ok(read) => read,
        Err(_elapsed) => {
            let detail = format!("The body must be complete within {} ms.", limits.timeout_ms);
            Err(Problem::new(Code::BodyTooSlow).detail(detail))
        }
    }
}

/// Refuses headers that do not declare `application/json` (a charset of UTF-8 may be named).
pub fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parts = declared.unwrap_or_default().split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"));
    if is_json { Ok(()) } else { Err(Problem::new(Code::UnsupportedMediaType)) }
}

/// Parses a body that was read. Make `T` `#[serde(deny_unknown_fields)]`: what is not understood is
/// refused, not ignored.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let detail: String = error.to_string().chars().take(DETAIL_MAX_CHARS).collect();
        Problem::new(Code::MalformedBody).detail(detail)
    })
}

/// Reads and parses a JSON request.
pub async fn read_json<T, B>(request: Request<B>, limits: BodyLimits) -> Result<T, Problem>
where
    T: DeserializeOwned,
    B: Body<Data: Buf, Error: std::fmt::Debug>,
{
    require_json(request.headers())?;
    parse_json(&read(request.into_body(), limits).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};

    const LIMITS: BodyLimits = BodyLimits { max_bytes: 16, timeout_ms: 1_000 };

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Bet {
        stake: u32,
    }

    async fn json(body: &'static str, kind: &str) -> Result<Bet, Code> {
        let request = Request::builder().header(header::CONTENT_TYPE, kind);
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
        read_json(request, LIMITS).await.map_err(|problem| problem.code())
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_code() {
        assert_eq!(json(r#"{"stake":5}"#, "application/json").await.unwrap().stake, 5);
        assert!(json(r#"{"stake":5}"#, "Application/JSON; charset=UTF-8").await.is_ok());
        let kind = "application/json";
        assert_eq!(json(r#"{"stake":5,"a":12345}"#, kind).await.unwrap_err(), Code::BodyTooLarge);
        assert_eq!(json(r#"{"stake":5,"a":1}"#, kind).await.unwrap_err(), Code::BodyTooLarge);
        assert_eq!(json(r#"{"a":5}"#, kind).await.unwrap_err(), Code::MalformedBody);
        assert_eq!(json(r#"{"stake":5} x"#, kind).await.unwrap_err(), Code::MalformedBody);
        for kind in ["text/json", "", "application/json; charset=latin1"] {
            assert_eq!(json("{}", kind).await.unwrap_err(), Code::UnsupportedMediaType);
        }
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_cut_at_the_limit() {
        let chunk =
            || Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(&[0; 10])));
        let body = StreamBody::new(futures_util::stream::repeat_with(chunk));
        assert_eq!(read(body, LIMITS).await.unwrap_err().code(), Code::BodyTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_pauses_is_cut_off() {
        let body = StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<Bytes>, std::io::Error>,
        >());
        assert_eq!(read(body, LIMITS).await.unwrap_err().code(), Code::BodyTooSlow);
    }
}
