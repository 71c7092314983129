//! `domicile-writer --config FILE`: starts the writer and leaves in order.

use anyhow::Context;
use clap::Parser;
use domicile_control::{ControlClient, Leases, Pins};
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::clock::{Clock, SystemClock};
use domicile_service::drain::Drain;
use domicile_service::health::Readiness;
use domicile_service::ids::IdSource;
use domicile_service::listener::Listener;
use domicile_service::tls::{ClientAuth, ClientTls, ServerTls};
use domicile_service::token::{TokenKeys, TokenVerifier};
use domicile_service::{admin, config, tasks, telemetry};
use domicile_writer::config::Config;
use domicile_writer::http;
use domicile_writer::lease::{Keeper, Standing};
use domicile_writer::lifecycle::Lifecycle;
use domicile_writer::service::Service;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// The global writer of a Domicile cluster.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = Arguments::parse().config;
    let config: Config = config::load(&path)?;
    let folder = config::folder(&path).to_owned();
    let telemetry = telemetry::init(&config.telemetry, "domicile-writer", &config.node)?;
    let drain = Drain::new(config.drain);
    drain.on_signals().context("signals")?;
    let readiness = Readiness::new(drain.clone());

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids = IdSource::new(Arc::clone(&clock));
    let files = config.tls.under(&folder);
    let server_tls = ServerTls::load(&files, ClientAuth::Required)?;
    server_tls.watch();
    let client_tls = ClientTls::load(&files)?;
    client_tls.watch();
    let wallet_tls = ClientTls::anonymous(&config.wallet_authorities(&folder))?;
    wallet_tls.watch();
    let control = ControlClient::new(&config.control(&folder)?);
    let tokens = TokenVerifier::new(config.cluster.clone(), Arc::clone(&clock), TokenKeys::new());
    let service = Arc::new(Service::new(tokens, drain.clone()));

    let listening = readiness.check("listener");
    admin::start(config.admin_listen, &readiness, telemetry.metrics(), axum::Router::new()).await?;
    let listener = Listener::bind(config.listen, Some(server_tls), config.limits).await?;
    listening.pass("bound");
    let app = http::app(&service, &readiness, &config.cluster);
    let record = control.watch_record();
    let region = config.region.clone();
    let standing = Arc::new(Standing::new(record.receiver(), region, Arc::clone(&clock)));
    let keeper = Keeper {
        leases: Leases::new(&control),
        record: record.clone(),
        standing: Arc::clone(&standing),
        node: config.node.clone(),
    };
    let (ended, stopped) = watch::channel(false);
    let keeping = tasks::spawn_vital("lease", &drain, keeper.run(stopped));
    let lifecycle = Lifecycle {
        log_keys_dir: folder.join(&config.keys.log_keys_dir),
        pool: config.pool(&folder, &client_tls)?,
        keys: Arc::new(config.load_keys(&folder, ids.clone())?),
        clock,
        ids,
        client: HttpClient::new(&client_tls, ClientLimits::default()),
        pins: Pins::new(&control),
        wallet_tls,
        record,
        standing,
        topology: control.watch_topology(),
        service,
        check: readiness.check("writer"),
        config,
    };
    let following = tasks::spawn_vital("lifecycle", &drain, lifecycle.run(drain.clone()));
    listener.serve_app(app, &drain).await;
    following.await.context("lifecycle")?;
    ended.send_replace(true);
    keeping.await.context("lease")
}
