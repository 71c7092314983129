//! Bodies on their way through: streamed, never collected, bounded in bytes, pauses and time.
//!
//! Invariants: a body that breaks a bound ends in an error, so that the other side sees an incomplete
//! message and never a shorter one; the reason is kept where the proxy finds it.
//! Deliberately absent: trailers. What a caller says after the body would pass unexamined.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use domicile_core::error::Code;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

/// How much of an unwanted body is still taken, bytes: a caller who is cut off while sending often does
/// not see the answer that says why.
const DISCARD_MAX_BYTES: usize = 1024 * 1024;
/// How long that may take, milliseconds.
const DISCARD_TIMEOUT_MS: u64 = 500;

/// Takes the rest of a body that is not wanted, as far as the bounds go.
pub async fn discard(body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    let mut body = Limited::new(body, DISCARD_MAX_BYTES);
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whether it came to its end makes no difference.
    drop(tokio::time::timeout(Duration::from_millis(DISCARD_TIMEOUT_MS), rest).await);
}

/// The bounds of one body.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most bytes.
    pub max_bytes: u64,
    /// Longest pause.
    pub pause: Duration,
    /// Longest time from now to the end.
    pub total: Duration,
}

/// Why a body ended early.
#[derive(Debug, Error)]
pub enum BodyFault {
    /// More bytes than its bound.
    #[error("the body exceeds its limit")]
    TooLarge,
    /// A pause, or the whole, took too long.
    #[error("the body is too slow")]
    TooSlow,
    /// The connection it came from broke.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

impl BodyFault {
    const fn code(&self) -> Code {
        match self {
            Self::TooLarge => Code::BodyTooLarge,
            Self::TooSlow => Code::BodyTooSlow,
            Self::Broken(_) => Code::MalformedRequest,
        }
    }
}

/// Where the proxy looks for the reason when sending fails.
pub type Reason = Arc<OnceLock<Code>>;

/// A body within its bounds.
pub struct Bounded {
    body: Incoming,
    left_bytes: u64,
    surplus_left_bytes: Option<usize>,
    pause: Duration,
    until: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    reason: Reason,
}

impl Bounded {
    /// Bounds a body from now on.
    pub fn new(body: Incoming, bounds: Bounds) -> Self {
        Self {
            body,
            left_bytes: bounds.max_bytes,
            surplus_left_bytes: None,
            pause: bounds.pause,
            until: Instant::now() + bounds.total,
            timer: None,
            reason: Reason::default(),
        }
    }

    /// Tells, once the body has failed, why.
    pub fn reason(&self) -> Reason {
        self.reason.clone()
    }

    /// The first byte too many: from here on the rest is only taken in.
    fn overflow(&mut self) {
        self.pause = Duration::from_millis(DISCARD_TIMEOUT_MS);
        self.until = self.until.min(Instant::now() + self.pause);
        self.surplus_left_bytes = Some(DISCARD_MAX_BYTES);
    }

    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let fault = if self.surplus_left_bytes.is_some() { BodyFault::TooLarge } else { fault };
        // The first reason stays.
        self.reason.get_or_init(|| fault.code());
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                let due = self.until.min(Instant::now() + self.pause);
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                ready!(timer.as_mut().poll(context));
                return self.fail(BodyFault::TooSlow);
            };
            self.timer = None;
            let data = match frame {
                Some(Err(error)) => return self.fail(BodyFault::Broken(error)),
                Some(Ok(frame)) => frame.into_data().ok(),
                None => None,
            };
            let Some(data) = data else {
                let whole = self.surplus_left_bytes.is_none();
                return if whole { Poll::Ready(None) } else { self.fail(BodyFault::TooLarge) };
            };
            if Instant::now() > self.until {
                return self.fail(BodyFault::TooSlow);
            }
            if let Some(left_bytes) = self.surplus_left_bytes {
                self.surplus_left_bytes = Some(left_bytes.saturating_sub(data.len()));
                if left_bytes < data.len() {
                    return self.fail(BodyFault::TooLarge);
                }
                continue;
            }
            match self.left_bytes.checked_sub(u64::try_from(data.len()).unwrap_or(u64::MAX)) {
                None => self.overflow(),
                Some(left_bytes) => {
                    self.left_bytes = left_bytes;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is sent to an upstream.
pub enum Outbound {
    /// Complete, and kept by the proxy as well.
    Held(Full<Bytes>),
    /// Passed on as it comes.
    Streamed(Bounded),
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.get_mut() {
            Self::Held(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Streamed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// What is sent to the caller. Holds the request's place among those in flight until its last byte.
pub struct Answer {
    body: Outbound,
    _place: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// An answer that is passed on as it comes.
    pub fn streamed(body: Bounded) -> Self {
        Self { body: Outbound::Streamed(body), _place: None }
    }

    /// A complete answer.
    pub fn whole(body: Bytes) -> Self {
        Self { body: Outbound::Held(Full::new(body)), _place: None }
    }

    /// The same answer, keeping the place.
    #[must_use]
    pub fn holding(self, place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place), ..self }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
