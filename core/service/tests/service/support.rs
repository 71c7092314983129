//! A server to test against, and a client that can misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::drain::{Drain, DrainLimits, DrainReport};
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::peer::{Peer, Role};
use domicile_service::request;
use domicile_service::testing::TestCa;
use domicile_service::tls::{ClientTls, ServerTls};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

pub(crate) const LOCAL: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) ended: JoinHandle<DrainReport>,
}

impl Server {
    pub(crate) async fn start(
        tls: Option<Arc<ServerTls>>,
        limits: ListenerLimits,
        drain: DrainLimits,
        routes: Router,
    ) -> Self {
        let listener = Listener::bind(LOCAL, tls, limits).await.unwrap();
        let (addr, drain) = (listener.local_addr(), Drain::new(drain));
        let (leaving, app) = (drain.clone(), request::app(routes));
        let ended = tokio::spawn(async move { listener.serve_app(app, &leaving).await });
        Self { addr, drain, ended }
    }

    pub(crate) async fn plain(limits: ListenerLimits, routes: Router) -> Self {
        Self::start(None, limits, DrainLimits::default(), routes).await
    }

    pub(crate) async fn mutual(ca: &TestCa, routes: Router) -> Self {
        let tls = ca.server(Role::Writer, "writer-a");
        Self::start(Some(tls), ListenerLimits::default(), DrainLimits::default(), routes).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }

    pub(crate) async fn raw(&self, tls: &ClientTls) -> Raw<TlsStream<TcpStream>> {
        let connector = tokio_rustls::TlsConnector::from(tls.config());
        let name = ServerName::from(self.addr.ip());
        let stream = TcpStream::connect(self.addr).await.unwrap();
        Raw(connector.connect(name, stream).await.unwrap())
    }

    pub(crate) async fn raw_plain(&self) -> Raw<TcpStream> {
        Raw(TcpStream::connect(self.addr).await.unwrap())
    }
}

/// `GET /whoami` answers with the peer's role and node.
pub(crate) fn whoami() -> Router {
    Router::new().route(
        "/whoami",
        get(|peer: Peer| std::future::ready(format!("{} {}", peer.0.role.as_str(), peer.0.node))),
    )
}

pub(crate) fn client(tls: &Arc<ClientTls>) -> HttpClient {
    HttpClient::new(tls, ClientLimits { request_timeout_ms: 5_000, ..Default::default() })
}

/// A connection that is driven byte by byte.
pub(crate) struct Raw<S>(pub(crate) S);

impl<S: AsyncReadExt + AsyncWriteExt + Unpin> Raw<S> {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// GET on a kept connection; the whole answer as text.
    pub(crate) async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n")).await;
        self.answer().await
    }

    /// One answer with a `content-length`.
    pub(crate) async fn answer(&mut self) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !is_complete(&text) {
            let read = tokio::time::timeout(Duration::from_secs(10), self.0.read(&mut buffer));
            match read.await.expect("an answer within 10 s").unwrap_or(0) {
                0 => break,
                count => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
            }
        }
        text
    }

    /// Waits until the server closes; what it still said.
    pub(crate) async fn closed(&mut self) -> String {
        String::from_utf8(self.raw_closed().await).unwrap()
    }

    /// The same for what is not text.
    pub(crate) async fn raw_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = self.0.read_to_end(&mut rest);
        // An abrupt close is a close too.
        drop(
            tokio::time::timeout(Duration::from_secs(10), read).await.expect("closed within 10 s"),
        );
        rest
    }
}

fn is_complete(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
        .unwrap_or(0);
    body.len() >= length
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within 10 s: {what}");
}
