//! `domicile loss-statement`: which rounds, and how much stake, a forced failover has lost, by jurisdiction and operator.
//!
//! A ledger node that returns keeps the tail that the new history lacks, before its database is rewound; this adds up
//! those tails, and what readers hold beyond the writer, and says which receipts have been honoured since. Invariant: what
//! nobody has answered about is called uncertain, never zero. Deliberately absent: settling or refunding, in [`claim`] and
//! [`release`].

pub(crate) mod claim;
mod history;
mod release;
mod unheard;

use crate::agents::Agents;
use crate::cli::LossArgs;
use crate::credentials::Writer;
use crate::layout::Layout;
use crate::term::{self, table};
use crate::up::Cluster;
use anyhow::{Context, Result, anyhow};
use claim::Told;
use domicile_control::{Plans, StoredPlan};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{ClusterId, Jurisdiction, NodeId, OperatorId};
use domicile_execute::{LOOK_TIMEOUT_MS, chain};
use domicile_topology::Topology;
use domicile_topology::agent_api::{OrphanRound, OrphanTotal, OrphansAnswer, paths};
use domicile_topology::observed::{NodeStatus, PostgresState};
use domicile_topology::record::{Beginning, Record};
use serde::Serialize;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// The statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Statement {
    cluster: ClusterId,
    /// The present epoch, and how it began.
    epoch: Epoch,
    beginning: Beginning,
    /// Epochs so far that began by force, or nobody knows how.
    doubtful_epochs: BTreeSet<Epoch>,
    /// Rounds of kept tails, each once: lost.
    lost: Vec<Lost>,
    /// Rounds of tails that a move without force left behind: whatever had been acknowledged went along, so these never were.
    unacknowledged: Vec<OrphanRound>,
    /// Rounds that only the tails' files name: they are in the totals.
    unnamed_rounds: u64,
    /// All of them, added up.
    totals: Vec<OrphanTotal>,
    /// Receipts that were handed in; `None` when the writer could not be asked.
    claims: Option<Vec<Told>>,
    /// Leaves that a reader holds and the writer does not.
    beyond_writer: Vec<Beyond>,
    /// Nodes whose tail nobody knows: uncertain.
    silent: BTreeMap<NodeId, String>,
    /// Where the kept rows are.
    files: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Lost {
    #[serde(flatten)]
    round: OrphanRound,
    /// What became of its receipts: `settled`, `refunded`, `filed`, or `partly`.
    claimed: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Beyond {
    jurisdiction: Jurisdiction,
    reader: NodeId,
    leaves: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Kept {
    node: NodeId,
    epoch: Epoch,
    fork_lsn: String,
    file: String,
    /// Rows kept, by table.
    rows: BTreeMap<String, u64>,
    /// Tables that could not be compared.
    uncompared: Vec<String>,
}

/// What the nodes said.
type Answers<T> = BTreeMap<NodeId, Result<T, String>>;

/// The command; 0 when nothing is lost and everybody has answered.
pub(crate) async fn run(layout: &Layout, args: &LossArgs) -> Result<u8> {
    let topology = layout.topology()?;
    let agents = Agents::new(layout)?;
    let control = Cluster::connect(&topology, layout)?;
    let record = control.record().await?.context("there is no control record")?;
    let plans =
        kept(&Plans::new(control.client())).await.map_err(|error| anyhow!(chain(&error)))?;
    let (mut tails, mut statuses) = (Answers::new(), Answers::new());
    let client = agents.client().within_ms(LOOK_TIMEOUT_MS);
    for ledger in &topology.ledgers {
        let url = format!("{}{}", ledger.agent, paths::ORPHANS);
        let answer = client.get_json::<OrphansAnswer>(&url).await.map_err(|error| chain(&error));
        tails.insert(ledger.node.clone(), answer);
    }
    let ledgers = topology.ledgers.iter().map(|node| (&node.node, &node.agent));
    for (node, agent) in ledgers.chain(topology.readers.iter().map(|r| (&r.node, &r.agent))) {
        let answer = agents.status(agent).await.map_err(|error| chain(&error));
        statuses.insert(node.clone(), answer);
    }
    let claims = match Writer::current(layout).await {
        Ok(writer) => claim::claims(&writer, false).await.ok(),
        Err(_) => None,
    };
    let statement = state(&topology, &record, (tails, &statuses), claims, &plans);
    if args.json {
        term::json(&statement)?;
    } else {
        term::say(statement.page())?;
    }
    Ok(u8::from(!statement.is_nothing()))
}

/// Every plan that is kept.
async fn kept(plans: &Plans) -> Result<Vec<StoredPlan>, domicile_control::Error> {
    let mut found = Vec::new();
    for id in plans.ids().await? {
        found.extend(plans.find(&id).await?);
    }
    Ok(found)
}

fn state(
    topology: &Topology,
    record: &Record,
    (tails, statuses): (Answers<OrphansAnswer>, &Answers<NodeStatus>),
    claims: Option<Vec<Told>>,
    plans: &[StoredPlan],
) -> Statement {
    let doubtful_epochs = history::doubtful(record, plans);
    let (mut lost, mut unacknowledged) = (BTreeMap::new(), BTreeMap::new());
    let (mut files, mut silent) = (Vec::new(), BTreeMap::new());
    let (mut unnamed_rounds, mut summed) = (0u64, Vec::new());
    for (node, answer) in tails {
        let tails = match answer {
            Ok(answer) => answer.tails,
            Err(error) => {
                silent.insert(node, error);
                continue;
            }
        };
        for tail in tails {
            let fork_lsn = tail.fork_lsn.to_string();
            let (epoch, file, rows, uncompared) =
                (tail.epoch, tail.file, tail.rows, tail.uncompared);
            files.push(Kept { node: node.clone(), epoch, fork_lsn, file, rows, uncompared });
            // A round of several tails counts once, as the newest tail has it.
            let rounds = tail.rounds.into_iter();
            let rounds = rounds.map(|round| ((round.jurisdiction.clone(), round.id), round));
            if history::may_have_lost(epoch, record.epoch, &doubtful_epochs) {
                unnamed_rounds = unnamed_rounds.saturating_add(tail.unnamed_rounds);
                summed.extend(tail.totals);
                lost.extend(rounds);
            } else {
                unacknowledged.extend(rounds);
            }
        }
    }
    unacknowledged.retain(|id, _round| !lost.contains_key(id));
    for (node, status) in statuses {
        if let Some(why) = not_back(topology, record, node, status) {
            silent.entry(node.clone()).or_insert_with(|| why.to_owned());
        }
    }
    let lost: Vec<OrphanRound> = lost.into_values().collect();
    // Where every round is named, one of several tails counts once; else the tails' own sums are all there is.
    let totals = if unnamed_rounds == 0 { totals(&lost) } else { added_up(summed) };
    let known = claims.as_deref().unwrap_or_default();
    let honoured = |round: OrphanRound| {
        let (id, code) = (round.id.to_string(), round.jurisdiction.as_str());
        Lost { claimed: claim::claimed(known, (code, &id), round.bets), round }
    };
    Statement {
        cluster: topology.cluster.clone(),
        epoch: record.epoch,
        beginning: record.beginning,
        doubtful_epochs,
        totals,
        unnamed_rounds,
        lost: lost.into_iter().map(honoured).collect(),
        unacknowledged: unacknowledged.into_values().collect(),
        claims,
        beyond_writer: beyond_writer(topology, record, statuses),
        silent,
        files,
    }
}

/// Why a ledger node's tail need not be known yet: it is found and kept on the node's way back.
fn not_back(
    topology: &Topology,
    record: &Record,
    node: &NodeId,
    status: &Result<NodeStatus, String>,
) -> Option<&'static str> {
    let is_former = topology.ledger(node).is_some() && *node != record.writer_node;
    let back = status.as_ref().is_ok_and(|s| s.postgres.state == PostgresState::Standby);
    (is_former && !back).then_some("it has not returned as a standby")
}

fn totals(lost: &[OrphanRound]) -> Vec<OrphanTotal> {
    let single = |round: &OrphanRound| OrphanTotal {
        jurisdiction: round.jurisdiction.clone(),
        operator: round.operator.clone(),
        currency: round.currency.clone(),
        rounds: 1,
        bets: u64::from(round.bets),
        stake_micro: round.stake_micro,
    };
    added_up(lost.iter().map(single).collect())
}

fn added_up(parts: Vec<OrphanTotal>) -> Vec<OrphanTotal> {
    let mut totals: BTreeMap<(Jurisdiction, OperatorId, String), OrphanTotal> = BTreeMap::new();
    for part in parts {
        let key = (part.jurisdiction.clone(), part.operator.clone(), part.currency.clone());
        match totals.entry(key) {
            Entry::Vacant(place) => drop(place.insert(part)),
            Entry::Occupied(mut sum) => {
                let sum = sum.get_mut();
                sum.rounds = sum.rounds.saturating_add(part.rounds);
                sum.bets = sum.bets.saturating_add(part.bets);
                sum.stake_micro = sum.stake_micro.saturating_add(part.stake_micro);
            }
        }
    }
    totals.into_values().collect()
}

fn beyond_writer(
    topology: &Topology,
    record: &Record,
    statuses: &Answers<NodeStatus>,
) -> Vec<Beyond> {
    let log = |node: &NodeId, jurisdiction: &Jurisdiction| {
        statuses.get(node)?.as_ref().ok()?.log.get(jurisdiction).map(|log| log.size)
    };
    let mut beyond = Vec::new();
    for reader in &topology.readers {
        for jurisdiction in &reader.jurisdictions {
            let held = log(&reader.node, jurisdiction).zip(log(&record.writer_node, jurisdiction));
            let leaves = held.map_or(0, |(reader, writer)| reader.saturating_sub(writer));
            // A reader asked later than the writer may be ahead for a moment, but only while writes are running.
            if leaves > 0 && record.beginning == Beginning::Forced {
                let (jurisdiction, reader) = (jurisdiction.clone(), reader.node.clone());
                beyond.push(Beyond { jurisdiction, reader, leaves });
            }
        }
    }
    beyond
}

impl Statement {
    fn is_nothing(&self) -> bool {
        self.lost.is_empty() && self.beyond_writer.is_empty() && !self.is_uncertain()
    }

    /// Ever after a forced failover a node that does not answer may keep a tail that nobody has seen.
    fn is_uncertain(&self) -> bool {
        !self.doubtful_epochs.is_empty() && !self.silent.is_empty()
    }

    fn page(&self) -> String {
        let mut parts = vec![format!(
            "Loss statement of `{}`, epoch {} (began by {})",
            self.cluster,
            self.epoch,
            format!("{:?}", self.beginning).to_ascii_lowercase()
        )];
        let count = self.unnamed_rounds.saturating_add(u64::try_from(self.lost.len()).unwrap_or(0));
        parts.push(match (count, self.is_uncertain()) {
            (0, false) if self.beyond_writer.is_empty() => "zero rounds lost".to_owned(),
            (count, true) => {
                format!("{count} rounds known to be lost; more is uncertain, see below")
            }
            (count, false) => format!("{count} rounds lost"),
        });
        if !self.totals.is_empty() {
            let rows: Vec<Vec<String>> = self.totals.iter().map(total).collect();
            let headers =
                ["jurisdiction", "operator", "rounds", "bets", "stake, micro-units", "currency"];
            parts.push(table(&headers, &rows));
            let rows: Vec<Vec<String>> = self.lost.iter().map(round).collect();
            let headers = [
                "round",
                "jurisdiction",
                "operator",
                "state there",
                "bets",
                "stake, micro-units",
                "claimed",
            ];
            parts.push(table(&headers, &rows));
        }
        if self.unnamed_rounds > 0 {
            parts.push(format!(
                "… and {} rounds more, which only the files below name",
                self.unnamed_rounds
            ));
        }
        if !self.unacknowledged.is_empty() {
            parts.push(format!(
                "· {} rounds of kept tails had been acknowledged to nobody: their callers were told `outcome-unknown` or nothing",
                self.unacknowledged.len()
            ));
        }
        if self.claims.is_none() {
            parts.push(
                "? which receipts have been honoured is not known: no writer answers".to_owned(),
            );
        }
        parts.extend(self.beyond_writer.iter().map(|beyond| {
            let Beyond { jurisdiction, reader, leaves } = beyond;
            format!(
                "✗ {reader} holds {leaves} leaves of {jurisdiction} that the writer does not have"
            )
        }));
        parts.extend(
            self.silent
                .iter()
                .map(|(node, error)| format!("? {node}, what it holds is not known: {error}")),
        );
        if self.is_uncertain() {
            let epochs: Vec<_> = self.doubtful_epochs.iter().map(ToString::to_string).collect();
            parts.push(format!(
                "? began by force, or nobody knows how: epoch {}",
                epochs.join(", ")
            ));
        }
        parts.extend(self.files.iter().map(Kept::line));
        parts.join("\n\n")
    }
}

impl Kept {
    fn line(&self) -> String {
        let Self { node, epoch, fork_lsn: _, file, rows, uncompared } = self;
        let rows: Vec<String> =
            rows.iter().map(|(table, count)| format!("{count} {table}")).collect();
        let mut line =
            format!("· the tail of epoch {epoch} is kept on {node}: {file} ({})", rows.join(", "));
        if !uncompared.is_empty() {
            line.push_str("; not compared, so that what is lost of them is not known: ");
            line.push_str(&uncompared.join(", "));
        }
        line
    }
}

fn total(total: &OrphanTotal) -> Vec<String> {
    vec![
        total.jurisdiction.to_string(),
        total.operator.to_string(),
        total.rounds.to_string(),
        total.bets.to_string(),
        total.stake_micro.to_string(),
        total.currency.clone(),
    ]
}

fn round(Lost { round, claimed }: &Lost) -> Vec<String> {
    vec![
        round.id.to_string(),
        round.jurisdiction.to_string(),
        round.operator.to_string(),
        round.state.clone(),
        round.bets.to_string(),
        format!("{} {}", round.stake_micro, round.currency),
        claimed.clone().unwrap_or_else(|| "–".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_core::epoch::Lsn;
    use domicile_core::ids::RoundId;
    use domicile_topology::agent_api::OrphanTail;

    fn topology() -> Topology {
        crate::up::document(None).unwrap()
    }

    fn record(beginning: Beginning) -> Record {
        let topology = topology();
        let ledger = &topology.ledgers[0];
        let first = Record::first(ledger.region.clone(), ledger.node.clone(), 1);
        Record { epoch: Epoch(2), beginning, ..first }
    }

    fn tail(stakes: &[(&str, u64)]) -> OrphansAnswer {
        let rounds = stakes.iter().enumerate().map(|(number, (code, stake_micro))| OrphanRound {
            jurisdiction: code.parse().unwrap(),
            id: RoundId::parse(&format!("0190b2f0-1c2d-7e3f-8a4b-5c6d7e8f9a{number:02}")).unwrap(),
            operator: "acme".parse().unwrap(),
            currency: "EUR".to_owned(),
            state: "settled".to_owned(),
            bets: 1,
            stake_micro: *stake_micro,
        });
        let rounds = rounds.collect();
        let rounds: Vec<OrphanRound> = rounds;
        let tail = OrphanTail {
            epoch: Epoch(1),
            fork_lsn: Lsn(1),
            file: "tail.jsonl".into(),
            totals: totals(&rounds),
            rounds,
            unnamed_rounds: 0,
            rows: BTreeMap::new(),
            uncompared: vec![],
        };
        OrphansAnswer { tails: vec![tail.clone(), tail] }
    }

    fn stated(beginning: Beginning, answers: [Result<OrphansAnswer, String>; 2]) -> Statement {
        let topology = topology();
        let nodes = topology.ledgers.iter().map(|ledger| ledger.node.clone());
        let answers = (nodes.zip(answers).collect(), &Answers::new());
        state(&topology, &record(beginning), answers, Some(vec![]), &[])
    }

    fn told(round: &str, state: &str) -> Told {
        serde_json::from_value(serde_json::json!({
            "jurisdiction": "MT", "round": round, "bet": round, "operator": "acme", "currency": "EUR", "stake_micro": 5,
            "state": state, "outcome": null, "payout_micro": null, "money": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_round_is_claimed_once_all_its_bets_are_alike() {
        let claims = [told("r", "settled"), told("r", "settled"), told("s", "refunded")];
        let of = |round, bets| claim::claimed(&claims, ("MT", round), bets);
        assert_eq!(of("r", 2).as_deref(), Some("settled"));
        assert_eq!(of("r", 3).as_deref(), Some("partly"));
        assert_eq!(of("s", 1).as_deref(), Some("refunded"));
        assert_eq!(of("t", 1), None);
        let mixed = [told("r", "settled"), told("r", "refunded")];
        assert_eq!(claim::claimed(&mixed, ("MT", "r"), 2).as_deref(), Some("partly"));
    }

    #[test]
    fn rounds_that_are_not_named_are_in_the_totals() {
        let mut answer = tail(&[("MT", 5)]);
        answer.tails.truncate(1);
        answer.tails[0].unnamed_rounds = 7;
        answer.tails[0].totals[0].rounds = 8;
        let statement = stated(Beginning::Forced, [Ok(answer), Ok(OrphansAnswer::default())]);
        assert_eq!(statement.totals[0].rounds, 8);
        assert!(statement.page().contains("8 rounds lost"), "{}", statement.page());
        assert!(statement.page().contains("7 rounds more"));
    }

    #[test]
    fn a_round_counts_once_and_stakes_are_added_up() {
        let tail = tail(&[("MT", 5), ("MT", 7), ("DE", 11)]);
        let statement = stated(Beginning::Forced, [Ok(tail), Ok(OrphansAnswer::default())]);
        assert_eq!(statement.lost.len(), 3);
        let totals: Vec<_> = statement
            .totals
            .iter()
            .map(|total| (total.jurisdiction.as_str(), total.rounds, total.stake_micro))
            .collect();
        assert_eq!(totals, [("DE", 1, 11), ("MT", 2, 12)]);
        assert!(!statement.is_nothing() && statement.page().contains("3 rounds lost"));
    }

    #[test]
    fn what_a_move_without_force_left_behind_had_been_acknowledged_to_nobody() {
        let kept = tail(&[("MT", 5), ("DE", 11)]);
        let statement = stated(Beginning::Failover, [Ok(kept), Ok(OrphansAnswer::default())]);
        assert_eq!(statement.unacknowledged.len(), 2);
        assert!(statement.is_nothing() && statement.totals.is_empty());
        let page = statement.page();
        assert!(page.contains("zero rounds lost") && page.contains("2 rounds of kept"), "{page}");
    }

    #[test]
    fn silence_is_uncertain_only_after_force() {
        let silent = || [Ok(OrphansAnswer::default()), Err("no answer".to_owned())];
        let forced = stated(Beginning::Forced, silent());
        assert!(!forced.is_nothing() && forced.page().contains("uncertain"));
        let failover = stated(Beginning::Failover, silent());
        assert!(failover.is_nothing() && failover.page().contains("zero rounds lost"));
        let mut later = failover;
        later.doubtful_epochs.insert(Epoch(2));
        let said = later.page();
        assert!(!later.is_nothing() && said.contains("uncertain") && said.contains("epoch 2"));
    }
}
