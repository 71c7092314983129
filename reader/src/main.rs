//! `domicile-reader`: serves proofs of the jurisdictions whose rows are in the replica beside it.
//!
//! Parse, build, run. The binary has no write path: it links no writer and its role may only read.

use anyhow::Context;
use clap::Parser;
use domicile_reader::config::ReaderConfig;
use std::path::PathBuf;

/// Serves round proofs from the local replica of one jurisdiction (or several, where policy allows).
///
/// The node's name, listeners, certificates, replica and control plane come from one TOML file.
/// SIGTERM drains: /readyz fails first, requests in flight finish, then the process ends.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Reads and checks the configuration, then ends.
    #[arg(long)]
    check_config: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config: ReaderConfig = domicile_service::config::load(&arguments.config)?;
    if arguments.check_config {
        return Ok(());
    }
    let telemetry =
        domicile_service::telemetry::init(&config.telemetry, "domicile-reader", &config.node)?;
    let folder = domicile_service::config::folder(&arguments.config).to_owned();
    domicile_reader::run(config, &folder, &telemetry).await.context("the reader cannot run")
}
