//! A router between callers and scripted upstreams, all over TLS on loopback. The control plane is away:
//! the router lives on what its cache files say.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use domicile_core::claims::{Claims, PlayerSession};
use domicile_core::ids::{ClusterId, Jurisdiction, PlayerRef, RegionId};
use domicile_router::Router;
use domicile_router::config::{Config, Limits};
use domicile_router::connect::Connector;
use domicile_router::forward::Forwarder;
use domicile_router::proxy::Proxy;
use domicile_router::route::Routes;
use domicile_router::upstream::Upstreams;
use domicile_service::clock::SystemClock;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::health::Readiness;
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::peer::{Peer, Role};
use domicile_service::testing::TestCa;
use domicile_service::tls::{ClientAuth, ClientTls, ServerTls};
use domicile_service::token::{TokenKeys, TokenSigner, TokenVerifier};
use domicile_topology::Topology;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{KeyPair, PKCS_ED25519};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) type TestBody = BoxBody<Bytes, Infallible>;
type Answering = Pin<Box<dyn Future<Output = Response<TestBody>> + Send>>;
type Script = Arc<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// What the router asks a writer by itself: nothing is revoked, and tests neither see nor script it.
const REVOCATIONS: &str = "/feed/v1/revocations";
/// Time of a wait that should not be needed in full.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The names of the upstreams, with role, region and (for readers) jurisdictions.
const NODES: [(&str, Role, &str, &str); 5] = [
    ("writer-mt", Role::Writer, "mt-1", ""),
    ("writer-de", Role::Writer, "de-1", ""),
    ("reader-mt", Role::Reader, "mt-1", r#"["MT"]"#),
    ("reader-mt-far", Role::Reader, "de-1", r#"["MT"]"#),
    ("reader-de", Role::Reader, "de-1", r#"["DE"]"#),
];

/// What an upstream was asked.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Option<String>,
}

/// A router assembled by hand, whose control record the test decides.
pub(crate) async fn router_without_control(fixture: &Fixture) -> (SocketAddr, Arc<Forwarder>) {
    let cluster = ClusterId::parse("demo").unwrap();
    let tls = fixture.ca.client(Role::Router, "router-by-hand");
    let connector = Connector::new(cluster.clone(), tls, PATIENCE);
    let limits = Limits::default();
    let forwarder = Arc::new(Forwarder::new(Upstreams::new(connector, &limits), limits));
    forwarder.follow_topology(Routes::new(&fixture.topology, &RegionId::parse("mt-1").unwrap()));
    forwarder.probe().await;
    let clock = Arc::new(SystemClock);
    let verifier = Arc::new(TokenVerifier::new(cluster, clock.clone(), TokenKeys::new()));
    let proxy = Proxy::new(forwarder.clone(), verifier, clock, limits, 16 * 1024);
    let files = fixture.ca.issue(Role::Router, "router-by-hand");
    let tls = ServerTls::load(&files, ClientAuth::None).unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(addr, Some(tls), ListenerLimits::default()).await.unwrap();
    let (addr, drain) = (listener.local_addr(), fixture.drain.clone());
    tokio::spawn(async move { listener.serve(proxy, &drain).await });
    (addr, forwarder)
}

/// A scripted upstream.
pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Script>>,
    drain: Drain,
}

impl Node {
    /// Everything it was asked besides probes and the router's own questions.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// From now on it answers like this. `/readyz` is asked too.
    pub(crate) fn answers<F>(&self, script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response<TestBody>> + Send + 'static,
    {
        *self.script.lock().unwrap() = Arc::new(move |request| Box::pin(script(request)));
    }

    /// Stays ready and answers everything else like this.
    pub(crate) fn answers_with(
        &self,
        answer: impl Fn() -> Response<TestBody> + Send + Sync + 'static,
    ) {
        self.answers(move |request| {
            let probe = request.uri().path() == "/readyz";
            std::future::ready(if probe { text(StatusCode::OK, "ready") } else { answer() })
        });
    }

    /// Stops listening; new connections are refused.
    pub(crate) fn stop(&self) {
        self.drain.begin("test");
    }
}

pub(crate) struct Fixture {
    pub(crate) ca: TestCa,
    pub(crate) addr: SocketAddr,
    // Holds the router's files for as long as it runs.
    _folder: TempDir,
    pub(crate) drain: Drain,
    pub(crate) topology: Topology,
    pub(crate) readiness: Readiness,
    nodes: Vec<(&'static str, Node)>,
    signer: TokenSigner,
}

/// How a fixture differs from the ordinary one.
#[derive(Default)]
pub(crate) struct Setup {
    /// Lines of the configuration file, such as `limits = { … }`.
    pub(crate) config: &'static str,
    /// Upstreams that do not listen at the start.
    pub(crate) absent: &'static [&'static str],
    /// An upstream that shows the certificate of another node.
    pub(crate) impostor: Option<(&'static str, Role, &'static str)>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let (ca, folder) = (TestCa::new(), tempfile::tempdir().unwrap());
        let mut nodes = Vec::new();
        for (name, role, ..) in NODES {
            let (role, shown) = match setup.impostor {
                Some((node, role, shown)) if node == name => (role, shown),
                _ => (role, name),
            };
            let node = start_node(&ca, role, shown, name, 0).await;
            if setup.absent.contains(&name) {
                node.stop();
            }
            nodes.push((name, node));
        }
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let topology = Topology::parse(&document(&nodes, &key.public_key_pem())).unwrap();
        std::fs::write(folder.path().join("topology.json"), topology.to_json().unwrap()).unwrap();
        write_record(folder.path());
        let signer = TokenSigner::from_pem("k1", &key.serialize_pem().into()).unwrap();
        let config = config(&ca, setup.config);
        let drain = Drain::new(DrainLimits { grace_ms: 0, wait_ms: 5_000 });
        let readiness = Readiness::new(drain.clone());
        let router = Router::start(&config, folder.path(), &drain, &readiness);
        let router = router.await.unwrap().unwrap();
        let addr = router.local_addr();
        let served = drain.clone();
        tokio::spawn(async move { router.serve(&served).await });
        Self { ca, addr, _folder: folder, drain, topology, readiness, nodes, signer }
    }

    pub(crate) fn node(&self, name: &str) -> &Node {
        &self.nodes.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// Starts an absent upstream at its address.
    pub(crate) async fn revive(&mut self, name: &'static str) {
        let (_, role, ..) = NODES.into_iter().find(|(known, ..)| *known == name).unwrap();
        let port = self.node(name).addr.port();
        let node = start_node(&self.ca, role, name, name, port).await;
        self.nodes.iter_mut().find(|(known, _)| *known == name).unwrap().1 = node;
    }

    /// A player's token of the jurisdiction.
    pub(crate) fn token(&self, jurisdiction: &str) -> String {
        let session = PlayerSession {
            operator: "acme".parse().unwrap(),
            player: PlayerRef::parse("player-1").unwrap(),
            session: domicile_core::ids::SessionId::parse("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a01")
                .unwrap(),
            game: "wheel".parse().unwrap(),
            currency: domicile_core::money::Currency::parse("EUR").unwrap(),
        };
        let now = domicile_service::clock::Clock::now_unix_s(&domicile_service::clock::SystemClock);
        let jurisdiction = Jurisdiction::parse(jurisdiction).unwrap();
        let cluster = ClusterId::parse("demo").unwrap();
        self.signer.sign(&Claims::player(&cluster, &session, &jurisdiction, now, 600)).unwrap()
    }

    pub(crate) async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        self.connect_to(self.addr, alpn).await
    }

    pub(crate) async fn connect_to(&self, addr: SocketAddr, alpn: &str) -> TlsStream<TcpStream> {
        let tls = ClientTls::anonymous(&self.ca.ca_file()).unwrap();
        let mut tls = rustls::ClientConfig::clone(&tls.config());
        tls.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let tcp = TcpStream::connect(addr).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.unwrap()
    }

    pub(crate) async fn h1(&self) -> http1::SendRequest<TestBody> {
        self.h1_to(self.addr).await
    }

    pub(crate) async fn h1_to(&self, addr: SocketAddr) -> http1::SendRequest<TestBody> {
        let io = TokioIo::new(self.connect_to(addr, "http/1.1").await);
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub(crate) async fn h2(&self) -> http2::SendRequest<TestBody> {
        let io = TokioIo::new(self.connect("h2").await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request on a connection of its own, and its whole answer.
    pub(crate) async fn send(&self, request: Request<TestBody>) -> Response<Bytes> {
        let answer = self.h1().await.send_request(request).await.unwrap();
        whole(answer).await
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Response<Bytes> {
        self.send(request(Method::GET, path, token, "")).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> Response<Bytes> {
        self.send(request(Method::POST, path, token, body)).await
    }

    /// Waits until the router answers this read with 200, as its probes come in.
    pub(crate) async fn until_served(&self, path: &str, token: Option<&str>) {
        let served = async {
            while self.get(path, token).await.status() != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.unwrap();
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> Request<TestBody> {
    let mut request = Request::builder().method(method).uri(path).header("host", "router.test");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(full(body.as_bytes().to_vec())).unwrap()
}

pub(crate) async fn whole(answer: Response<Incoming>) -> Response<Bytes> {
    let (head, body) = answer.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).boxed()
}

pub(crate) fn text(status: StatusCode, body: &str) -> Response<TestBody> {
    Response::builder().status(status).body(full(body.to_owned())).unwrap()
}

pub(crate) fn problem(code: domicile_core::error::Code) -> Response<TestBody> {
    domicile_service::problem::Problem::new(code).to_http().map(full)
}

/// The problem code of an answer.
pub(crate) fn code(answer: &Response<Bytes>) -> String {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let document: Value = serde_json::from_slice(answer.body()).unwrap();
    document["code"].as_str().unwrap().to_owned()
}

/// A body that is sent piece by piece.
pub(crate) struct Pieces(mpsc::Receiver<Bytes>);

impl Pieces {
    pub(crate) fn channel() -> (mpsc::Sender<Bytes>, TestBody) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver).boxed())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

async fn start_node(ca: &TestCa, role: Role, shown: &str, name: &'static str, port: u16) -> Node {
    let tls = ca.server(role, shown);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let listener = Listener::bind(addr, Some(tls), ListenerLimits::default()).await.unwrap();
    let addr = listener.local_addr();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let echo: Script = Arc::new(move |_| Box::pin(std::future::ready(text(StatusCode::OK, name))));
    let script = Arc::new(Mutex::new(echo));
    let drain = Drain::new(DrainLimits { grace_ms: 0, wait_ms: 0 });
    let (noted, current, ending) = (seen.clone(), script.clone(), drain.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let is_feed = request.uri().path() == REVOCATIONS;
        if !is_feed && request.uri().path() != "/readyz" {
            let peer = request.extensions().get::<Peer>().map(|peer| peer.0.uri());
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let seen = Seen { method, uri, headers: request.headers().clone(), peer };
            noted.lock().unwrap().push(seen);
        }
        let script = current.lock().unwrap().clone();
        async move {
            if is_feed {
                return Ok::<_, Infallible>(text(StatusCode::OK, r#"{"revoked":[],"more":false}"#));
            }
            Ok(script(request).await)
        }
    });
    tokio::spawn(async move { listener.serve(service, &ending).await });
    Node { addr, seen, script, drain }
}

fn config(ca: &TestCa, more: &str) -> Config {
    let tls = ca.issue(Role::Router, "router-mt");
    let text = format!(
        "node = 'router-mt'\ncluster = 'demo'\nregion = 'mt-1'\n\
         listen = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n\
         tls = {{ cert = '{}', key = '{}', ca = '{}' }}\n\
         control = {{ endpoints = ['https://127.0.0.1:1'], topology_cache = 'topology.json' }}\n\
         {more}\n",
        tls.cert.display(),
        tls.key.display(),
        tls.ca.display(),
    );
    toml::from_str(&text).unwrap()
}

fn write_record(folder: &Path) {
    let record = r#"{
        "epoch": 1, "writer_region": "mt-1", "writer_node": "ledger-mt", "durability": "two",
        "sync_member": { "node": "ledger-de", "join_id": "0123456789abcdef" },
        "promotable": true, "topology_generation": 1 }"#;
    std::fs::write(folder.join("topology.record.json"), record).unwrap();
}

fn document(nodes: &[(&str, Node)], public_key_pem: &str) -> String {
    let mut text = include_str!("topology.toml").replace("{public_key}", public_key_pem);
    for (name, role, region, jurisdictions) in NODES {
        let (_, node) = nodes.iter().find(|(known, _)| *known == name).unwrap();
        let port = node.addr.port();
        let kind = role.as_str();
        let own = format!(
            "\n[[{kind}]]\nnode = '{name}'\nregion = '{region}'\nendpoint = 'https://127.0.0.1:{port}'\n\
             admin = '{name}.test:1'\n"
        );
        text.push_str(&own);
        if role == Role::Reader {
            let own = format!(
                "jurisdictions = {jurisdictions}\npostgres = '{name}.test:2'\n\
                 agent = 'https://{name}.test:3'\nagent_admin = '{name}.test:4'\n"
            );
            text.push_str(&own);
        }
    }
    text
}
