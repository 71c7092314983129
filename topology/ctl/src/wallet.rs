//! `domicile wallet`: where operators' wallets are, and what became of transactions with them.

use crate::answer::{array, text};
use crate::credentials::Writer;
use crate::layout::Layout;
use crate::term;
use crate::wait::{self, Look};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use domicile_core::base64;
use domicile_core::ids::OperatorId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;
use zeroize::Zeroizing;

/// How long writer processes may take to serve a new setting; each reads again every second.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(10);
/// Done.
const DONE: u8 = 0;
/// The setting is stored, and a writer process has not said that it serves it.
const STORED_ONLY: u8 = 2;

/// What to do then.
const NOT_HEARD_OF: &str = "Nothing has to be set again. A process that is dead serves the wallet from its next start; one that runs reads \
     it every second: see its log, or start it again. Bets it takes until then are taken as before, at no wallet if there was none.";

/// A wallet as one writer process serves it.
#[derive(Debug, Deserialize)]
pub(crate) struct Served {
    pub(crate) revision: Option<i64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WalletCommand {
    /// Set an operator's wallet; done once every writer process serves it
    #[command(
        after_help = "Exit codes: 0 every writer process serves it · 1 failed, or nobody knows whether it is set: set it again · 2 it is stored, but not every process has \
                      said that it serves it: which one, and what to do · 64 the command line is wrong"
    )]
    Set(SetArgs),
    /// Transactions that are not done
    #[command(subcommand)]
    Jobs(JobsCommand),
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The operator's id
    pub(crate) operator: String,
    /// The wallet's address, by HTTPS, without a slash at the end
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// How requests are signed
    #[arg(long, value_parser = ["hmac-sha256", "rsa-sha256"], default_value = "hmac-sha256")]
    pub(crate) signing: String,
    /// The name of our key at the wallet
    #[arg(long, value_name = "ID")]
    pub(crate) key_id: String,
    /// The file with the shared secret (its bytes) or the RSA key (PEM, PKCS #8)
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// What a duplicate transaction means to the wallet: that it is done already, or that another one has its id
    #[arg(long, value_parser = ["done", "conflict"])]
    pub(crate) duplicate: String,
    /// The longest call [default: 5000]
    #[arg(long, value_name = "MS")]
    pub(crate) timeout_ms: Option<u32>,
    /// Most bets under way at one time [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<u32>,
    /// Failures in a row that open the circuit breaker [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) breaker_failures: Option<u32>,
    /// How long the breaker stays open before a probe [default: 10000]
    #[arg(long, value_name = "MS")]
    pub(crate) breaker_pause_ms: Option<u32>,
    /// The pause before a win or rollback is repeated, doubled each time [default: 1000]
    #[arg(long, value_name = "MS")]
    pub(crate) retry_first_ms: Option<u32>,
    /// The longest such pause [default: 300000]
    #[arg(long, value_name = "MS")]
    pub(crate) retry_longest_ms: Option<u32>,
    /// The age at which a win or rollback goes before a person [default: 2592000]
    #[arg(long, value_name = "S")]
    pub(crate) give_up_after_s: Option<u32>,
    /// Why; kept in the operations log with who did it
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List an operator's transactions that are pending or dead
    List {
        /// The operator's id
        operator: String,
        /// Which ones
        #[arg(long, value_parser = ["pending", "dead"], default_value = "dead")]
        status: String,
        /// Those after this one
        #[arg(long, value_name = "ID")]
        after: Option<Uuid>,
        /// The list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one transaction and what persons did to it
    Show {
        /// The transaction's id
        id: Uuid,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try a win or rollback again now; a dead one counts as new
    Retry(ActArgs),
    /// Say that a dead win or rollback was settled outside
    Resolve(ActArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    /// The transaction's id
    pub(crate) id: Uuid,
    /// Why; kept with who did it
    #[arg(long)]
    pub(crate) reason: String,
}

/// `domicile wallet`.
pub(crate) async fn run(layout: &Layout, command: WalletCommand) -> Result<u8> {
    let writer = Writer::current(layout).await?;
    match command {
        WalletCommand::Set(args) => return set(layout, &writer, &args).await,
        WalletCommand::Jobs(JobsCommand::List { operator, status, after, json }) => {
            let path = format!("{}/jobs", of(&operator)?);
            let listed: Value =
                writer.post(&path, &json!({ "state": status, "after": after })).await?;
            if json { term::json(&listed)? } else { list(&listed)? }
        }
        WalletCommand::Jobs(JobsCommand::Show { id, json }) => {
            let shown: Value = writer.get(&format!("/internal/v1/wallet-jobs/{id}")).await?;
            if json { term::json(&shown)? } else { show(&shown)? }
        }
        WalletCommand::Jobs(JobsCommand::Retry(args)) => act(&writer, &args, "retry").await?,
        WalletCommand::Jobs(JobsCommand::Resolve(args)) => act(&writer, &args, "resolve").await?,
    }
    Ok(DONE)
}

/// The path of an operator's wallet.
pub(crate) fn of(operator: &str) -> Result<String> {
    Ok(format!("/internal/v1/operators/{}/wallet", OperatorId::parse(operator)?))
}

async fn set(layout: &Layout, writer: &Writer, args: &SetArgs) -> Result<u8> {
    let key = std::fs::read(&args.key_file).map(Zeroizing::new);
    let key = key.with_context(|| format!("cannot read {}", args.key_file.display()))?;
    let mut body = json!({
        "base_url": args.url, "signing": args.signing, "key_id": args.key_id,
        "key_b64": base64::encode(&key), "duplicate": args.duplicate,
        "reason": args.reason,
    });
    let given = [
        ("timeout_ms", args.timeout_ms),
        ("concurrency", args.concurrency),
        ("breaker_failures", args.breaker_failures),
        ("breaker_pause_ms", args.breaker_pause_ms),
        ("retry_first_ms", args.retry_first_ms),
        ("retry_longest_ms", args.retry_longest_ms),
        ("give_up_after_s", args.give_up_after_s),
    ];
    if let Some(body) = body.as_object_mut() {
        let given =
            given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        body.extend(given);
    }
    let set: Served = writer.post(&of(&args.operator)?, &body).await?;
    if let Err(error) = taken_up(layout, &args.operator, set.revision).await {
        term::note(format_args!("domicile: {error:#}"))?;
        term::note(NOT_HEARD_OF)?;
        return Ok(STORED_ONLY);
    }
    term::say(format_args!("the wallet of {} is {}", args.operator, args.url))?;
    Ok(DONE)
}

/// Waits until every writer process serves this revision of the wallet: a bet that another took before has no stake there.
pub(crate) async fn taken_up(layout: &Layout, operator: &str, revision: Option<i64>) -> Result<()> {
    let path = of(operator)?;
    let what =
        format!("the wallet of {operator} is stored, but not every writer process serves it");
    wait::until(what, TAKEN_UP_WITHIN, || async {
        let all = match Writer::all_current(layout).await {
            Ok(all) => all,
            Err(error) => return Look::NotYet(format!("{error:#}")),
        };
        let mut without = Vec::new();
        for (node, writer) in all {
            match writer.get::<Served>(&path).await {
                Ok(served) if served.revision >= revision => {}
                Ok(_) => without.push(format!("{node} serves what was before")),
                Err(error) => without.push(format!("{node} does not answer: {error:#}")),
            }
        }
        if without.is_empty() { Look::Done(()) } else { Look::NotYet(without.join("; ")) }
    })
    .await
}

async fn act(writer: &Writer, args: &ActArgs, verb: &str) -> Result<()> {
    let path = format!("/internal/v1/wallet-jobs/{}/{verb}", args.id);
    show(&writer.post(&path, &json!({ "reason": args.reason })).await?)
}

fn list(listed: &Value) -> Result<()> {
    let jobs = array(listed, "jobs");
    for job in jobs {
        term::say(line(job))?;
    }
    if jobs.is_empty() { term::note("none") } else { Ok(()) }
}

/// A transaction on one line.
pub(crate) fn line(job: &Value) -> String {
    let text = |name: &str| text(job, name);
    format!(
        "{}  {:8}  {:8}  {} {}  attempts {}  said {}",
        text("id"),
        text("call"),
        text("state"),
        text("amount_micro"),
        text("currency"),
        text("attempts"),
        text("answer")
    )
}

fn show(shown: &Value) -> Result<()> {
    if let Some(job) = shown.get("job") {
        term::json(job)?;
    }
    for action in array(shown, "actions") {
        let text = |name: &str| text(action, name);
        term::say(format_args!("{} by {}: {}", text("action"), text("actor"), text("reason")))?;
    }
    Ok(())
}
