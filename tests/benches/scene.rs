//! What is measured: a cluster with two ledger regions and one jurisdiction's reader and router under load.

use crate::cpu::Processes;
use crate::tokens::Es256;
use crate::wire::Target;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domicile_core::claims::Claims;
use domicile_core::ids::NodeId;
use domicile_service::config::TlsFiles;
use domicile_service::tls::ClientTls;
use domicile_tests::cluster::Cluster;
use domicile_tests::topology::{Place, document, region};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// Sessions, each with a seed chain of its own: as many as the largest number of callers.
const SESSIONS: usize = 256;
/// Requests per second that the router lets one address, and one token, ask: all load comes from one.
const RATE_PER_S: u32 = 10_000_000;

/// The writer in Malta, its standby in Germany.
const PLACES: &[Place] = &[Place { code: "MT", ledger: true }, Place { code: "DE", ledger: true }];

/// A player's session.
#[derive(Clone)]
pub(crate) struct Seat {
    /// The session token, as the writer signed it.
    pub(crate) token: String,
    /// What it claims.
    pub(crate) claims: Claims,
}

/// A running cluster and who plays on it.
pub(crate) struct Scene {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// The key for tokens that HAProxy can check.
    pub(crate) key: Es256,
    /// Sessions of MT players.
    pub(crate) seats: Vec<Seat>,
    /// Rounds settled so far.
    pub(crate) rounds: Vec<String>,
    internal: Arc<ClientTls>,
    outside: Arc<ClientTls>,
}

impl Scene {
    /// Starts the cluster, lifts the router's limits per caller, opens the sessions.
    pub(crate) async fn set() -> Self {
        let key = Es256::generate();
        let mut text = document("bench", PLACES).text;
        text.push_str(&key.document(&region(&PLACES[0])));
        let cluster = Cluster::start_document("bench", &text);
        let folder = cluster.state().join("nodes/router-mt/router");
        lift_limits(&cluster, &folder.join("config.toml"));
        let tls = |name: &str| folder.join("tls").join(name);
        let files = TlsFiles { cert: tls("cert.pem"), key: tls("key.pem"), ca: tls("ca.pem") };
        let internal = ClientTls::load(&files).expect("the router's certificate");
        let outside = ClientTls::anonymous(&files.ca).expect("the authority");
        let seats = seats(&cluster).await;
        Self { cluster, key, seats, rounds: Vec::new(), internal, outside }
    }

    /// The writer's own listener, entered with the router's certificate.
    pub(crate) fn writer(&self) -> Target {
        Target::new(&self.cluster.writer_endpoint(), &self.internal.config())
    }

    /// The reader's own listener, entered with the router's certificate.
    pub(crate) fn reader(&self) -> Target {
        Target::new(&self.cluster.reader("MT"), &self.internal.config())
    }

    /// The router's public listener.
    pub(crate) fn router(&self) -> Target {
        self.public(&self.cluster.router("MT"))
    }

    /// A public listener with a certificate of the cluster's authority.
    pub(crate) fn public(&self, url: &str) -> Target {
        Target::new(url, &self.outside.config())
    }

    /// Where the router's certificate and key are: HAProxy shows the same.
    pub(crate) fn router_tls(&self) -> PathBuf {
        self.cluster.state().join("nodes/router-mt/router/tls")
    }

    /// Parts of the cluster, such as `writer-mt/writer`.
    pub(crate) fn processes(&self, units: &[&str]) -> Processes {
        let pids: Vec<i32> = units.iter().map(|unit| self.cluster.pid(unit)).collect();
        Processes::new(&pids)
    }

    /// A database node's port.
    pub(crate) fn database_port(&self, node: &str) -> u16 {
        let node = NodeId::parse(node).expect("a node");
        let topology = self.cluster.topology();
        let address = topology.ledger(&node).map(|ledger| &ledger.postgres);
        let address = address.or_else(|| topology.reader(&node).map(|reader| &reader.postgres));
        address.expect("a database node").port()
    }
}

fn lift_limits(cluster: &Cluster, config: &std::path::Path) {
    let mut text = std::fs::read_to_string(config).expect("the router's configuration");
    let rate = format!("{{ per_s = {RATE_PER_S}, burst = {RATE_PER_S} }}");
    let _written = write!(text, "\n[limits]\naddress_rate = {rate}\ntoken_rate = {rate}\n");
    std::fs::write(config, text).expect("write the router's configuration");
    cluster.stop_unit("router-mt/router");
    cluster.start_unit("router-mt/router");
}

async fn seats(cluster: &Cluster) -> Vec<Seat> {
    let operator = cluster.operator("bench", &["MT"], "MT").await;
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..SESSIONS {
        let operator = operator.clone();
        opening.spawn(async move {
            operator.session(&format!("player-{number}"), "MT", "hilo-dice").await
        });
    }
    let opened: Vec<Value> = opening.join_all().await;
    opened.iter().map(seat).collect()
}

/// The seat of a session that was opened.
pub(crate) fn seat(opened: &Value) -> Seat {
    let token = opened["token"].as_str().expect("a token").to_owned();
    let payload = token.split('.').nth(1).expect("a payload");
    let claims = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    let claims = serde_json::from_slice(&claims).expect("claims");
    Seat { token, claims }
}
