//! `domicile-chaos`: experiments on running systems, and what the oracles say of them.

mod cli;

use anyhow::Result;
use clap::Parser as _;
use cli::{Cli, Command};
use domicile_chaos::experiment::Experiment;
use domicile_chaos::namespaces::{self, ROUTER};
use domicile_chaos::report::Word;
use domicile_chaos::term::say;
use domicile_chaos::{crash, delay, doctor, suite};
use std::process::ExitCode;
use std::time::Duration;

/// The command line, or a file it names, is wrong.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let shown = error.print();
            return ExitCode::from(if error.use_stderr() || shown.is_err() { USAGE } else { 0 });
        }
    };
    if cli.command.wants_namespaces() && std::env::var_os(ROUTER).is_none() {
        return match namespaces::in_router() {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                say(format_args!("domicile-chaos: {error:#}"));
                ExitCode::from(2)
            }
        };
    }
    match run(cli) {
        Ok(word) => ExitCode::from(match word {
            Word::Passed => 0,
            Word::Failed => 1,
            Word::NotRun => 2,
        }),
        Err(error) => {
            say(format_args!("domicile-chaos: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<Word> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            Command::List => list(),
            Command::Doctor => Ok(if doctor::run() { Word::Passed } else { Word::NotRun }),
            Command::Run(args) => {
                let mut experiment = Experiment::find(&args.experiment)?;
                experiment.repeat = args.repeat.unwrap_or(experiment.repeat);
                suite::run(&args.experiment, vec![experiment], &args.place.into_options()).await
            }
            Command::Suite(args) => {
                let mut experiments = Experiment::shipped()?;
                experiments.retain(|experiment| experiment.suites.contains(&args.suite));
                suite::run(&args.suite, experiments, &args.place.into_options()).await
            }
            Command::CrashPoints(args) => {
                let share = args.share;
                Ok(crash::run(&args.into_options(), share).await?.word())
            }
            Command::Relay { one_way_ms } => {
                delay::relay(Duration::from_millis(one_way_ms)).map(|()| Word::NotRun)
            }
            Command::Report { folder } => suite::report(&folder),
            Command::Check { history, observations } => suite::check(&history, &observations),
        }
    })
}

fn list() -> Result<Word> {
    for experiment in Experiment::shipped()? {
        let suites = experiment.suites.join(" ");
        let stage = experiment.stage.name();
        say(format_args!("{:<22} {stage:<11} {suites:<7} {}", experiment.name, experiment.title));
    }
    Ok(Word::Passed)
}
