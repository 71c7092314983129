//! What readers hold of each log before and after a move, checked here: the second tree must begin with the first.
//!
//! The readers serve checkpoints and proofs; signatures and hashes are checked with the published keys, so that no word of
//! theirs is taken. Deliberately absent: the new writer's own gate, whose answer is kept beside this as it gave it.

use super::report::{Held, LogEvidence};
use crate::agents::Agents;
use crate::outside::pinned;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use domicile_core::base64;
use domicile_core::checkpoint::Checkpoint;
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use domicile_core::log::Hash;
use domicile_core::log::proof::verify_consistency;
use domicile_core::note::VerifierKey;
use domicile_execute::{LOOK_TIMEOUT_MS, chain};
use domicile_service::client::HttpClient;
use domicile_topology::Topology;
use domicile_topology::address::ServiceUrl;
use domicile_topology::observed::PostgresState;
use domicile_topology::plan::Facts;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a reader may take until it serves a log that extends what it served before.
const CATCH_UP_WITHIN: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(250);

/// Asks the readers, and remembers what they said.
pub(crate) struct Logs<'a> {
    client: HttpClient,
    topology: &'a Topology,
    keys: Vec<VerifierKey>,
}

/// The checkpoints of every reader and log: signed text, or why there is none.
pub(crate) type Checkpoints = BTreeMap<(Jurisdiction, NodeId), Option<String>>;

impl<'a> Logs<'a> {
    pub(crate) fn new(topology: &'a Topology, agents: &Agents) -> Result<Self> {
        let client = agents.client().within_ms(LOOK_TIMEOUT_MS);
        Ok(Self { client, topology, keys: pinned(topology)? })
    }

    /// The newest checkpoints, as served now.
    pub(crate) async fn checkpoints(&self) -> Checkpoints {
        let mut checkpoints = Checkpoints::new();
        for (jurisdiction, node, endpoint) in self.held() {
            let text = self.text(endpoint, &format!("/log/{jurisdiction}/checkpoint")).await.ok();
            checkpoints.insert((jurisdiction.clone(), node.clone()), text);
        }
        checkpoints
    }

    /// What each reader serves now, proven to extend what it served before.
    pub(crate) async fn since(&self, before: &Checkpoints) -> Vec<LogEvidence> {
        let mut evidence = Vec::new();
        for (jurisdiction, node, endpoint) in self.held() {
            let (jurisdiction, reader) = (jurisdiction.clone(), node.clone());
            let before = before.get(&(jurisdiction.clone(), reader.clone())).cloned().flatten();
            let mut found =
                LogEvidence { jurisdiction, reader, before, after: None, proof: None, fault: None };
            let begun = Instant::now();
            loop {
                match self.extend(endpoint, &mut found).await {
                    Ok(()) => break found.fault = None,
                    Err(error) => found.fault = Some(format!("{error:#}")),
                }
                if begun.elapsed() >= CATCH_UP_WITHIN {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            evidence.push(found);
        }
        evidence
    }

    async fn extend(&self, endpoint: &ServiceUrl, found: &mut LogEvidence) -> Result<()> {
        let log = format!("/log/{}", found.jurisdiction);
        let Some(before) = &found.before else {
            found.after = Some(self.text(endpoint, &format!("{log}/checkpoint")).await?);
            return Ok(());
        };
        let old = Checkpoint::open(before, &self.keys).context("the checkpoint before")?;
        let text = self.text(endpoint, &format!("{log}/consistency?from={}", old.size)).await?;
        let (hashes, note) =
            text.split_once("\n\n").context("the answer is no consistency proof")?;
        let after = Checkpoint::open(note, &self.keys).context("the checkpoint after")?;
        check(&old, &after, hashes)?;
        (found.after, found.proof) = (Some(note.to_owned()), Some(hashes.to_owned()));
        Ok(())
    }

    async fn text(&self, endpoint: &ServiceUrl, path: &str) -> Result<String> {
        let request = http::Request::get(format!("{endpoint}{path}")).body(Bytes::new())?;
        let answer = self.client.send(request).await.map_err(|error| anyhow!(chain(&error)))?;
        if !answer.status().is_success() {
            bail!("the reader answers {}", answer.status());
        }
        Ok(String::from_utf8(answer.into_body().to_vec())?)
    }

    fn held(&self) -> impl Iterator<Item = (&'a Jurisdiction, &'a NodeId, &'a ServiceUrl)> {
        let readers = self.topology.readers.iter();
        readers.flat_map(|r| r.jurisdictions.iter().map(move |code| (code, &r.node, &r.endpoint)))
    }
}

/// Whether the newer tree begins with the older one, by the hashes given one per line after `old <size>`.
fn check(old: &Checkpoint, new: &Checkpoint, text: &str) -> Result<()> {
    if old.origin != new.origin {
        bail!("the log is another one now: {} instead of {}", new.origin, old.origin);
    }
    let hash = |line: &str| -> Option<Hash> { base64::decode(line)?.try_into().ok() };
    let hashes: Option<Vec<Hash>> = text.lines().skip(1).map(hash).collect();
    let hashes = hashes.context("a hash of the proof cannot be read")?;
    verify_consistency(old.size, new.size, &old.root, &new.root, &hashes).with_context(|| {
        format!("the log of {} leaves does not begin with the one of {}", new.size, old.size)
    })
}

/// Where each jurisdiction's data is, as the nodes that answer say.
pub(crate) fn residency(facts: &Facts) -> Vec<Held> {
    let topology = &facts.topology;
    let holds = |node: &NodeId| {
        let status = facts.nodes.get(node).and_then(|fact| fact.status.as_ref());
        status.is_some_and(|status| status.postgres.state != PostgresState::Absent)
    };
    let answers = |node: &NodeId| facts.nodes.get(node).is_some_and(|fact| fact.status.is_some());
    let held = |policy: &domicile_topology::document::JurisdictionPolicy| {
        let ledgers = topology.ledgers.iter().map(|node| (&node.node, &node.region));
        let readers = topology.readers.iter().filter(|r| r.jurisdictions.contains(&policy.code));
        let nodes: Vec<(&NodeId, &RegionId)> =
            ledgers.chain(readers.map(|reader| (&reader.node, &reader.region))).collect();
        let regions: BTreeSet<RegionId> = nodes
            .iter()
            .filter(|(node, _)| holds(node))
            .map(|(_, region)| (*region).clone())
            .collect();
        let foreign =
            regions.difference(&policy.allowed_regions).map(|r| format!("{r} may not hold it"));
        // A region whose nodes do not answer may well hold it: that is a fault of the region, not a move of data.
        let missing = policy.required_copy_regions.difference(&regions).filter(|region| {
            nodes.iter().filter(|(_, of)| of == region).all(|(node, _)| answers(node))
        });
        let missing = missing.map(|region| format!("{region} must hold it"));
        let violations = foreign.chain(missing).collect();
        Held { jurisdiction: policy.code.clone(), regions, violations }
    };
    topology.jurisdictions.iter().map(held).collect()
}
