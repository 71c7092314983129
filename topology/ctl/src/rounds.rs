//! `domicile rounds` and `domicile recovery`: how timed rounds are run, and what became of those found under way.

use crate::answer::{array, text};
use crate::credentials::Writer;
use crate::layout::Layout;
use crate::term;
use anyhow::Result;
use clap::{Args, Subcommand};
use domicile_core::ids::OperatorId;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum RoundsCommand {
    /// Run a game's rounds by a schedule, change it, or stop it
    Schedule(ScheduleArgs),
    /// List the schedules
    List {
        /// The list as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleArgs {
    /// The operator's id
    pub(crate) operator: String,
    /// The game
    #[arg(long)]
    pub(crate) game: String,
    /// The currency of its bets
    #[arg(long)]
    pub(crate) currency: String,
    /// Where bets are taken; may be repeated
    #[arg(long = "jurisdiction", value_name = "CODE", required = true, value_delimiter = ',')]
    pub(crate) jurisdictions: Vec<String>,
    /// How long a round takes bets, 1000-600000
    #[arg(long, value_name = "MS")]
    pub(crate) betting_ms: u32,
    /// From a round's end to the next one, 0-600000
    #[arg(long, value_name = "MS", default_value_t = 3_000)]
    pub(crate) pause_ms: u32,
    /// The game's parameters [default: the game's own]
    #[arg(long)]
    pub(crate) params: Option<String>,
    /// Open no more rounds; one under way is finished
    #[arg(long)]
    pub(crate) off: bool,
    /// Why; kept in the operations log with who did it
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    /// The reports as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `domicile rounds`.
pub(crate) async fn run(layout: &Layout, command: RoundsCommand) -> Result<u8> {
    let writer = Writer::current(layout).await?;
    match command {
        RoundsCommand::Schedule(args) => schedule(&writer, &args).await?,
        RoundsCommand::List { json } => {
            let listed: Value = writer.get("/internal/v1/schedules").await?;
            if json { term::json(&listed)? } else { list(&listed)? }
        }
    }
    Ok(0)
}

async fn schedule(writer: &Writer, args: &ScheduleArgs) -> Result<()> {
    let operator = OperatorId::parse(&args.operator)?;
    let body = json!({
        "game": args.game, "currency": args.currency, "jurisdictions": args.jurisdictions,
        "betting_ms": args.betting_ms, "pause_ms": args.pause_ms, "params": args.params,
        "enabled": !args.off, "reason": args.reason,
    });
    let path = format!("/internal/v1/operators/{operator}/schedules");
    let _answer: Value = writer.post(&path, &body).await?;
    let how = if args.off { "are stopped" } else { "are run by a schedule" };
    term::say(format_args!("rounds of {operator}, {}, {} {how}", args.game, args.currency))
}

fn list(listed: &Value) -> Result<()> {
    let columns =
        ["operator", "game", "currency", "jurisdictions", "betting_ms", "pause_ms", "enabled"];
    let rows: Vec<Vec<String>> = array(listed, "schedules")
        .iter()
        .map(|schedule| columns.iter().map(|name| text(schedule, name)).collect())
        .collect();
    if rows.is_empty() { term::note("none") } else { term::say(term::table(&columns, &rows)) }
}

/// `domicile recovery`.
pub(crate) async fn recovery(layout: &Layout, args: &RecoveryArgs) -> Result<u8> {
    let (mut reports, mut code) = (Vec::new(), 0);
    for (name, writer) in Writer::all_current(layout).await? {
        let mut report: Value = match writer.get("/internal/v1/recovery").await {
            Ok(report) => report,
            Err(error) => {
                term::note(format_args!("{name} does not answer: {error:#}"))?;
                code = 1;
                continue;
            }
        };
        if let Some(members) = report.as_object_mut() {
            members.insert("writer".into(), json!(name));
        }
        reports.push(report);
    }
    if args.json {
        term::json(&json!({ "reports": reports }))?;
    } else {
        reports.iter().try_for_each(show)?;
    }
    Ok(code)
}

fn show(report: &Value) -> Result<()> {
    let nothing = Value::Null;
    let found = report.get("recovery").unwrap_or(&nothing);
    let counts = ["continued", "settled", "voided", "cut_voided", "bets_refunded", "wallet_jobs"];
    let counts: Vec<_> =
        counts.iter().map(|name| format!("{name} {}", text(found, name))).collect();
    let (writer, epoch) = (text(report, "writer"), text(report, "epoch"));
    term::say(format_args!("{writer}, epoch {epoch}: {}", counts.join(" · ")))?;
    for round in array(found, "rounds") {
        let columns = ["round", "operator", "game", "currency", "found", "rule", "ended"];
        let columns: Vec<_> = columns.iter().map(|name| text(round, name)).collect();
        term::say(format_args!("  {}", columns.join("  ")))?;
    }
    Ok(())
}
