//! `domicile conservation`: whether money is conserved over the whole ledger, from one snapshot that the writer reads.
//!
//! Its exit codes are its own, for a scheduler to act on.

use crate::credentials::Writer;
use crate::layout::Layout;
use crate::term;
use anyhow::{Context, Result, bail};
use clap::Args;
use domicile_core::conservation::{Audit, Line};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// Something is not conserved.
const BROKEN: u8 = 1;
/// The ledger could not be asked.
const NOT_JUDGED: u8 = 4;
/// Most times the writer is asked how the check stands; each takes it a while.
const LOOKS_MAX: u32 = 1_000;

const EXIT_CODES: &str =
    "Exit codes: 0 money is conserved · 1 it is not · 4 the ledger could not be asked";

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ConservationArgs {
    /// The judgement as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Deserialize)]
struct Look {
    audit: Uuid,
    judgement: Option<Audit>,
}

/// `domicile conservation`.
pub(crate) async fn run(layout: Result<Layout>, args: &ConservationArgs) -> Result<u8> {
    match asked(layout).await {
        Ok(audit) => report(&audit, args.json),
        Err(error) => {
            term::note(format_args!("domicile: {error:#}"))?;
            Ok(NOT_JUDGED)
        }
    }
}

async fn asked(layout: Result<Layout>) -> Result<Audit> {
    judge(&Writer::current(&layout?).await?).await
}

/// Has the ledger judged, however long it takes.
pub(crate) async fn judge(writer: &Writer) -> Result<Audit> {
    let mut wanted = None::<Uuid>;
    for _ in 0..LOOKS_MAX {
        let body = json!({ "audit": wanted });
        let look: Look = writer.post("/internal/v1/conservation", &body).await?;
        if let Some(audit) = look.judgement {
            return Ok(audit);
        }
        wanted = Some(look.audit);
    }
    bail!("the check does not end")
}

fn report(audit: &Audit, json: bool) -> Result<u8> {
    let code = if audit.holds() { 0 } else { BROKEN };
    if json {
        term::json(&json!({ "holds": audit.holds(), "judgement": audit }))?;
        return Ok(code);
    }
    if !audit.lines.is_empty() {
        term::say(table(audit))?;
    }
    for broken in &audit.breaks {
        let account = &broken.account;
        term::say(format_args!(
            "{}  {} {} {}: {}: should be {}, is {}",
            broken.id,
            account.operator,
            account.currency,
            account.jurisdiction,
            broken.what,
            broken.due_micro,
            broken.found_micro
        ))?;
    }
    let all = audit.lines.iter().map(|line| line.breaks).try_fold(0_u64, u64::checked_add);
    let all = all.context("more breaks than can be counted")?;
    let named = u64::try_from(audit.breaks.len())?;
    if all > named {
        term::say(format_args!("and {} more", all.saturating_sub(named)))?;
    }
    term::say(if audit.holds() { "CONSERVED" } else { "NOT CONSERVED" })?;
    Ok(code)
}

/// The sums, micro-units.
fn table(audit: &Audit) -> String {
    let headers = [
        "operator",
        "currency",
        "jurisdiction",
        "bets",
        "stakes",
        "payouts",
        "returned",
        "house",
        "pending",
        "wallet owes",
        "",
    ];
    let row = |line: &Line| {
        let account = &line.account;
        let mark = if line.holds() { "✓" } else { "✗" };
        vec![
            account.operator.clone(),
            account.currency.clone(),
            account.jurisdiction.clone(),
            line.bets.to_string(),
            line.stakes_micro.to_string(),
            line.payouts_micro.to_string(),
            line.returned_micro.to_string(),
            line.house_micro.to_string(),
            line.pending_micro.to_string(),
            line.wallet_owed_micro.to_string(),
            mark.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = audit.lines.iter().map(row).collect();
    term::table(&headers, &rows)
}
