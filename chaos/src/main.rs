//! `domicile-chaos`: judges a recorded history against what exists afterwards.

#![expect(clippy::print_stdout, reason = "the verdict is this program's output")]

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use domicile_chaos::history::{Operation, violations};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Largest file read, in bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// Checks, from outside, that a system kept what it promised to its clients.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compares a recorded history with the rounds that exist now
    ///
    /// Every acknowledged round must exist exactly once with one answer; a refused one must not exist; an
    /// undecided one may. Exit status: 0 nothing is wrong, 1 a promise was broken, 2 the files cannot be read.
    Check {
        /// One operation per line as JSON: {"key":…,"attempts":[{"acknowledged":…}|{"refused":…}|{"unknown":…}]}
        #[arg(long, value_name = "FILE")]
        history: PathBuf,
        /// One round per line: its id, a space, and how many bets exist for it
        #[arg(long, value_name = "FILE")]
        rounds: PathBuf,
    },
}

fn main() -> ExitCode {
    let Command::Check { history, rounds } = Arguments::parse().command;
    match check(&history, &rounds) {
        Ok(found) if found.is_empty() => {
            println!("every promise was kept");
            ExitCode::SUCCESS
        }
        Ok(found) => {
            println!("{}", found.join("\n"));
            ExitCode::from(1)
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn check(history: &Path, rounds: &Path) -> anyhow::Result<Vec<String>> {
    let operations = lines(history)?
        .iter()
        .map(|line| serde_json::from_str::<Operation>(line))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{} holds a line that is no operation", history.display()))?;
    let mut exists = BTreeMap::new();
    for line in lines(rounds)? {
        let (round, count) = line
            .split_once(' ')
            .with_context(|| format!("{}: `{line}` is not `<round> <count>`", rounds.display()))?;
        let count = count.trim().parse().with_context(|| format!("`{count}` is no count"))?;
        exists.insert(round.to_owned(), count);
    }
    Ok(violations(&operations, &exists))
}

fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let read = || format!("cannot read {}", file.display());
    let size = std::fs::metadata(file).with_context(read)?.len();
    if size > FILE_MAX_BYTES {
        bail!("{} has {size} bytes, more than {FILE_MAX_BYTES}", file.display());
    }
    let text = std::fs::read_to_string(file).with_context(read)?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}
