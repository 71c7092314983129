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
use http_body_util::Full;
use hyper::body::Incoming;
use thiserror::Error;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

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

    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
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
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let due = self.until.min(Instant::now() + self.pause);
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            ready!(timer.as_mut().poll(context));
            return self.fail(BodyFault::TooSlow);
        };
        self.timer = None;
        let frame = match frame {
            None => return Poll::Ready(None),
            Some(Err(error)) => return self.fail(BodyFault::Broken(error)),
            Some(Ok(frame)) => frame,
        };
        let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
        match self.left_bytes.checked_sub(u64::try_from(data.len()).unwrap_or(u64::MAX)) {
            None => self.fail(BodyFault::TooLarge),
            Some(_) if Instant::now() > self.until => self.fail(BodyFault::TooSlow),
            Some(left_bytes) => {
                self.left_bytes = left_bytes;
                Poll::Ready(Some(Ok(Frame::data(data))))
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
