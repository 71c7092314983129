//! W3C trace context: which request a log line, a problem and a call to another service belong to.
//!
//! Invariant: inside a request `current` tells its trace, also in what it awaits; a task spawned from it
//! carries it on with `scope`. A malformed `traceparent` is ignored, as the standard asks.

use http::{HeaderMap, HeaderValue};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The W3C header.
pub const TRACEPARENT: &str = "traceparent";

/// A position in a distributed trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The whole trace; never zero.
    pub trace_id: u128,
    /// This service's part of it; never zero.
    pub span_id: u64,
    /// Whether the trace is being recorded.
    pub sampled: bool,
}

tokio::task_local! {
    static CURRENT: Trace;
}

/// The trace of the request that is being handled, if any.
pub fn current() -> Option<Trace> {
    CURRENT.try_with(|trace| *trace).ok()
}

/// Runs `future` as part of `trace`.
pub async fn scope<F: Future>(trace: Trace, future: F) -> F::Output {
    CURRENT.scope(trace, future).await
}

impl Trace {
    /// A new trace.
    pub fn start() -> Self {
        let trace_id = ((u128::from(random()) << 64) | u128::from(random())).max(1);
        Self { trace_id, span_id: new_span_id(), sampled: true }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: new_span_id(), ..*self }
    }

    /// Reads the caller's position from its `traceparent` header.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut hex = |length: usize| {
            let part = parts.next().filter(|part| part.len() == length)?;
            let lower = part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            lower.then_some(part)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // Later versions may append parts; version 00 may not, and ff is forbidden.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace_id, span_id, sampled })
    }

    /// The `traceparent` to send on.
    pub fn header(&self) -> HeaderValue {
        let text = format!(
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        );
        HeaderValue::from_str(&text).unwrap_or_else(|_not_ascii| HeaderValue::from_static(""))
    }

    /// The trace id as logs and problems show it.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The span id as logs show it.
    pub fn span_id_hex(&self) -> String {
        format!("{:016x}", self.span_id)
    }
}

/// Puts the current request's trace, if any, into the headers of a call to another service.
pub fn inject(headers: &mut HeaderMap) {
    if let Some(trace) = current() {
        headers.insert(TRACEPARENT, trace.header());
    }
}

fn new_span_id() -> u64 {
    random().max(1)
}

/// Ids need to be distinct, not secret: a mixed count (splitmix64) from a start that the system drew once, since
/// two system calls per request are too many.
fn random() -> u64 {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let mut bytes = [0; 8];
        // Without randomness all processes count alike: worse traces, but no failed request.
        getrandom::fill(&mut bytes).unwrap_or_default();
        u64::from_be_bytes(bytes)
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = START.wrapping_add(count);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trace_goes_through() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(text));
        let caller = Trace::from_headers(&headers).unwrap();
        assert_eq!(caller.header(), text);
        let own = caller.child();
        assert_eq!(own.trace_id, caller.trace_id);
        assert_ne!(own.span_id, caller.span_id);
        let mut sent = HeaderMap::new();
        inject(&mut sent);
        assert!(sent.is_empty());
        scope(own, async { inject(&mut sent) }).await;
        assert_eq!(sent[TRACEPARENT], own.header());
    }

    #[test]
    fn what_is_not_a_traceparent_is_ignored() {
        let zero = "0".repeat(32);
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            &format!("00-{zero}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(Trace::parse(text), None, "{text}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(Trace::parse(later).is_some_and(|trace| !trace.sampled));
    }
}
