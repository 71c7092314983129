//! The run's money afterwards: every bet as each ledger has it, and the books of the operator's wallet.

use crate::database;
use crate::load::Wallet;
use crate::stop::{Stop, failed, not_run};
use crate::system::System;
use anyhow::{Context, Result, anyhow};
use domicile_core::ids::NodeId;
use domicile_oracles::observation::{Booked, Observations, Stake};
use std::path::Path;

/// Looks at both sides. What cannot be looked at is said, and proves nothing.
pub async fn observe(
    system: &System,
    operator: &str,
    wallet: Option<&Wallet>,
    observations: &mut Observations,
) {
    for ledger in &system.topology.ledgers {
        match stakes(system, &ledger.node, operator).await {
            Ok(stakes) => {
                observations.money.ledgers.insert(ledger.node.to_string(), stakes);
            }
            Err(error) => {
                observations.unseen.insert(ledger.node.to_string(), format!("{error:#}"));
            }
        }
    }
    let Some(wallet) = wallet else { return };
    match wallet.books(system).await {
        Ok(books) => observations.money.wallet = Some(books),
        Err(error) => {
            observations.unseen.insert("wallet".to_owned(), format!("{error:#}"));
        }
    }
}

async fn stakes(system: &System, node: &NodeId, operator: &str) -> Result<Vec<Stake>> {
    let bets = format!(
        "SELECT json_build_object('bet', b.id, 'currency', b.currency, 'jurisdiction', b.jurisdiction, 'stake_micro', \
         b.stake_micro, 'payout_micro', b.payout_micro, 'round', coalesce(r.state, 'nowhere')) FROM ledger.bet b \
         LEFT JOIN ledger.round r ON r.jurisdiction = b.jurisdiction AND r.id = b.round_id \
         WHERE b.operator_id = '{operator}' ORDER BY b.id"
    );
    let rows = database::documents(system, node, &bets).await?;
    rows.into_iter()
        .map(|row| serde_json::from_value(row).context("a bet's row is not as expected"))
        .collect()
}

/// What the system says itself: its conservation check, and its reconciliation with the wallet's settlement file.
pub async fn settle(
    system: &System,
    operator: &str,
    booked: &[Booked],
    folder: &Path,
) -> Result<String, Stop> {
    let said = |arguments: Vec<String>| async move {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let text = system.must(&arguments).await.map_err(failed)?;
        Ok::<String, Stop>(text.lines().last().unwrap_or_default().to_owned())
    };
    let conserved = said(vec!["conservation".to_owned()]).await?;
    let days = days(system, operator).await.map_err(not_run)?;
    let [day] = days.as_slice() else {
        return Err(not_run(anyhow!("the run went on past midnight UTC: {days:?}")));
    };
    let sum = |call: &str| -> i128 {
        let of = booked.iter().filter(|entry| entry.call == call);
        of.map(|entry| i128::from(entry.amount_micro) * i128::from(entry.times)).sum()
    };
    let file = folder.join("settlement.csv");
    let (bets, wins, rollbacks) = (sum("bet"), sum("win"), sum("rollback"));
    let text = format!(
        "operatorId,date,currency,betsAmountMicro,winsAmountMicro,rollbacksAmountMicro\n\
         {operator},{day},EUR,{bets},{wins},{rollbacks}\n"
    );
    std::fs::write(&file, text).context("cannot write the settlement file").map_err(not_run)?;
    let file = file.display().to_string();
    let words =
        ["reconcile", "--operator", operator, "--currency", "EUR", "--date", day, "--file", &file];
    let reconciled = said(words.iter().map(ToString::to_string).collect()).await?;
    Ok(format!(
        "conservation {conserved}, reconciliation {reconciled}, taken {bets}, paid {wins}, back {rollbacks}"
    ))
}

async fn days(system: &System, operator: &str) -> Result<Vec<String>> {
    let writer = system.record()?.writer_node;
    let sql = format!(
        "SELECT DISTINCT to_char(ended_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM ledger.wallet_job \
         WHERE operator_id = '{operator}' AND ended_at IS NOT NULL"
    );
    database::lines(system, &writer, &sql).await
}
