//! `domicile loss claim` and `claims`: receipts of lost bets are matched with what returned nodes have kept, and honoured.
//!
//! Each ledger node's agent is asked for the rows of the receipt's bet, and the writer decides from receipt and rows; here
//! nothing is judged. Invariant: a receipt is given up as unmatched only when every ledger node has answered; as long as one
//! is silent its tail may hold an outcome that a refund would forfeit, so a person has to ask for the refund. One that refuses
//! to say is not silent: nothing is decided then.

use super::unheard::unheard;
use crate::agents::Agents;
use crate::credentials::Writer;
use crate::layout::Layout;
use crate::loss::not_back;
use crate::loss::release::{self, ReleaseArgs};
use crate::person;
use crate::term::{self, table};
use crate::up::Cluster;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use domicile_core::note::VerifierKey;
use domicile_core::operation::Grade;
use domicile_core::receipt::Receipt;
use domicile_execute::{LOOK_TIMEOUT_MS, chain};
use domicile_topology::Topology;
use domicile_topology::agent_api::{OrphanBet, OrphanBetAnswer, OrphanBetRequest, paths};
use domicile_topology::record::Record;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Every receipt was honoured.
const DONE: u8 = 0;
/// At least one was not; it says why.
const FAILED: u8 = 1;
/// The largest receipt that is read, bytes.
const RECEIPT_MAX_BYTES: u64 = 4_096;
/// The most claims that are read from the writer.
const MAX_CLAIMS: usize = 100_000;
/// A page of the writer's list.
const PAGE: usize = 500;

#[derive(Debug, Subcommand)]
pub(crate) enum LossCommand {
    /// Honour receipts of lost bets: settled as revealed, or refunded; each once
    #[command(
        after_help = "Exit codes: 0 every receipt is honoured · 1 some are not, each says why · 64 the command line is wrong"
    )]
    Claim(ClaimArgs),
    /// Let rollbacks go that were withheld because a lost tail may have paid their wins
    #[command(
        after_help = "Exit codes: 0 none is withheld any more · 1 some are, each says why · 64 the command line is wrong"
    )]
    Release(ReleaseArgs),
    /// List the receipts that were handed in, and what became of them
    Claims {
        /// One JSON document, for programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ClaimArgs {
    /// Files with one signed receipt each; none: the receipts that operators have filed
    #[arg(value_name = "RECEIPT")]
    receipts: Vec<PathBuf>,
    /// Refund where no node has kept the bet, and although one may yet come back that has
    #[arg(long)]
    refund: bool,
    /// Why; kept in the operations log
    #[arg(long)]
    reason: String,
    /// What became of each, as JSON
    #[arg(long)]
    json: bool,
}

/// A claim as the writer tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) jurisdiction: String,
    pub(crate) round: String,
    pub(crate) bet: String,
    pub(crate) operator: String,
    pub(crate) currency: String,
    pub(crate) stake_micro: i64,
    pub(crate) state: String,
    pub(crate) outcome: Option<String>,
    pub(crate) payout_micro: Option<i64>,
    pub(crate) money: Option<String>,
    #[serde(default, skip_serializing)]
    receipt: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    claims: Vec<Told>,
}

/// `domicile loss`.
pub(crate) async fn run(layout: &Layout, command: LossCommand) -> Result<u8> {
    match command {
        LossCommand::Claim(args) => claim(layout, &args).await,
        LossCommand::Release(args) => release::run(layout, &args).await,
        LossCommand::Claims { json } => {
            let claims = claims(&Writer::current(layout).await?, false).await?;
            if json {
                term::json(&json!({ "claims": claims }))?;
            } else {
                term::say(page(&claims))?;
            }
            Ok(DONE)
        }
    }
}

/// What the writer has of claims; only those that are not decided, if so asked.
pub(crate) async fn claims(writer: &Writer, only_filed: bool) -> Result<Vec<Told>> {
    let mut claims: Vec<Told> = Vec::new();
    loop {
        let last = claims.last();
        let after = last.map(|told| json!({ "jurisdiction": told.jurisdiction, "bet": told.bet }));
        let body = json!({ "filed": only_filed, "after": after });
        let page: Page = writer.post("/internal/v1/losses", &body).await?;
        let is_last = page.claims.len() < PAGE;
        claims.extend(page.claims);
        if claims.len() > MAX_CLAIMS {
            bail!("there are more than {MAX_CLAIMS} claims");
        }
        if is_last {
            return Ok(claims);
        }
    }
}

async fn claim(layout: &Layout, args: &ClaimArgs) -> Result<u8> {
    person::require(layout, Grade::DrLead)?;
    let topology = layout.topology()?;
    let writer = Writer::current(layout).await?;
    let notes = if args.receipts.is_empty() {
        claims(&writer, true).await?.into_iter().filter_map(|told| told.receipt).collect()
    } else {
        args.receipts.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?
    };
    let agents = Agents::new(layout)?;
    let record = Cluster::connect(&topology, layout)?.record().await?;
    let record = record.context("there is no control record")?;
    let desk = Desk { agents, record, topology, writer };
    let mut outcomes = Vec::new();
    for note in &notes {
        outcomes.push(desk.honour(note, args).await.map_err(|error| format!("{error:#}")));
    }
    let told: Vec<Told> = outcomes.iter().flatten().cloned().collect();
    let failed: Vec<&String> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    if args.json {
        term::json(&json!({ "claims": told, "failed": failed }))?;
    } else {
        if let Some(page) = shown(&told, &failed) {
            term::say(page)?;
        }
        for reason in &failed {
            term::note(format_args!("✗ {reason}"))?;
        }
    }
    Ok(if failed.is_empty() { DONE } else { FAILED })
}

fn read(path: &Path) -> Result<String> {
    let named = || format!("cannot read the receipt {}", path.display());
    if std::fs::metadata(path).with_context(named)?.len() > RECEIPT_MAX_BYTES {
        bail!("{} is longer than a receipt", path.display());
    }
    std::fs::read_to_string(path).with_context(named)
}

/// Where receipts are taken.
struct Desk {
    agents: Agents,
    record: Record,
    topology: Topology,
    writer: Writer,
}

impl Desk {
    async fn honour(&self, note: &str, args: &ClaimArgs) -> Result<Told> {
        let refund = args.refund;
        let keys = self.topology.receipt_keys.iter().map(|key| VerifierKey::parse(&key.vkey));
        let keys = keys.collect::<Result<Vec<_>, _>>().context("a receipt key of the topology")?;
        let receipt = Receipt::open(note, &keys).context("not a receipt of this cluster")?;
        let kept = self.kept(&receipt, refund).await?;
        let body =
            json!({ "receipt": note, "kept": kept, "refund": refund, "reason": args.reason });
        let told = self.writer.post("/internal/v1/losses/claim", &body).await;
        told.with_context(|| format!("round {} of {}", receipt.round, receipt.jurisdiction))
    }

    async fn kept(&self, receipt: &Receipt, refund: bool) -> Result<Option<OrphanBet>> {
        let request = OrphanBetRequest {
            jurisdiction: receipt.jurisdiction.clone(),
            round: receipt.round,
            bet: receipt.bet,
        };
        let mut silent = Vec::new();
        for ledger in &self.topology.ledgers {
            let url = format!("{}{}", ledger.agent, paths::ORPHAN_BET);
            let client = self.agents.client().within_ms(LOOK_TIMEOUT_MS);
            match client.post_json::<OrphanBetAnswer>(&url, &request).await {
                Ok(OrphanBetAnswer { found: Some(kept) }) => return Ok(Some(kept)),
                Ok(OrphanBetAnswer { found: None }) => {
                    let status = self.agents.status(&ledger.agent).await;
                    let status = status.map_err(|error| chain(&error));
                    let why = not_back(&self.topology, &self.record, &ledger.node, &status);
                    silent.extend(why.map(|why| format!("{}: {why}", ledger.node)));
                }
                Err(error) => silent.push(unheard(&ledger.node, &error)?),
            }
        }
        if !silent.is_empty() && !refund {
            bail!(
                "round {} of {}: a node that may have kept its outcome does not answer ({}); bring it back, or refund \
                 all the same with `--refund`",
                receipt.round,
                receipt.jurisdiction,
                silent.join("; ")
            );
        }
        for why in silent {
            term::note(format_args!("· given up, as `--refund` says: {why}"))?;
        }
        Ok(None)
    }
}

/// What is said of those that were honoured; nothing where each failed, which says why by itself.
fn shown(told: &[Told], failed: &[&String]) -> Option<String> {
    (!told.is_empty() || failed.is_empty()).then(|| page(told))
}

fn page(claims: &[Told]) -> String {
    if claims.is_empty() {
        return "no receipts of lost bets".to_owned();
    }
    let amount =
        |micro: Option<i64>| micro.map_or_else(|| "–".to_owned(), |micro| micro.to_string());
    let row = |told: &Told| {
        vec![
            told.round.clone(),
            told.jurisdiction.clone(),
            told.operator.clone(),
            told.state.clone(),
            told.outcome.clone().unwrap_or_else(|| "–".to_owned()),
            format!("{} {}", told.stake_micro, told.currency),
            amount(told.payout_micro),
            told.money.clone().unwrap_or_else(|| "–".to_owned()),
        ]
    };
    let headers = [
        "round",
        "jurisdiction",
        "operator",
        "claimed",
        "outcome",
        "stake, micro-units",
        "payout",
        "money",
    ];
    table(&headers, &claims.iter().map(row).collect::<Vec<_>>())
}

/// What became of a lost round: of all its bets alike, or `partly`.
pub(crate) fn claimed(
    claims: &[Told],
    (jurisdiction, round): (&str, &str),
    bets: u32,
) -> Option<String> {
    let of: Vec<&Told> = claims
        .iter()
        .filter(|told| told.jurisdiction == jurisdiction && told.round == round)
        .collect();
    let first = of.first()?;
    let all = usize::try_from(bets).is_ok_and(|bets| of.len() >= bets);
    let alike = of.iter().all(|told| told.state == first.state);
    Some(if all && alike { first.state.clone() } else { "partly".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_receipt_is_not_told_of_as_if_there_were_none() {
        assert_eq!(shown(&[], &[&"not a receipt of this cluster".to_owned()]), None);
        assert_eq!(shown(&[], &[]).as_deref(), Some("no receipts of lost bets"));
    }
}
