//! The operator's command line: starts topologies, shows them, makes keys and certificates, checks proofs.
//!
//! It holds no database credential and opens no database connection: every effect on a node goes through that node's
//! agent, over mutual TLS. What it keeps for a local topology is in one state folder (see `layout`).

mod admin;
mod agents;
mod answer;
mod captcha;
mod cli;
mod conservation;
mod credentials;
mod demo;
mod down;
mod drill;
mod files;
mod health;
mod keys;
mod layout;
mod loss;
mod migrate;
mod moves;
mod operations;
mod operator;
mod outside;
mod person;
mod pki;
mod process;
mod programs;
mod provision;
mod reconcile;
mod rounds;
mod secrets;
mod status;
mod term;
mod topology_check;
mod unit;
mod up;
mod verify;
mod wait;
mod wallet;

use anyhow::{Context, Result};
use clap::Parser;
use cli::{Cli, Command};
use layout::Layout;
use std::process::ExitCode;

/// The command failed, or what it looked at is not as it should be.
const FAILED: u8 = 1;
/// The command line cannot be understood (sysexits' `EX_USAGE`; 2 means something else to `verify`).
const USAGE: u8 = 64;

/// The output was closed: what a shell says of a program that `SIGPIPE` has ended.
const NOBODY_READS: u8 = 141;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let shown = error.print();
            let code = if error.use_stderr() || shown.is_err() { USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<term::NobodyReads>() => ExitCode::from(NOBODY_READS),
        Err(error) => match term::note(format_args!("domicile: {error:#}")) {
            Ok(()) | Err(_) => ExitCode::from(FAILED),
        },
    }
}

fn run(Cli { state, person, command }: Cli) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let layout = || Layout::locate(state.as_deref(), person.as_ref());
    runtime.block_on(async {
        match command {
            Command::Demo(args) => demo::run(state.as_deref(), args).await,
            Command::Up(args) => up::run(layout()?, args).await,
            Command::Down(args) => down::run(&layout()?, &args).await,
            Command::Status(args) => status::run(&layout()?, &args).await,
            Command::Start(args) => down::start(layout()?, &args).await,
            Command::Stop(args) => down::stop(&layout()?, &args).await,
            Command::Kill(args) => down::kill(&layout()?, &args).await,
            Command::Move(verb) => moves::run(&layout()?, verb).await,
            Command::Plan(verb) => moves::print(&layout()?, verb).await,
            Command::Resume(args) => moves::resume(&layout()?, &args).await,
            Command::Abandon(args) => moves::abandon(&layout()?, &args).await,
            Command::Drill(args) => drill::run(&layout()?, &args).await,
            Command::LossStatement(args) => loss::run(&layout()?, &args).await,
            Command::Loss(command) => loss::claim::run(&layout()?, command).await,
            Command::Migrate(args) => migrate::run(&layout()?, &args).await,
            Command::Topology(command) => topology_check::run(command),
            Command::Pki(command) => credentials::pki(command, layout).await,
            Command::Keys(args) => credentials::keys(&args),
            Command::Operator(command) => admin::operator(&layout()?, command).await,
            Command::Session(command) => admin::session(&layout()?, command).await,
            Command::Operations(command) => operations::run(&layout()?, command).await,
            Command::Wallet(command) => wallet::run(&layout()?, command).await,
            Command::Rounds(command) => rounds::run(&layout()?, command).await,
            Command::Recovery(args) => rounds::recovery(&layout()?, &args).await,
            Command::Reconcile(args) => reconcile::run(layout(), &args).await,
            Command::Captcha(command) => captcha::run(&layout()?, command).await,
            Command::Conservation(args) => conservation::run(layout(), &args).await,
            Command::Token(command) => credentials::token(&layout()?, command).await,
            Command::Verify(args) => verify::run(&args),
        }
    })
}
