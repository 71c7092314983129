//! `domicile loss release`: rollbacks that a forced failover withheld are let go, once it is known what lost tails have paid.
//!
//! A stake whose bet was under way at the fork goes back by rule, but the lost tail may have paid its win at the operator's
//! wallet: both together would be paid twice. Invariants: a rollback is let go when every ledger node is back and none has
//! kept a win of its bet, or when a person gives up what cannot be known; one whose win the wallet has paid is resolved and
//! never sent; one whose win may have been paid stays, whatever is asked here.

use super::not_back;
use super::unheard::unheard;
use crate::agents::Agents;
use crate::credentials::Writer;
use crate::layout::Layout;
use crate::person;
use crate::term;
use crate::up::Cluster;
use crate::wallet;
use anyhow::{Context, Result, bail};
use clap::Args;
use domicile_core::ids::BetId;
use domicile_core::operation::Grade;
use domicile_execute::{LOOK_TIMEOUT_MS, chain};
use domicile_topology::agent_api::{OrphanWin, OrphanWinsAnswer, OrphanWinsRequest, limits, paths};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// None is withheld any more.
const DONE: u8 = 0;
/// Some are.
const WAITING: u8 = 1;
/// The ledger's word for a rollback that is withheld.
const WITHHELD: &str = "withheld";
/// What the wallet has paid.
const PAID: &str = "done";
/// A page of the writer's list.
const PAGE: usize = 500;
/// The most rollbacks of one run.
const MAX_HELD: usize = 100_000;

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Let go although a node that may have kept a win does not answer
    #[arg(long)]
    refund: bool,
    /// Why; kept in the operations log
    #[arg(long)]
    reason: String,
    /// What became of each, as JSON
    #[arg(long)]
    json: bool,
}

/// A rollback that is withheld.
#[derive(Debug, Deserialize)]
struct Held {
    id: Uuid,
    call: String,
    operator: String,
    bet: BetId,
    currency: String,
    amount_micro: i64,
    answer: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Held>,
}

#[derive(Deserialize)]
struct Operators {
    operators: Vec<Operator>,
}

#[derive(Deserialize)]
struct Operator {
    id: String,
}

/// What is known of lost wins.
#[derive(Debug, Default)]
struct Known {
    wins: Vec<OrphanWin>,
    /// Nodes of which not everything is known, and why.
    unknown: Vec<String>,
}

/// What becomes of a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It is sent.
    Released,
    /// The wallet has paid this win: it never is.
    Paid(String),
    /// It stays withheld.
    Waits(String),
}

/// One of them, for programs.
#[derive(Debug, Serialize)]
struct Told {
    id: Uuid,
    bet: String,
    operator: String,
    currency: String,
    amount_micro: i64,
    state: &'static str,
    why: Option<String>,
}

pub(super) async fn run(layout: &Layout, args: &ReleaseArgs) -> Result<u8> {
    person::require(layout, Grade::DrLead)?;
    let writer = Writer::current(layout).await?;
    let held = held(&writer).await?;
    let mut told = Vec::with_capacity(held.len());
    for some in held.chunks(limits::MAX_WIN_BETS) {
        let known = known(layout, some).await?;
        for held in some {
            let fate = decide(held.bet, &known, args.refund);
            let fate = carry_out(&writer, held, fate, &args.reason).await?;
            told.push(tell(held, fate));
        }
    }
    let waiting = told.iter().filter(|one| one.state == "withheld").count();
    if args.json {
        term::json(&json!({ "rollbacks": told }))?;
    } else {
        for one in &told {
            let Told { id, operator, amount_micro, currency, state, .. } = one;
            let why = one.why.as_deref().unwrap_or_default();
            term::say(format_args!("{id}  {operator}  {amount_micro} {currency}  {state}  {why}"))?;
        }
        term::note(format_args!("{} of {} are still withheld", waiting, told.len()))?;
    }
    Ok(if waiting == 0 { DONE } else { WAITING })
}

/// Every rollback that is withheld, of all operators.
async fn held(writer: &Writer) -> Result<Vec<Held>> {
    let all: Operators = writer.get("/internal/v1/operators").await?;
    let mut held = Vec::new();
    for operator in &all.operators {
        let path = format!("{}/jobs", wallet::of(&operator.id)?);
        let mut after = None;
        loop {
            let body = json!({ "state": "dead", "after": after });
            let page: Page = writer.post(&path, &body).await?;
            let is_last = page.jobs.len() < PAGE;
            after = page.jobs.last().map(|job| job.id);
            let is_held =
                |job: &Held| job.call == "rollback" && job.answer.as_deref() == Some(WITHHELD);
            held.extend(page.jobs.into_iter().filter(is_held));
            if held.len() > MAX_HELD {
                bail!("more than {MAX_HELD} rollbacks are withheld");
            }
            if is_last {
                break;
            }
        }
    }
    Ok(held)
}

/// Asks every ledger node what it has kept of their wins.
async fn known(layout: &Layout, held: &[Held]) -> Result<Known> {
    let topology = layout.topology()?;
    let agents = Agents::new(layout)?;
    let record = Cluster::connect(&topology, layout)?.record().await?;
    let record = record.context("there is no control record")?;
    let request = OrphanWinsRequest { bets: held.iter().map(|held| held.bet).collect() };
    let client = agents.client().within_ms(LOOK_TIMEOUT_MS);
    let mut known = Known::default();
    for ledger in &topology.ledgers {
        let status = agents.status(&ledger.agent).await.map_err(|error| chain(&error));
        if let Some(why) = not_back(&topology, &record, &ledger.node, &status) {
            known.unknown.push(format!("{}: {why}", ledger.node));
        }
        let url = format!("{}{}", ledger.agent, paths::ORPHAN_WINS);
        match client.post_json::<OrphanWinsAnswer>(&url, &request).await {
            Ok(answer) => {
                known.wins.extend(answer.wins);
                if answer.is_partial {
                    let why = "its wallet transactions were not compared";
                    known.unknown.push(format!("{}: {why}", ledger.node));
                }
            }
            Err(error) => known.unknown.push(unheard(&ledger.node, &error)?),
        }
    }
    Ok(known)
}

fn decide(bet: BetId, known: &Known, refund: bool) -> Fate {
    let mut wins = known.wins.iter().filter(|win| win.bet == bet);
    if let Some(win) = wins.clone().find(|win| win.state == PAID) {
        return Fate::Paid(win.id.clone());
    }
    if let Some(win) = wins.next() {
        return Fate::Waits(format!(
            "a lost tail was about to pay its win of {}: ask the operator whether it has transaction {}; if so resolve \
             the rollback, else retry it",
            win.amount_micro, win.id
        ));
    }
    if known.unknown.is_empty() || refund {
        return Fate::Released;
    }
    Fate::Waits(format!("its win may have been paid: {}", known.unknown.join("; ")))
}

async fn carry_out(writer: &Writer, held: &Held, fate: Fate, reason: &str) -> Result<Fate> {
    let (verb, found) = match &fate {
        Fate::Released => ("retry", "no lost tail has paid a win of this bet".to_owned()),
        Fate::Paid(win) => ("resolve", format!("the wallet has paid the lost tail's win {win}")),
        Fate::Waits(_) => return Ok(fate),
    };
    let reason = format!("{found}: {reason}");
    let path = format!("/internal/v1/wallet-jobs/{}/{verb}", held.id);
    let _shown: Value = writer.post(&path, &json!({ "reason": reason })).await?;
    Ok(fate)
}

fn tell(held: &Held, fate: Fate) -> Told {
    let (state, why) = match fate {
        Fate::Released => ("released", None),
        Fate::Paid(win) => ("resolved", Some(format!("the win {win} was paid"))),
        Fate::Waits(why) => (WITHHELD, Some(why)),
    };
    let Held { id, operator, currency, amount_micro, .. } = held;
    Told {
        id: *id,
        bet: held.bet.to_string(),
        operator: operator.clone(),
        currency: currency.clone(),
        amount_micro: *amount_micro,
        state,
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bet(n: u8) -> BetId {
        BetId::parse(&format!("0190b2f0-1c2d-7e3f-8a4b-0000000000{n:02}")).unwrap()
    }

    fn win(n: u8, state: &str) -> OrphanWin {
        OrphanWin { bet: bet(n), id: format!("w{n}"), state: state.to_owned(), amount_micro: 5 }
    }

    #[test]
    fn a_rollback_is_let_go_only_where_no_win_may_have_been_paid() {
        let wins = vec![win(1, "done"), win(2, "pending"), win(3, "pending"), win(3, "done")];
        let known = |unknown: &[&str]| Known {
            wins: wins.clone(),
            unknown: unknown.iter().map(|&node| node.to_owned()).collect(),
        };
        for (unknown, refund) in [(&[][..], false), (&["n"], false), (&["n"], true), (&[], true)] {
            let known = known(unknown);
            let fate = |n| decide(bet(n), &known, refund);
            assert_eq!(fate(1), Fate::Paid("w1".to_owned()));
            assert!(matches!(fate(2), Fate::Waits(_)), "whatever is asked");
            assert_eq!(fate(3), Fate::Paid("w3".to_owned()), "one tail knows more than another");
            let gone = fate(4) == Fate::Released;
            assert_eq!(gone, unknown.is_empty() || refund);
        }
    }
}
