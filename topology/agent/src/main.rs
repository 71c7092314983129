//! `domicile-agent --config FILE`: reads the configuration, wires the parts, serves until told to leave.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use domicile_agent::agent::Agent;
use domicile_agent::automatic::Automatic;
use domicile_agent::config::AgentConfig;
use domicile_agent::control::EtcdControl;
use domicile_agent::entering::Entering;
use domicile_agent::pinning::Pinning;
use domicile_agent::{api, attend, supervise};
use domicile_control::{ControlClient, ControlConfig, TlsPaths};
use domicile_service::clock::SystemClock;
use domicile_service::drain::{Drain, DrainLimits};
use domicile_service::health::Readiness;
use domicile_service::ids::IdSource;
use domicile_service::listener::{Listener, ListenerLimits};
use domicile_service::tasks::spawn_vital;
use domicile_service::tls::{ClientAuth, ServerTls};
use domicile_service::{admin, request, telemetry};
use domicile_topology::observed::NodeKind;

/// The keeper of one Postgres.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = AgentConfig::read(&Args::parse().config)?;
    anyhow::ensure!(
        !rustix::process::geteuid().is_root(),
        "Postgres does not run as root: start the agent as an unprivileged user"
    );
    let telemetry = telemetry::init(&config.telemetry, "domicile-agent", &config.node)?;
    let drain = Drain::new(DrainLimits { grace_ms: 100, wait_ms: 5_000 });
    drain.on_signals()?;
    let readiness = Readiness::new(drain.clone());

    let control = ControlConfig::new(
        config.cluster.clone(),
        &config.control.endpoints,
        TlsPaths {
            cert: config.tls.cert.clone(),
            key: config.tls.key.clone(),
            ca: config.tls.ca.clone(),
        },
        config.control.topology_cache.clone(),
    )?;
    let client = ControlClient::new(&control);
    let control = Arc::new(EtcdControl::new(client.clone()));
    let tls = ServerTls::load(&config.tls, ClientAuth::Required)?;
    tls.watch();
    let addr = config.listen.parse().context("listen is not an address")?;
    let admin_addr = config.admin_listen.parse().context("admin_listen is not an address")?;

    let is_ledger = config.kind == NodeKind::Ledger;
    let agent = Agent::new(config, control, IdSource::new(Arc::new(SystemClock)))?;
    attend(&agent, &drain, &readiness);
    if is_ledger {
        spawn_vital("entering", &drain, Entering::new(Arc::clone(&agent), &client)?.run());
        spawn_vital("pinning", &drain, Pinning::new(Arc::clone(&agent), &client)?.run());
        spawn_vital("automatic", &drain, Automatic::new(Arc::clone(&agent), client)?.run());
    }
    let listening = readiness.check("listener");
    admin::start(admin_addr, &readiness, telemetry.metrics(), axum::Router::new()).await?;
    let listener = Listener::bind(addr, Some(tls), ListenerLimits::default()).await?;
    listening.pass("bound");
    listener.serve_app(request::app(api::routes(&agent)), &drain).await;
    supervise::leave(&agent).await;
    drop(telemetry);
    Ok(())
}
