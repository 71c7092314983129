//! The leanest HTTP/1.1 client that is still one: keep-alive over TLS, whole answers, nothing else.
//!
//! It runs on the same cores as the server under test, so each microsecond here is missing there.
//! Deliberately absent: chunked answers (none of the measured paths sends them), redirects, pipelining.

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Largest answer, bytes.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// Where to connect, and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    /// Host and port.
    pub(crate) address: String,
    tls: Arc<ClientConfig>,
}

impl Target {
    /// From a base URL such as `https://127.0.0.1:7130`.
    pub(crate) fn new(url: &str, tls: &ClientConfig) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let address = url.trim_start_matches("https://").trim_end_matches('/').to_owned();
        Self { address, tls: Arc::new(tls) }
    }

    /// Connects and shakes hands.
    pub(crate) async fn open(&self) -> Connection {
        let tcp = TcpStream::connect(&self.address).await.expect("connect");
        tcp.set_nodelay(true).expect("no delay");
        let host = self.address.split(':').next().expect("a host").to_owned();
        let name = ServerName::try_from(host).expect("a server name");
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, tcp).await.expect("a TLS handshake");
        Connection { stream, buffer: Vec::with_capacity(16 * 1024) }
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
        let address = &self.address;
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// One connection, used for one request after the other.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// A whole answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Sends a request and reads its answer to the end.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Answer<'_> {
        self.stream.write_all(request).await.expect("send a request");
        self.stream.flush().await.expect("send a request");
        self.buffer.clear();
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.more().await;
        };
        let (status, length) = parse(&self.buffer[..head]);
        let start = head + 4;
        while self.buffer.len() < start + length {
            self.more().await;
        }
        Answer { status, body: &self.buffer[start..start + length] }
    }

    async fn more(&mut self) {
        assert!(self.buffer.len() < ANSWER_MAX_BYTES, "an answer beyond {ANSWER_MAX_BYTES} bytes");
        let read = self.stream.read_buf(&mut self.buffer).await.expect("read an answer");
        assert!(read > 0, "the server closed the connection");
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn parse(head: &[u8]) -> (u16, usize) {
    let head = std::str::from_utf8(head).expect("a head in ASCII");
    let status = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().parse().expect("a length"));
    (status, length.unwrap_or_else(|| panic!("an answer without content-length:\n{head}")))
}
