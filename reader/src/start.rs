//! Build and run: from a configuration to a listening reader.

use crate::access::Access;
use crate::auditor::Auditor;
use crate::config::ReaderConfig;
use crate::evidence::Evidence;
use crate::freshness;
use crate::readiness;
use crate::routes::routes;
use crate::state::{Log, Reader};
use crate::store::{LogId, Store};
use anyhow::Context;
use axum::Router;
use domicile_control::{ControlClient, ControlConfig, TlsPaths, Watch};
use domicile_core::checkpoint::Origin;
use domicile_core::error::Code;
use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_core::note::VerifierKey;
use domicile_core::operation::Grade;
use domicile_postgres::{ConnectConfig, Pool, PoolConfig};
use domicile_service::admin;
use domicile_service::clock::SystemClock;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::health::Readiness;
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::peer::{PeerGuard, Role};
use domicile_service::request::{self, Deadline};
use domicile_service::tasks;
use domicile_service::telemetry::Telemetry;
use domicile_service::tls::{ClientAuth, ClientTls, ServerTls};
use domicile_service::token::{TokenAlgorithm, TokenKeys, TokenVerifier};
use domicile_topology::Topology;
use domicile_topology::document::{self, ReaderNode};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the first topology may take, from the control plane or the disk, in milliseconds.
const TOPOLOGY_WAIT_MS: u64 = 60_000;
/// How long one request may take, in milliseconds; the bounded waits fit in it twice.
const REQUEST_TIMEOUT_MS: u64 = 10_000;
/// How long a connection to the replica may take, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// How long one read of the replica may take, in milliseconds.
const STATEMENT_TIMEOUT_MS: u64 = 5_000;
/// Sessions kept for audit and lag, so that a full house of callers cannot starve them.
const OWN_SESSIONS: usize = 4;
/// Peers that may read here. Routers speak for players, writers ask at their log gate, agents look at the
/// state, and so does every person.
const PEERS: &[Role] = &[Role::Router, Role::Writer, Role::Agent];

/// Runs the reader until it is told to leave.
pub async fn run(config: ReaderConfig, folder: &Path, telemetry: &Telemetry) -> anyhow::Result<()> {
    let drain = Drain::new(DrainLimits::default());
    drain.on_signals().context("cannot listen for signals")?;
    let readiness = Readiness::new(drain.clone());
    let topology_watch = control(&config, folder)?.watch_topology();
    let listening = readiness.check("listener");
    admin::start(config.admin_listen, &readiness, telemetry.metrics(), Router::new()).await?;
    let topology = topology_watch
        .wait_known(Duration::from_millis(TOPOLOGY_WAIT_MS))
        .await
        .context("no topology from the control plane, and none on disk")?;
    let own = ClientTls::load(&config.tls.under(folder))?;
    own.watch();
    let reader = Arc::new(build(&config, folder, &own, &topology)?);
    tasks::spawn_vital(
        "readiness",
        &drain,
        readiness::judge(Arc::clone(&reader), readiness.clone()),
    );
    tasks::spawn_vital("topology", &drain, follow(topology_watch, Arc::clone(&reader)));
    let tls = ServerTls::load(&config.tls.under(folder), ClientAuth::Required)?;
    tls.watch();
    let listener = Listener::bind(config.listen, Some(tls), ListenerLimits::default()).await?;
    listening.pass("bound");
    let deadline = Deadline { timeout_ms: REQUEST_TIMEOUT_MS, read_code: Code::StaleReplica };
    let guarded = PeerGuard::new(config.cluster, PEERS)
        .and_persons(Grade::Viewer)
        .protect(routes(reader, &readiness));
    let report = listener.serve_app(request::app(deadline.limit(guarded)), &drain).await;
    tracing::info!(?report, "left in order");
    Ok(())
}

fn control(config: &ReaderConfig, folder: &Path) -> anyhow::Result<ControlClient> {
    let tls = config.tls.under(folder);
    let control = ControlConfig::new(
        config.cluster.clone(),
        &config.control.endpoints,
        TlsPaths { cert: tls.cert, key: tls.key, ca: tls.ca },
        folder.join(&config.control.topology_cache),
    )?;
    Ok(ControlClient::new(&control))
}

fn build(
    config: &ReaderConfig,
    folder: &Path,
    own: &ClientTls,
    topology: &Topology,
) -> anyhow::Result<Reader> {
    let node = topology
        .reader(&config.node)
        .with_context(|| format!("the topology has no reader {}", config.node))?;
    let store = Store::new(pool(config, folder, own, config.postgres.pool_size)?);
    let own_store = Store::new(pool(config, folder, own, OWN_SESSIONS)?);
    let audit_dir = folder.join(&config.audit_dir);
    std::fs::create_dir_all(&audit_dir)
        .with_context(|| format!("cannot make {}", audit_dir.display()))?;
    let logs = logs(topology, node, &store, &own_store, &audit_dir)?;
    let served: Vec<Jurisdiction> = logs.keys().cloned().collect();
    let verifier =
        TokenVerifier::new(config.cluster.clone(), Arc::new(SystemClock), token_keys(topology)?);
    let access = Access::new(verifier, &store, served);
    Ok(Reader::new(config.node.clone(), store, access, logs))
}

fn pool(
    config: &ReaderConfig,
    folder: &Path,
    own: &ClientTls,
    size: usize,
) -> anyhow::Result<Pool> {
    let postgres = &config.postgres;
    let connect = ConnectConfig {
        host: postgres.host.clone(),
        port: postgres.port,
        dbname: postgres.dbname.clone(),
        user: postgres.user.clone(),
        password: domicile_service::config::secret(&folder.join(&postgres.password_file))?,
        tls: postgres.tls.then(|| own.config()),
        application_name: config.node.to_string(),
        connect_timeout_ms: CONNECT_TIMEOUT_MS,
        statement_timeout_ms: STATEMENT_TIMEOUT_MS,
    };
    Ok(Pool::new(PoolConfig { connect, size })?)
}

/// One log per jurisdiction of this node, each with its auditor and its lag meter running.
fn logs(
    topology: &Topology,
    node: &ReaderNode,
    proofs: &Store,
    store: &Store,
    audit_dir: &Path,
) -> anyhow::Result<BTreeMap<Jurisdiction, Log>> {
    let mut logs = BTreeMap::new();
    for jurisdiction in &node.jurisdictions {
        let policy = topology
            .policy(jurisdiction)
            .with_context(|| format!("the topology has no policy for {jurisdiction}"))?;
        let key = topology
            .log_keys
            .iter()
            .filter(|key| key.jurisdiction == *jurisdiction)
            .max_by_key(|key| key.epoch)
            .with_context(|| format!("the topology has no log key for {jurisdiction}"))?;
        let key = VerifierKey::parse(&key.vkey)?;
        let log_epoch = i32::try_from(Origin::parse(key.name())?.log_epoch)?;
        let id = LogId { jurisdiction: jurisdiction.clone(), log_epoch };
        let (auditor, audit) = Auditor::new(store.clone(), id.clone(), key.clone(), audit_dir);
        tasks::spawn("auditor", auditor.run());
        let (freshness, beats) = freshness::follow(store.clone(), jurisdiction.clone());
        tasks::spawn("freshness", beats);
        let log = Log {
            evidence: Evidence::new(proofs.clone(), id, key),
            audit,
            freshness,
            lag_limit_ms: policy.lag_limit_ms,
            published: policy.publish_log,
        };
        logs.insert(jurisdiction.clone(), log);
    }
    Ok(logs)
}

fn token_keys(topology: &Topology) -> anyhow::Result<TokenKeys> {
    let mut keys = TokenKeys::new();
    for key in &topology.session_keys {
        let algorithm = match key.algorithm {
            document::TokenAlgorithm::EdDsa => TokenAlgorithm::EdDsa,
            document::TokenAlgorithm::Es256 => TokenAlgorithm::Es256,
        };
        keys.add(&key.kid, algorithm, &key.public_key)?;
    }
    Ok(keys)
}

/// Takes on new token keys as the topology changes. Which jurisdictions are served is fixed at start: the
/// rows have to be there first.
async fn follow(mut watch: Watch<Topology>, reader: Arc<Reader>) {
    while watch.changed().await {
        let Some(topology) = watch.value() else { continue };
        match token_keys(&topology) {
            Ok(keys) => reader.access.verifier().replace_keys(keys),
            Err(error) => tracing::error!(%error, "the topology's session keys cannot be used"),
        }
        if !serves(&topology, &reader.node, &reader.logs) {
            tracing::warn!(
                "the topology gives this node other jurisdictions; a restart takes them on"
            );
        }
    }
}

fn serves(topology: &Topology, node: &NodeId, logs: &BTreeMap<Jurisdiction, Log>) -> bool {
    topology.reader(node).is_some_and(|node| node.jurisdictions.iter().eq(logs.keys()))
}
