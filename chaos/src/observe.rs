//! What exists after a run: every node looked into, once its copies have caught up.

use crate::database;
use crate::digest;
use crate::system::System;
use anyhow::{Context, Result, bail};
use domicile_core::ids::NodeId;
use domicile_oracles::observation::{Effect, HeldLog, Holder, Observation, Observations};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long copies may take to catch up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Most of a server's log that is read, in bytes.
const SERVER_LOG_MAX_BYTES: u64 = 32 * 1024 * 1024;
/// Words of the lines that are kept.
const TELLING: [&str; 8] = [
    "PANIC",
    "FATAL",
    "ERROR",
    "WARNING",
    "invalid",
    "checksum",
    "could not read",
    "ready to accept",
];

/// How far each server's log was written when the run began.
#[derive(Debug, Default)]
pub struct LogPositions(BTreeMap<PathBuf, u64>);

/// Every database node with what it may hold.
pub fn holders(system: &System) -> Vec<(NodeId, Holder)> {
    let ledgers = system.topology.ledgers.iter().map(|n| (n.node.clone(), Holder::Ledger));
    let readers = system.topology.readers.iter().map(|n| {
        let own = n.jurisdictions.iter().map(ToString::to_string).collect();
        (n.node.clone(), Holder::Reader(own))
    });
    ledgers.chain(readers).collect()
}

fn log_files(system: &System, node: &NodeId) -> Vec<PathBuf> {
    let folder = system.state.join("nodes").join(node.as_str()).join("agent/postgres/log");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

impl LogPositions {
    /// Where every server's log ends now.
    pub fn now(system: &System) -> Self {
        let files = holders(system).into_iter().flat_map(|(node, _)| log_files(system, &node));
        Self(
            files
                .map(|file| (file.clone(), file.metadata().map_or(0, |meta| meta.len())))
                .collect(),
        )
    }

    /// The telling lines a server wrote since.
    fn since(&self, system: &System, node: &NodeId) -> Result<Vec<String>> {
        let mut kept = vec![format!("the log of {node} was read")];
        for path in log_files(system, node) {
            let mut file = std::fs::File::open(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            // A file that is shorter than it was has been begun again.
            let length = file.metadata()?.len();
            let from = self.0.get(&path).copied().filter(|from| *from <= length).unwrap_or(0);
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(SERVER_LOG_MAX_BYTES).read_to_end(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            let telling = |line: &&str| TELLING.iter().any(|words| line.contains(words));
            kept.extend(text.lines().filter(telling).map(str::to_owned));
        }
        Ok(kept)
    }
}

/// Waits until every copy has what the writer has, and looks at all nodes. `operator` made all of the run's effects.
pub async fn observe(system: &System, operator: &str, logs: &LogPositions) -> Result<Observations> {
    let mut observations = Observations::default();
    if let Err(late) = caught_up(system).await {
        observations.unseen.insert("replication".to_owned(), format!("{late:#}"));
    }
    for (node, holder) in holders(system) {
        match look(system, &node, holder, operator, logs).await {
            Ok(seen) => observations.nodes.push(seen),
            Err(error) => {
                observations.unseen.insert(node.to_string(), format!("{error:#}"));
            }
        }
    }
    Ok(observations)
}

/// A mark of the end of everything that each copy must have: the last leaf of each log and the number of bets.
async fn marks(system: &System, node: &NodeId) -> Result<BTreeMap<String, String>> {
    let sql = "SELECT jurisdiction || '|' || 'leaves ' || count(*) FROM log.leaf GROUP BY jurisdiction \
               UNION ALL SELECT jurisdiction || '|' || 'bets ' || count(*) || ' ' || count(payout_micro) \
               FROM ledger.bet GROUP BY jurisdiction \
               UNION ALL SELECT jurisdiction || '|' || 'checkpoints ' || count(*) FROM log.checkpoint \
               GROUP BY jurisdiction ORDER BY 1";
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for line in database::lines(system, node, sql).await? {
        let (jurisdiction, mark) = line.split_once('|').context("a mark without jurisdiction")?;
        let text = found.entry(jurisdiction.to_owned()).or_default();
        text.push_str(mark);
        text.push(';');
    }
    Ok(found)
}

async fn caught_up(system: &System) -> Result<()> {
    let begun = Instant::now();
    loop {
        let writer = system.record()?.writer_node;
        let behind = match marks(system, &writer).await {
            Ok(all) => behind(system, &all).await,
            Err(error) => Some(format!("{error:#}")),
        };
        let Some(behind) = behind else { return Ok(()) };
        if begun.elapsed() >= CAUGHT_UP_WITHIN {
            bail!("not caught up within {} s: {behind}", CAUGHT_UP_WITHIN.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The first node that lacks something.
async fn behind(system: &System, all: &BTreeMap<String, String>) -> Option<String> {
    for (node, holder) in holders(system) {
        let wanted: BTreeMap<_, _> = all.iter().filter(|(code, _)| holder.may_hold(code)).collect();
        match marks(system, &node).await {
            Ok(own) if own.iter().collect::<BTreeMap<_, _>>() == wanted => {}
            Ok(own) => return Some(format!("{node} has {own:?} of {wanted:?}")),
            Err(error) => return Some(format!("{error:#}")),
        }
    }
    None
}

async fn look(
    system: &System,
    node: &NodeId,
    holder: Holder,
    operator: &str,
    logs: &LogPositions,
) -> Result<Observation> {
    let epochs = match holder {
        Holder::Ledger => epochs(system, node).await?,
        Holder::Reader(_) => Vec::new(),
    };
    Ok(Observation {
        node: node.to_string(),
        effects: effects(system, node, operator).await?,
        jurisdictions: jurisdictions(system, node).await?,
        logs: held_logs(system, node).await?,
        epochs,
        server_log: logs.since(system, node)?,
        holder,
    })
}

async fn epochs(system: &System, node: &NodeId) -> Result<Vec<(u64, String)>> {
    let lines =
        database::lines(system, node, "SELECT epoch, node FROM ledger.epoch ORDER BY epoch");
    let parse = |line: String| {
        let (epoch, writer) = line.split_once('|').context("an epoch without node")?;
        Ok((epoch.parse().context("an epoch that is no number")?, writer.to_owned()))
    };
    lines.await?.into_iter().map(parse).collect()
}

async fn effects(system: &System, node: &NodeId, operator: &str) -> Result<Vec<Effect>> {
    let bets = format!(
        "SELECT json_build_object('round', b.round_id, 'bet', b.id, 'outcome', r.outcome, 'payout_micro', \
         b.payout_micro, 'receipt', b.receipt, 'tag', encode(b.client_seed, 'hex'), 'jurisdiction', \
         b.jurisdiction, 'kind', r.kind) FROM ledger.bet b LEFT JOIN ledger.round r \
         ON r.jurisdiction = b.jurisdiction AND r.id = b.round_id WHERE b.operator_id = '{operator}'"
    );
    let rounds = format!(
        "SELECT json_build_object('round', id, 'game', game, 'commitment', encode(commitment, 'hex'), \
         'outcome', outcome, 'jurisdiction', jurisdiction, 'closed', closed_at IS NOT NULL, 'settled', \
         state = 'settled') FROM ledger.round WHERE kind = 'round' AND operator_id = '{operator}'"
    );
    let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut found = Vec::new();
    for row in database::documents(system, node, &bets).await? {
        let play = text(&row, "kind").as_deref() == Some("play");
        found.push(Effect {
            effect: format!("bet/{}", text(&row, "bet").unwrap_or_default()),
            digest: digest::fields(&row, if play { &digest::PLAY } else { &digest::BET }),
            tag: text(&row, "tag"),
            jurisdiction: text(&row, "jurisdiction").unwrap_or_default(),
        });
    }
    for row in database::documents(system, node, &rounds).await? {
        let id = text(&row, "round").unwrap_or_default();
        let is = |name: &str| row.get(name).and_then(Value::as_bool).unwrap_or_default();
        let mut add = |prefix: &str, fields: &[&str]| {
            found.push(Effect {
                effect: format!("{prefix}/{id}"),
                digest: digest::fields(&row, fields),
                tag: None,
                jurisdiction: text(&row, "jurisdiction").unwrap_or_default(),
            });
        };
        add("round", &digest::ROUND);
        if is("closed") {
            add("closed", &digest::CLOSED);
        }
        if is("settled") {
            add("settled", &digest::SETTLED);
        }
    }
    Ok(found)
}

/// Every jurisdiction in any table that has such a column.
async fn jurisdictions(system: &System, node: &NodeId) -> Result<BTreeSet<String>> {
    let tables = database::lines(
        system,
        node,
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.columns \
         WHERE column_name = 'jurisdiction' AND table_schema NOT IN ('pg_catalog', 'information_schema')",
    )
    .await?;
    if tables.is_empty() {
        bail!("{node} has no table with a jurisdiction");
    }
    let parts: Vec<String> =
        tables.iter().map(|table| format!("SELECT DISTINCT jurisdiction FROM {table}")).collect();
    let found = database::lines(system, node, &parts.join(" UNION ")).await?;
    Ok(found.into_iter().collect())
}

async fn held_logs(system: &System, node: &NodeId) -> Result<BTreeMap<String, HeldLog>> {
    let mut logs: BTreeMap<String, HeldLog> = BTreeMap::new();
    let leaves = "SELECT jurisdiction || '/' || log_epoch, idx, encode(leaf_hash, 'hex'), \
                  sha256('\\x00'::bytea || entry) = leaf_hash FROM log.leaf ORDER BY 1, 2";
    for line in database::lines(system, node, leaves).await? {
        let mut fields = line.split('|');
        let mut next = || fields.next().context("a leaf without a field");
        let (name, index, hash, sound) = (next()?, next()?, next()?, next()?);
        let log = logs.entry(name.to_owned()).or_default();
        log.leaves.push((index.parse().context("an index that is no number")?, hash.to_owned()));
        log.leaves_altered += u64::from(sound != "t");
    }
    let notes = "SELECT json_build_object('log', jurisdiction || '/' || log_epoch, 'note', note) \
                 FROM log.checkpoint ORDER BY jurisdiction, log_epoch, size";
    for row in database::documents(system, node, notes).await? {
        let text =
            |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        logs.entry(text("log")).or_default().checkpoints.push(text("note"));
    }
    Ok(logs)
}
