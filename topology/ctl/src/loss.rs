//! `domicile loss-statement`: which rounds, and how much stake, a forced failover has lost, by jurisdiction and operator.
//!
//! A ledger node that returns keeps the tail that the new history lacks, before its database is rewound; this adds up
//! those tails, and what readers hold beyond the writer. Invariant: what nobody has answered about is called uncertain,
//! never zero. Deliberately absent: settling or refunding. The tails' files hold every row needed for that.

use crate::agents::Agents;
use crate::cli::LossArgs;
use crate::layout::Layout;
use crate::term::{self, table};
use crate::up::Cluster;
use anyhow::{Context, Result};
use domicile_core::epoch::Epoch;
use domicile_core::ids::{ClusterId, Jurisdiction, NodeId, OperatorId};
use domicile_execute::{LOOK_TIMEOUT_MS, chain};
use domicile_topology::Topology;
use domicile_topology::agent_api::{OrphanRound, OrphansAnswer, paths};
use domicile_topology::observed::{NodeStatus, PostgresState};
use domicile_topology::record::{Beginning, Record};
use serde::Serialize;
use std::collections::BTreeMap;

/// The statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Statement {
    cluster: ClusterId,
    /// The present epoch, and how it began.
    epoch: Epoch,
    beginning: Beginning,
    /// Rounds of kept tails, each once: lost.
    lost: Vec<OrphanRound>,
    /// The same, added up.
    totals: Vec<Total>,
    /// Leaves that a reader holds and the writer does not.
    beyond_writer: Vec<Beyond>,
    /// Nodes whose tail nobody knows: uncertain.
    silent: BTreeMap<NodeId, String>,
    /// Where the kept rows are.
    files: Vec<Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Total {
    jurisdiction: Jurisdiction,
    operator: OperatorId,
    currency: String,
    rounds: u64,
    bets: u64,
    stake_micro: u64,
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
}

/// What the nodes said.
type Answers<T> = BTreeMap<NodeId, Result<T, String>>;

/// The command; 0 when nothing is lost and everybody has answered.
pub(crate) async fn run(layout: &Layout, args: &LossArgs) -> Result<u8> {
    let topology = layout.topology()?;
    let agents = Agents::new(layout)?;
    let record = Cluster::connect(&topology, layout)?.record().await?;
    let record = record.context("there is no control record")?;
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
    let statement = state(&topology, &record, tails, &statuses);
    if args.json {
        term::json(&statement)?;
    } else {
        term::say(statement.page())?;
    }
    Ok(u8::from(!statement.is_nothing()))
}

fn state(
    topology: &Topology,
    record: &Record,
    tails: Answers<OrphansAnswer>,
    statuses: &Answers<NodeStatus>,
) -> Statement {
    let (mut lost, mut files, mut silent) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
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
            files.push(Kept { node: node.clone(), epoch: tail.epoch, fork_lsn, file: tail.file });
            // A round of several tails counts once, as the newest tail has it.
            lost.extend(
                tail.rounds
                    .into_iter()
                    .map(|round| ((round.jurisdiction.clone(), round.id), round)),
            );
        }
    }
    for (node, status) in statuses {
        let is_former = topology.ledger(node).is_some() && *node != record.writer_node;
        let back = status.as_ref().is_ok_and(|s| s.postgres.state == PostgresState::Standby);
        if is_former && !back {
            let not_back = || "it has not returned as a standby".to_owned();
            silent.entry(node.clone()).or_insert_with(not_back);
        }
    }
    let lost: Vec<OrphanRound> = lost.into_values().collect();
    Statement {
        cluster: topology.cluster.clone(),
        epoch: record.epoch,
        beginning: record.beginning,
        totals: totals(&lost),
        lost,
        beyond_writer: beyond_writer(topology, record, statuses),
        silent,
        files,
    }
}

fn totals(lost: &[OrphanRound]) -> Vec<Total> {
    let mut totals: BTreeMap<(&Jurisdiction, &OperatorId, &str), Total> = BTreeMap::new();
    for round in lost {
        let key = (&round.jurisdiction, &round.operator, round.currency.as_str());
        let total = totals.entry(key).or_insert_with(|| Total {
            jurisdiction: round.jurisdiction.clone(),
            operator: round.operator.clone(),
            currency: round.currency.clone(),
            rounds: 0,
            bets: 0,
            stake_micro: 0,
        });
        total.rounds += 1;
        total.bets += u64::from(round.bets);
        total.stake_micro = total.stake_micro.saturating_add(round.stake_micro);
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

    /// After a forced failover a node that does not answer may keep a tail that nobody has seen.
    fn is_uncertain(&self) -> bool {
        self.beginning == Beginning::Forced && !self.silent.is_empty()
    }

    fn page(&self) -> String {
        let mut parts = vec![format!(
            "Loss statement of `{}`, epoch {} (began by {})",
            self.cluster,
            self.epoch,
            format!("{:?}", self.beginning).to_ascii_lowercase()
        )];
        parts.push(match (self.lost.len(), self.is_uncertain()) {
            (0, false) if self.beyond_writer.is_empty() => "zero rounds lost".to_owned(),
            (count, true) => {
                format!("{count} rounds known to be lost; more is uncertain, see below")
            }
            (count, false) => format!("{count} rounds lost"),
        });
        if !self.totals.is_empty() {
            let rows: Vec<Vec<String>> = self.totals.iter().map(Total::row).collect();
            let headers =
                ["jurisdiction", "operator", "rounds", "bets", "stake, micro-units", "currency"];
            parts.push(table(&headers, &rows));
            let rows: Vec<Vec<String>> = self.lost.iter().map(round).collect();
            let headers =
                ["round", "jurisdiction", "operator", "state there", "bets", "stake, micro-units"];
            parts.push(table(&headers, &rows));
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
        parts.extend(self.files.iter().map(|kept| {
            format!(
                "· every row of the tail of epoch {} is kept on {}: {}",
                kept.epoch, kept.node, kept.file
            )
        }));
        parts.join("\n\n")
    }
}

impl Total {
    fn row(&self) -> Vec<String> {
        vec![
            self.jurisdiction.to_string(),
            self.operator.to_string(),
            self.rounds.to_string(),
            self.bets.to_string(),
            self.stake_micro.to_string(),
            self.currency.clone(),
        ]
    }
}

fn round(round: &OrphanRound) -> Vec<String> {
    vec![
        round.id.to_string(),
        round.jurisdiction.to_string(),
        round.operator.to_string(),
        round.state.clone(),
        round.bets.to_string(),
        format!("{} {}", round.stake_micro, round.currency),
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
        let tail =
            OrphanTail { epoch: Epoch(1), fork_lsn: Lsn(1), file: "tail.jsonl".into(), rounds };
        OrphansAnswer { tails: vec![tail.clone(), tail] }
    }

    fn stated(beginning: Beginning, answers: [Result<OrphansAnswer, String>; 2]) -> Statement {
        let topology = topology();
        let nodes = topology.ledgers.iter().map(|ledger| ledger.node.clone());
        state(&topology, &record(beginning), nodes.zip(answers).collect(), &Answers::new())
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
    fn silence_is_uncertain_only_after_force() {
        let silent = || [Ok(OrphansAnswer::default()), Err("no answer".to_owned())];
        let forced = stated(Beginning::Forced, silent());
        assert!(!forced.is_nothing() && forced.page().contains("uncertain"));
        let failover = stated(Beginning::Failover, silent());
        assert!(failover.is_nothing() && failover.page().contains("zero rounds lost"));
    }
}
