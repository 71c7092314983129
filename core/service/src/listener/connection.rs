//! One connection, from handshake to close.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use domicile_core::error::Code;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::{ListenerLimits, RemoteAddr};
use crate::peer::{Peer, PeerIdentity};
use crate::problem::Problem;

/// The smallest read buffer hyper accepts.
const HEADER_BUFFER_MIN_BYTES: usize = 8 * 1024;
/// What one HTTP/2 request body may have in flight.
const H2_STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// What one HTTP/2 connection may have in flight.
const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether a connection got a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Serve,
    Shed,
}

pub(super) struct Connection {
    pub(super) remote: RemoteAddr,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) limits: ListenerLimits,
    pub(super) closed: watch::Receiver<bool>,
    pub(super) verdict: Verdict,
}

impl Connection {
    pub(super) async fn run<S, B>(self, stream: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data: Buf + Send> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let gauge = metrics::gauge!("domicile_connections");
        gauge.increment(1);
        match self.tls.clone() {
            None => self.speak(stream, None, false, service).await,
            Some(config) => self.handshake(config, stream, service).await,
        }
        gauge.decrement(1);
    }

    async fn handshake<S, B>(self, config: Arc<rustls::ServerConfig>, stream: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data: Buf + Send> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let time = Duration::from_millis(self.limits.handshake_timeout_ms);
        let accepting = TlsAcceptor::from(config).accept(stream);
        let failed = |reason: &'static str| {
            metrics::counter!("domicile_tls_handshake_failures_total", "reason" => reason)
                .increment(1);
        };
        let stream = match tokio::time::timeout(time, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "handshake failed");
                return failed("refused");
            }
            Err(_elapsed) => return failed("timeout"),
        };
        let (_, session) = stream.get_ref();
        let peer = session
            .peer_certificates()
            .and_then(|chain| PeerIdentity::from_certificate(chain.first()?))
            .map(|identity| Peer(Arc::new(identity)));
        let h2 = session.alpn_protocol() == Some(b"h2");
        self.speak(stream, peer, h2, service).await;
    }

    async fn speak<I, S, B>(self, stream: I, peer: Option<Peer>, h2: bool, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data: Buf + Send> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let activity = Arc::new(Activity::default());
        let io = TokioIo::new(Watched { stream, activity: activity.clone() });
        if self.verdict == Verdict::Shed {
            self.shed(io, h2, activity).await;
            return;
        }
        let (remote, counter) = (self.remote, activity.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let busy = Busy::new(&counter);
            request.extensions_mut().insert(remote);
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            let answer = service.call(request);
            async move {
                let answer = answer.await;
                drop(busy);
                answer
            }
        });
        self.drive(io, h2, service, activity).await;
    }

    /// Answers one request with the reason, then closes.
    async fn shed<I>(mut self, io: TokioIo<Watched<I>>, h2: bool, activity: Arc<Activity>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (answered, closed) = watch::channel(false);
        self.closed = closed;
        let refuse = service_fn(move |_request| {
            answered.send_replace(true);
            let mut refusal = Problem::new(Code::TooManyConnections).to_http().map(Full::new);
            if !h2 {
                let close = HeaderValue::from_static("close");
                refusal.headers_mut().insert(header::CONNECTION, close);
            }
            std::future::ready(Ok::<_, Infallible>(refusal))
        });
        let time = Duration::from_millis(self.limits.handshake_timeout_ms);
        // A client that asks nothing in that time is closed without an answer.
        drop(tokio::time::timeout(time, self.drive(io, h2, refuse, activity)).await);
    }

    async fn drive<I, S, B>(
        &self,
        io: TokioIo<Watched<I>>,
        h2: bool,
        service: S,
        activity: Arc<Activity>,
    ) where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Send,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data: Buf + Send> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let limits = &self.limits;
        if h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(limits.max_streams)
                .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
                .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
                .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES);
            self.until_closed(builder.serve_connection(io, service), &activity).await;
        } else {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_millis(limits.header_read_timeout_ms))
                .max_buf_size(limits.max_header_bytes.max(HEADER_BUFFER_MIN_BYTES));
            self.until_closed(builder.serve_connection(io, service), &activity).await;
        }
    }

    async fn until_closed<C>(&self, connection: C, activity: &Activity)
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = std::pin::pin!(connection);
        let mut closed = self.closed.clone();
        let mut closing = false;
        let mut idle = IdleWatch::new(self.limits.idle_timeout_ms);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended early");
                    }
                    return;
                }
                _ = closed.wait_for(|closed| *closed), if !closing => {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = idle.passed(activity) => return,
            }
        }
    }
}

/// What happens on a connection, as far as being idle is concerned.
#[derive(Debug, Default)]
struct Activity {
    transfers: AtomicU64,
    requests: AtomicU64,
}

/// A request being handled.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        Self(activity.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks twice per idle time: two looks in a row without request and without traffic are the end.
struct IdleWatch {
    looks: tokio::time::Interval,
    transfers_seen: u64,
    silent_looks: u32,
}

impl IdleWatch {
    fn new(idle_timeout_ms: u64) -> Self {
        let period = Duration::from_millis((idle_timeout_ms / 2).max(1));
        let first = tokio::time::Instant::now() + period;
        Self { looks: tokio::time::interval_at(first, period), transfers_seen: 0, silent_looks: 0 }
    }

    async fn passed(&mut self, activity: &Activity) {
        while self.silent_looks < 2 {
            self.looks.tick().await;
            let transfers = activity.transfers.load(Ordering::Relaxed);
            let busy = activity.requests.load(Ordering::Relaxed) > 0;
            let silent = !busy && transfers == self.transfers_seen;
            self.silent_looks = if silent { self.silent_looks + 1 } else { 0 };
            self.transfers_seen = transfers;
        }
    }
}

/// A stream that counts its transfers.
struct Watched<I> {
    stream: I,
    activity: Arc<Activity>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.transfers.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.activity.transfers.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if written.is_ready() {
            self.activity.transfers.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
