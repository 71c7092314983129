//! `domicile-router`: one region's router.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use domicile_router::{Router, config::Config};
use domicile_service::{admin, config, drain::Drain, health::Readiness, telemetry};

/// Routes requests by the jurisdiction of their token.
#[derive(Parser)]
#[command(name = "domicile-router", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let file = Arguments::parse().config;
    let config: Config = config::load(&file)?;
    let telemetry = telemetry::init(&config.telemetry, "domicile-router", &config.node)?;
    let drain = Drain::new(config.drain);
    drain.on_signals().context("cannot listen for signals")?;
    let readiness = Readiness::new(drain.clone());
    admin::start(config.admin_listen, &readiness, telemetry.metrics(), <_>::default()).await?;
    let folder = config::folder(&file);
    if let Some(router) = Router::start(&config, folder, &drain, &readiness).await? {
        router.serve(&drain).await;
    }
    Ok(())
}
