//! `domicile reconcile`: an operator's settlement file against the ledger, for one day and currency.
//!
//! Its exit codes are its own, for a scheduler to act on. The file is read line by line, whatever its size.

use crate::credentials::Writer;
use crate::layout::Layout;
use crate::term;
use crate::wallet;
use anyhow::{Context, Result, bail};
use clap::Args;
use domicile_core::ids::OperatorId;
use domicile_core::limits::SETTLEMENT_LINE_MAX_BYTES;
use domicile_core::money::Currency;
use domicile_core::wallet::reconcile::{
    Comparison, FileReader, RowKey, Totals, Verdict, compare, is_date,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// The file, or what was asked for, cannot be read.
const INPUT: u8 = 3;
/// The ledger could not be asked.
const NOT_COMPARED: u8 = 4;

const EXIT_CODES: &str = "Exit codes: 0 match · 1 minor drift (below 0.1 % of the turnover) · 2 major drift · \
     3 the file or an argument cannot be read · 4 the ledger could not be asked";

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ReconcileArgs {
    /// The operator's id
    #[arg(long)]
    pub(crate) operator: String,
    /// The currency
    #[arg(long)]
    pub(crate) currency: String,
    /// The UTC day, YYYY-MM-DD
    #[arg(long)]
    pub(crate) date: String,
    /// The operator's settlement file (CSV)
    #[arg(long)]
    pub(crate) file: PathBuf,
    /// Name the transactions that may explain a drift
    #[arg(long)]
    pub(crate) verbose: bool,
    /// The result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the writer answers.
#[derive(Debug, Deserialize)]
struct Day {
    bets_micro: u64,
    wins_micro: u64,
    rollbacks_micro: u64,
    suspects: Vec<Value>,
}

/// `domicile reconcile`.
pub(crate) async fn run(layout: Result<Layout>, args: &ReconcileArgs) -> Result<u8> {
    let (key, theirs) = match read(args) {
        Ok(read) => read,
        Err(error) => {
            term::note(format_args!("domicile: {error:#}"))?;
            return Ok(INPUT);
        }
    };
    match ask(layout, &key, args.verbose).await {
        Ok(day) => report(args, theirs, &day),
        Err(error) => {
            term::note(format_args!("domicile: {error:#}"))?;
            Ok(NOT_COMPARED)
        }
    }
}

fn read(args: &ReconcileArgs) -> Result<(RowKey, Totals)> {
    if !is_date(&args.date) {
        bail!("--date is YYYY-MM-DD");
    }
    let key = RowKey {
        operator: OperatorId::parse(&args.operator)?,
        date: args.date.clone(),
        currency: Currency::parse(&args.currency)?,
    };
    let theirs = totals(&args.file, key.clone());
    Ok((key, theirs.with_context(|| args.file.display().to_string())?))
}

fn totals(file: &Path, wanted: RowKey) -> Result<Totals> {
    let most = u64::try_from(SETTLEMENT_LINE_MAX_BYTES)?.saturating_add(2);
    let (mut file, mut reader, mut line) =
        (BufReader::new(File::open(file)?), FileReader::new(wanted), String::new());
    loop {
        line.clear();
        // One line at most, and of a longer one no more than shows that it is too long.
        if file.by_ref().take(most).read_line(&mut line)? == 0 {
            return Ok(reader.finish()?);
        }
        reader.line(line.strip_suffix('\n').unwrap_or(&line))?;
    }
}

async fn ask(layout: Result<Layout>, key: &RowKey, verbose: bool) -> Result<Day> {
    let writer = Writer::current(&layout?).await?;
    let path = format!("{}/day", wallet::of(key.operator.as_str())?);
    let body = json!({ "date": key.date, "currency": key.currency, "verbose": verbose });
    writer.post(&path, &body).await
}

fn report(args: &ReconcileArgs, theirs: Totals, day: &Day) -> Result<u8> {
    let Day { bets_micro, wins_micro, rollbacks_micro, suspects } = day;
    let (bets_micro, wins_micro, rollbacks_micro) = (*bets_micro, *wins_micro, *rollbacks_micro);
    let ours = Totals { bets_micro, wins_micro, rollbacks_micro };
    let Comparison { stakes_micro, wins_micro, verdict } = compare(ours, theirs);
    if args.json {
        let side = |totals: Totals| {
            json!({ "bets_micro": totals.bets_micro, "wins_micro": totals.wins_micro,
                "rollbacks_micro": totals.rollbacks_micro })
        };
        term::json(&json!({
            "verdict": verdict.as_str(), "ours": side(ours), "theirs": side(theirs),
            "stakes_drift_micro": stakes_micro.to_string(), "wins_drift_micro": wins_micro.to_string(),
            "suspects": suspects,
        }))?;
        return Ok(verdict.exit_code());
    }
    let row = |name: &str, ours: u64, theirs: u64| {
        term::say(format_args!("{name:<10} ours {ours:>20}   theirs {theirs:>20}"))
    };
    row("bets", ours.bets_micro, theirs.bets_micro)?;
    row("rollbacks", ours.rollbacks_micro, theirs.rollbacks_micro)?;
    row("wins", ours.wins_micro, theirs.wins_micro)?;
    term::say(format_args!(
        "drift      stakes {stakes_micro:+}, wins {wins_micro:+} micro-units (ours − theirs)"
    ))?;
    if verdict != Verdict::Match {
        for suspect in suspects {
            let why = suspect.get("why").and_then(Value::as_str).unwrap_or_default();
            let job = suspect.get("job").map(wallet::line).unwrap_or_default();
            term::say(format_args!("  {why:<20} {job}"))?;
        }
    }
    term::say(verdict.as_str())?;
    Ok(verdict.exit_code())
}
