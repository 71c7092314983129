//! Connections to upstreams: mutual TLS, and the peer must be who the topology says listens there.
//!
//! Invariant: no request leaves on a connection whose certificate does not name this cluster and the
//! role and node of that address. A valid certificate of another service is not enough.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use domicile_core::ids::{ClusterId, NodeId};
use domicile_service::{peer, tls::ClientTls};
use http::{Uri, uri::Authority};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::route::{Role, Upstream};

/// Why there is no connection. Nothing of a request was sent.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address is not an upstream of the present topology.
    #[error("not an upstream of the topology")]
    Unknown,
    /// No connection, or no handshake.
    #[error("no connection")]
    Io(#[from] io::Error),
    /// Not within its time.
    #[error("no connection in time")]
    Timeout,
    /// Another service listens there.
    #[error("the certificate is not the one of {0}")]
    Stranger(NodeId),
}

type Expected = HashMap<Authority, (Role, NodeId)>;

/// Makes connections for the pool.
#[derive(Clone)]
pub struct Connector {
    cluster: ClusterId,
    tls: TlsConnector,
    // Keeps the certificate files being followed.
    _files: Arc<ClientTls>,
    timeout: Duration,
    expected: Arc<ArcSwap<Expected>>,
}

impl Connector {
    /// A connector that shows the given certificate.
    pub fn new(cluster: ClusterId, files: Arc<ClientTls>, timeout: Duration) -> Self {
        let mut config = ClientConfig::clone(&files.config());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        Self { cluster, tls, _files: files, timeout, expected: Arc::default() }
    }

    /// From now on these are the upstreams.
    pub fn expect(&self, upstreams: &[Arc<Upstream>]) {
        let entry = |u: &Arc<Upstream>| (u.authority.clone(), (u.role, u.node.clone()));
        self.expected.store(Arc::new(upstreams.iter().map(entry).collect()));
    }

    async fn connect(self, uri: Uri) -> Result<Link, ConnectError> {
        let authority = uri.authority().ok_or(ConnectError::Unknown)?;
        let (role, node) =
            self.expected.load().get(authority).cloned().ok_or(ConnectError::Unknown)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().ok_or(ConnectError::Unknown)?;
        let name = ServerName::try_from(host.clone()).ok().ok_or(ConnectError::Unknown)?;
        let handshake = async {
            let tcp = TcpStream::connect((host, port)).await?;
            tcp.set_nodelay(true)?;
            self.tls.connect(name, tcp).await
        };
        let stream = tokio::time::timeout(self.timeout, handshake)
            .await
            .ok()
            .ok_or(ConnectError::Timeout)??;
        if self.is_peer(&stream, role, &node) {
            Ok(Link(TokioIo::new(stream)))
        } else {
            Err(ConnectError::Stranger(node))
        }
    }

    fn is_peer(&self, stream: &TlsStream<TcpStream>, role: Role, node: &NodeId) -> bool {
        let role = match role {
            Role::Writer => peer::Role::Writer,
            Role::Reader => peer::Role::Reader,
        };
        let (_, session) = stream.get_ref();
        session
            .peer_certificates()
            .and_then(|chain| peer::PeerIdentity::from_certificate(chain.first()?))
            .is_some_and(|peer| {
                peer.cluster == self.cluster && peer.role == role && &peer.node == node
            })
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// An established connection.
pub struct Link(TokioIo<TlsStream<TcpStream>>);

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }
}
