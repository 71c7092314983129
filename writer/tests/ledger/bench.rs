//! A writer over a real Postgres, asked through its own HTTP application.

use crate::callers::Operator;
use crate::cluster::Server;
use axum::Router;
use axum::body::Body;
use domicile_control::Known;
use domicile_core::checkpoint::{origin, receipt_key_name};
use domicile_core::claims::{Claims, PlayerSession};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{ClusterId, Jurisdiction, NodeId, RegionId};
use domicile_core::note::{SigningKey, VerifierKey};
use domicile_core::seal::MasterKey;
use domicile_migrations::migrate_ledger;
use domicile_postgres::{AnswerGuard, Connection, Pool, Wait};
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::clock::{Clock, ManualClock};
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::health::Readiness;
use domicile_service::ids::IdSource;
use domicile_service::peer::{Peer, PeerIdentity, Role};
use domicile_service::testing::TestCa;
use domicile_service::tls::ClientTls;
use domicile_service::token::{TokenAlgorithm, TokenKeys, TokenSigner, TokenVerifier};
use domicile_topology::Topology;
use domicile_topology::document::Durability;
use domicile_topology::member::{JoinId, Member};
use domicile_topology::record::{Beginning, Record};
use domicile_writer::engine::{Engine, EngineParts};
use domicile_writer::floor::Floor;
use domicile_writer::http;
use domicile_writer::keys::Keys;
use domicile_writer::lease::{Standing, Tenure};
use domicile_writer::log::{
    self, Holders, LogHandle, LogPlace, LogSettings, LogSigner, LogTasks, Terms,
};
use domicile_writer::service::Service;
use domicile_writer::stream;
use domicile_writer::wallet::Book;
use http_body_util::BodyExt;
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt;

const EXAMPLE: &str = include_str!("../../../topology/examples/local.toml");
const SESSIONS: usize = 24;
/// The logs that are written.
const LOGS: [&str; 3] = ["MT", "DE", domicile_core::operation::LOG_CODE];
/// The slot of a reader in another region, where a test makes one.
pub(crate) const CONFIRMER: &str = "sub_reader_elsewhere";
/// When the tests take place.
pub(crate) const NOW_UNIX_S: u64 = 1_800_000_000;

/// Everything around one engine.
pub(crate) struct Bench {
    pub(crate) server: Arc<Server>,
    pub(crate) admin: Connection,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) app: Router,
    pub(crate) drain: Drain,
    pub(crate) keys: Vec<VerifierKey>,
    service: Arc<Service>,
    logs: Option<LogTasks>,
    topology: watch::Sender<Option<Known<Topology>>>,
    pub(crate) ca: Arc<TestCa>,
    token_key: String,
}

/// A tenure over a server without a standby, which passes for two copies here.
#[derive(Debug)]
struct Alone(Tenure);

impl AnswerGuard for Alone {
    fn holds(&self, _wait: Wait) -> bool {
        AnswerGuard::holds(&self.0, Wait::Kept)
    }

    fn rests_on_wait(&self) -> bool {
        false
    }

    fn heard(&self, _wait: Wait) {}
}

/// What the processes of one region have in common.
struct Common {
    server: Arc<Server>,
    clock: Arc<ManualClock>,
    tenure: Tenure,
    secrets: Arc<Keys>,
    keys: Vec<VerifierKey>,
    token_key: String,
    ca: Arc<TestCa>,
}

/// An answer, read.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) replayed: bool,
    pub(crate) headers: ::http::HeaderMap,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Expects a status and gives the document.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}

pub(crate) fn region() -> RegionId {
    RegionId::parse("mt-1").unwrap()
}

/// A record that names this writer's region, with two copies.
pub(crate) fn record() -> Record {
    let node = |name: &str| NodeId::parse(name).unwrap();
    let member = Member { node: node("ledger-de"), join_id: JoinId::from_random(1) };
    let first = Record::first(region(), node("ledger-mt"), 1);
    Record { durability: Durability::Two, sync_member: Some(member), ..first }
}

pub(crate) fn j(code: &str) -> Jurisdiction {
    Jurisdiction::parse(code).unwrap()
}

impl Bench {
    /// A migrated ledger with epoch 1 open and a writer for it.
    pub(crate) async fn new() -> Self {
        let (_sender, record) =
            watch::channel(Some(Known { value: Arc::new(record()), revision: None }));
        let clock = Arc::new(ManualClock::at_unix_s(NOW_UNIX_S));
        Self::under(Arc::new(Standing::new(record, region(), clock))).await
    }

    /// The same, with a standing of the test's own.
    pub(crate) async fn under(standing: Arc<Standing>) -> Self {
        let server = Server::primary().await;
        let mut admin = server.superuser().await;
        migrate_ledger(&mut admin, &[j("MT"), j("DE")]).await.unwrap();
        admin.batch_execute("ALTER ROLE domicile_writer LOGIN PASSWORD 'w'").await.unwrap();
        open_epoch(&admin, 1).await;
        Self::over(server, admin, standing).await
    }

    async fn over(server: Server, admin: Connection, standing: Arc<Standing>) -> Self {
        let clock = Arc::new(ManualClock::at_unix_s(NOW_UNIX_S));
        let ids = IdSource::new(clock.clone());
        let cluster = cluster();
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let receipt = SigningKey::from_seed(&receipt_key_name(&cluster), &ids.bytes()).unwrap();
        let mut keys = vec![receipt.verifier().clone()];
        let ca = TestCa::new();
        for code in LOGS {
            let key = SigningKey::from_seed(&origin(&cluster, &j(code), 1), &ids.bytes()).unwrap();
            keys.push(key.verifier().clone());
            let path = ca.folder().join(format!("log-{code}.key"));
            std::fs::write(path, key.to_text().as_bytes()).unwrap();
        }
        let master = MasterKey::new("m1", ids.bytes()).unwrap();
        let signer = TokenSigner::from_pem("s1", &pair.serialize_pem().into()).unwrap();
        let common = Common {
            server: Arc::new(server),
            clock,
            tenure: Tenure::new(standing, Epoch(1)),
            secrets: Arc::new(Keys::new(vec![master], receipt, signer, ids)),
            keys,
            token_key: pair.public_key_pem(),
            ca: Arc::new(ca),
        };
        Self::process(common, admin).await
    }

    /// Another writer process of the region, over the same ledger.
    pub(crate) async fn beside(&self) -> Self {
        let common = Common {
            server: Arc::clone(&self.server),
            clock: Arc::clone(&self.clock),
            tenure: self.engine.tenure.clone(),
            secrets: Arc::clone(&self.engine.keys),
            keys: self.keys.clone(),
            token_key: self.token_key.clone(),
            ca: Arc::clone(&self.ca),
        };
        Self::process(common, self.server.superuser().await).await
    }

    async fn process(common: Common, admin: Connection) -> Self {
        let Common { server, clock, tenure, secrets, keys, token_key, ca } = common;
        let mut config = server.pool_config(SESSIONS);
        config.connect = server.config("domicile_writer", "w");
        let pool = Pool::guarded(config, Arc::new(Alone(tenure.clone()))).unwrap();
        let client =
            HttpClient::new(&ca.client(Role::Writer, "writer-mt"), ClientLimits::default());
        let places = LOGS.map(|code| place(code, &keys, &ca, &client)).into();
        let terms = Terms {
            tenure: tenure.clone(),
            beginning: Beginning::First,
            waived: BTreeSet::new(),
            clock: clock.clone(),
        };
        let (log, logs) = log::start(LogSettings { pool: pool.clone(), terms, places });
        let topology = Known { value: Arc::new(Topology::parse(EXAMPLE).unwrap()), revision: None };
        let (published, topology) = watch::channel(Some(topology));
        let engine = Arc::new(Engine::start(EngineParts {
            cluster: cluster(),
            region: region(),
            tenure,
            pool,
            log,
            wallets: no_wallets(&secrets, &ca, &clock),
            keys: secrets,
            clock: clock.clone(),
            ids: IdSource::new(clock.clone()),
            topology,
        }));
        let mut public = TokenKeys::new();
        public.add("s1", TokenAlgorithm::EdDsa, &token_key).unwrap();
        let drain = Drain::new(DrainLimits::default());
        let verifier = TokenVerifier::new(cluster(), clock.clone(), public);
        let service = Arc::new(Service::new(verifier, drain.clone()));
        service.serve(engine.clone());
        let app = http::app(&service, &Readiness::new(drain.clone()), &cluster());
        let logs = Some(logs);
        let bench = Self {
            server,
            admin,
            clock,
            engine,
            app,
            drain,
            keys,
            service,
            logs,
            topology: published,
            ca,
            token_key,
        };
        bench.logs_are_live().await;
        bench
    }

    async fn logs_are_live(&self) {
        for code in ["MT", "DE"] {
            let begun = std::time::Instant::now();
            while self.engine.check_writable(&j(code)).is_err() {
                assert!(begun.elapsed() < Duration::from_secs(10), "{code}'s log does not start");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Takes the engine away, as when the record names another region.
    pub(crate) fn stand_by(&self) {
        self.service.pause(false);
    }

    /// Begins to close, as when the record says that the writer is about to move.
    pub(crate) fn close(&self) {
        self.service.pause(true);
        self.engine.close();
    }

    /// Publishes a topology in which this writer's region may not write for the jurisdiction.
    pub(crate) fn suspend(&self, code: &str) {
        let mut topology = Topology::parse(EXAMPLE).unwrap();
        let mut policies = topology.jurisdictions.iter_mut();
        let policy = policies.find(|policy| policy.code == j(code)).unwrap();
        policy.writer_regions.remove(&region());
        self.topology.send_replace(Some(Known { value: Arc::new(topology), revision: None }));
    }

    /// Starts a later epoch's sequencer of the MT log, which asks these holders (name, URL of the checkpoint).
    pub(crate) fn log_of_epoch(
        &self,
        begun: (u64, Beginning),
        holders: &[(&str, String)],
        waived: &[&str],
    ) -> (LogHandle, LogTasks) {
        let asked = holders.iter().map(|(name, url)| ((*name).to_owned(), url.clone())).collect();
        self.log_held_by(begun, Holders::new(&self.holders_client(), asked), waived)
    }

    /// What asks holders.
    pub(crate) fn holders_client(&self) -> HttpClient {
        HttpClient::new(&self.ca.client(Role::Writer, "writer-mt"), ClientLimits::default())
    }

    /// The same, with whoever holds it.
    pub(crate) fn log_held_by(
        &self,
        (epoch, beginning): (u64, Beginning),
        holders: Holders,
        waived: &[&str],
    ) -> (LogHandle, LogTasks) {
        let record = Record { epoch: Epoch(epoch), beginning, ..record() };
        let (_sender, record) =
            watch::channel(Some(Known { value: Arc::new(record), revision: None }));
        let standing = Standing::new(record, region(), self.clock.clone());
        let tenure = Tenure::new(Arc::new(standing), Epoch(epoch));
        let mut config = self.server.pool_config(SESSIONS);
        config.connect = self.server.config("domicile_writer", "w");
        let pool = Pool::guarded(config, Arc::new(Alone(tenure.clone()))).unwrap();
        let key = self.keys.iter().find(|key| key.name().contains("/MT/")).unwrap();
        let signer = LogSigner::load(&self.ca.folder().join("log-MT.key"), key).unwrap();
        let place = LogPlace { jurisdiction: j("MT"), signer, holders, confirmers: Vec::new() };
        let waived = waived.iter().map(|name| NodeId::parse(name).unwrap()).collect();
        let terms = Terms { tenure, beginning, waived, clock: self.clock.clone() };
        log::start(LogSettings { pool, terms, places: vec![place] })
    }

    /// The engine of a writer that takes over, and serves.
    pub(crate) fn next_engine(&self) -> Arc<Engine> {
        let mut config = self.server.pool_config(SESSIONS);
        config.connect = self.server.config("domicile_writer", "w");
        let tenure = self.engine.tenure.clone();
        let pool = Pool::guarded(config, Arc::new(Alone(tenure.clone()))).unwrap();
        let engine = Arc::new(Engine::start(EngineParts {
            cluster: self.engine.cluster.clone(),
            region: region(),
            tenure,
            pool,
            log: self.engine.log.clone(),
            keys: Arc::clone(&self.engine.keys),
            clock: self.clock.clone(),
            ids: self.engine.ids.clone(),
            wallets: Arc::clone(&self.engine.money.book),
            topology: self.topology.subscribe(),
        }));
        self.service.serve(Arc::clone(&engine));
        engine
    }

    /// Lets this engine run tables, as a process of its own would.
    pub(crate) fn floor(&self, engine: &Arc<Engine>) -> Floor {
        let mut config = self.server.pool_config(1);
        config.connect = self.server.config("domicile_writer", "w");
        Floor::start(engine, Pool::new(config).unwrap())
    }

    /// Stops the sequencers.
    pub(crate) async fn stop_logs(&mut self) {
        self.logs.take().expect("the sequencers run").stop().await;
    }

    /// A token of this writer's signing key with claims of one's own.
    pub(crate) fn token(&self, session: &PlayerSession, jurisdiction: &str, life_s: u64) -> String {
        let now = self.clock.now_unix_s();
        let claims = Claims::player(&self.engine.cluster, session, &j(jurisdiction), now, life_s);
        self.engine.keys.tokens.sign(&claims).unwrap()
    }

    /// Sends a request as a peer of this role.
    pub(crate) async fn send(
        &self,
        role: Role,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.send_as((role, "peer-1"), method, path, headers, body).await
    }

    /// Sends a request as this peer.
    pub(crate) async fn send_as(
        &self,
        peer: (Role, &str),
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let response = self.open(peer, method, path, headers, body).await;
        let (head, body) = response.into_parts();
        Answer {
            status: head.status.as_u16(),
            body: body.collect().await.unwrap().to_bytes().to_vec(),
            replayed: head.headers.get("domicile-replayed").is_some_and(|v| v == "true"),
            headers: head.headers,
        }
    }

    /// Sends a request as this peer, and leaves the answer's body to the test.
    pub(crate) async fn open(
        &self,
        (role, name): (Role, &str),
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> ::http::Response<Body> {
        let cluster = self.engine.cluster.clone();
        let peer = PeerIdentity { cluster, role, node: NodeId::parse(name).unwrap() };
        let mut request = ::http::Request::builder().method(method).uri(path);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_vec())).unwrap();
        request.extensions_mut().insert(Peer(Arc::new(peer)));
        self.app.clone().oneshot(request).await.unwrap()
    }

    /// Feeds those who watch rounds from this engine.
    pub(crate) fn feed(&self, engine: &Arc<Engine>) {
        tokio::spawn(stream::run(Arc::clone(&self.service), Arc::downgrade(engine)));
    }

    /// Registers an operator for MT and DE with every game.
    pub(crate) async fn operator(&self, id: &str) -> Operator {
        let body = json!({
            "id": id, "name": id, "jurisdictions": ["MT", "DE"], "games": ["hilo-dice", "wheel"],
            "allowed_origins": ["https://play.example"],
            "launch_base_url": "https://play.example/launch", "reason": "a test",
        });
        let path = "/internal/v1/operators";
        let answer = self.send(Role::Ctl, "POST", path, &[], body.to_string().as_bytes()).await;
        Operator::from_answer(&answer.expect(201))
    }

    /// A number from the ledger.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.admin.query(sql, &[]).await.unwrap()[0].get(0)
    }
}

fn cluster() -> ClusterId {
    ClusterId::parse("demo").unwrap()
}

fn place(code: &str, keys: &[VerifierKey], ca: &TestCa, client: &HttpClient) -> LogPlace {
    let path = ca.folder().join(format!("log-{code}.key"));
    let name = origin(&cluster(), &j(code), 1);
    let published = keys.iter().find(|key| key.name() == name).unwrap();
    let signer = LogSigner::load(&path, published).unwrap();
    let holders = Holders::new(client, Vec::new());
    LogPlace { jurisdiction: j(code), signer, holders, confirmers: vec![CONFIRMER.to_owned()] }
}

fn no_wallets(keys: &Arc<Keys>, ca: &TestCa, clock: &Arc<ManualClock>) -> Arc<Book> {
    let tls = ClientTls::anonymous(&ca.ca_file()).unwrap();
    Arc::new(Book::new(Arc::clone(keys), tls, clock.clone()))
}

pub(crate) async fn open_epoch(admin: &Connection, epoch: u64) {
    let sql = format!(
        "INSERT INTO ledger.epoch (epoch, region, node, opened_at) VALUES ({epoch}, 'mt-1', 'ledger-mt', now())"
    );
    admin.batch_execute(&sql).await.unwrap();
}
