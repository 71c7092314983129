//! `domicile operations`: reads the operations log and believes only what is proven.
//!
//! Whatever is shown was checked first: the checkpoint's signature by the log's published key, that the log extends the
//! checkpoint seen last from this state folder, and that each entry is in it. Invariant: a log that shrank, forked or does
//! not fit its checkpoint is never shown as if it were whole; the checkpoint seen last is replaced only by one that extends
//! it.

mod proof;
pub(crate) mod submit;
mod trust;

use crate::credentials::Writer;
use crate::layout::Layout;
use crate::term;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use domicile_core::operation::Operation;
use proof::Log;
use serde_json::json;
use std::path::PathBuf;
use trust::Trust;
use uuid::Uuid;

#[derive(Debug, Subcommand)]
pub(crate) enum OperationsCommand {
    /// List the latest entries, oldest first
    List(ListArgs),
    /// Show one entry and check that it is in the log
    Show {
        /// The entry's id
        id: Uuid,
        /// As JSON, with the proof
        #[arg(long)]
        json: bool,
    },
    /// Read the whole log and check every entry against the signed checkpoint and the one seen last
    #[command(
        after_help = "Exit codes: 0 the log is whole · 1 it is not, or cannot be read · 64 the command line is wrong"
    )]
    Verify {
        /// What was checked, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Enter a plan or drill that could not be entered when it ended
    Submit {
        /// The file that the warning named
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// Only those of this person, role, action or subject: a part of the text
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// The command.
pub(crate) async fn run(layout: &Layout, command: OperationsCommand) -> Result<u8> {
    if let OperationsCommand::Submit { file } = &command {
        return submit::file(layout, file).await;
    }
    let log = Log::new(Writer::current(layout).await?, &layout.topology()?)?;
    let trust = Trust::open(layout)?;
    match command {
        OperationsCommand::List(args) => list(&log, &trust, &args).await?,
        OperationsCommand::Show { id, json } => show(&log, &trust, id, json).await?,
        OperationsCommand::Verify { json } => verify(&log, &trust, json).await?,
        OperationsCommand::Submit { .. } => {}
    }
    Ok(0)
}

async fn list(log: &Log, trust: &Trust, args: &ListArgs) -> Result<()> {
    let head = log.head().await?;
    log.extends(&head, trust).await?;
    let (first, texts) = log.tail(&head, args.limit).await?;
    trust.saw(&head)?;
    let mut shown = Vec::new();
    for (index, text) in (first..).zip(&texts) {
        if args.about.as_ref().is_none_or(|part| text.contains(part.as_str())) {
            shown.push((index, parse(text)?));
        }
    }
    if args.json {
        let entries: Vec<_> =
            shown.iter().map(|(index, entry)| json!({ "index": index, "entry": entry })).collect();
        return term::json(&json!({ "size": head.checkpoint.size, "entries": entries }));
    }
    for (index, entry) in &shown {
        line(*index, entry)?;
    }
    if shown.is_empty() { term::note("none") } else { Ok(()) }
}

async fn show(log: &Log, trust: &Trust, id: Uuid, as_json: bool) -> Result<()> {
    let proven = log.entry(id, trust).await?;
    trust.saw(&proven.head)?;
    let entry = parse(&proven.text)?;
    if as_json {
        return term::json(&json!({
            "index": proven.index, "entry": entry, "text": proven.text,
            "checkpoint": proven.head.note, "inclusion": proven.inclusion,
        }));
    }
    term::say(proven.text.trim_end())?;
    let size = proven.head.checkpoint.size;
    term::say(format_args!("proven at index {} of {size}", proven.index))
}

async fn verify(log: &Log, trust: &Trust, as_json: bool) -> Result<()> {
    let head = log.head().await?;
    let before = trust.seen_size();
    let checked = log.whole(&head, trust).await;
    if as_json {
        let fault = checked.as_ref().err().map(|error| format!("{error:#}"));
        term::json(&json!({
            "verified": checked.is_ok(), "origin": head.checkpoint.origin.to_string(),
            "size": head.checkpoint.size, "seen_before": before, "fault": fault,
        }))?;
    }
    let entries = checked?;
    trust.saw(&head)?;
    if as_json {
        return Ok(());
    }
    let since =
        before.map_or_else(String::new, |size| format!(", and extends the {size} seen before"));
    term::say(format_args!(
        "{}: {entries} entries are what the signed checkpoint covers{since}",
        head.checkpoint.origin
    ))
}

fn parse(text: &str) -> Result<Operation> {
    match Operation::parse(text) {
        Ok(entry) => Ok(entry),
        Err(error) => bail!("an entry of the log is not as documented: {error}"),
    }
}

fn line(index: u64, entry: &Operation) -> Result<()> {
    let Operation { id, at_unix_ms, actor, action, subject, reason, .. } = entry;
    term::say(format_args!(
        "{index:>6}  {id}  {}  {action:18}  {subject}  {actor}  {reason}",
        at_unix_ms / 1_000
    ))
}
