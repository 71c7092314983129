//! The operations log as the writer serves it, checked.

use super::trust::Trust;
use crate::credentials::Writer;
use anyhow::{Context, Result, bail};
use domicile_core::checkpoint::Checkpoint;
use domicile_core::hex;
use domicile_core::log::frontier::Frontier;
use domicile_core::log::proof::{verify_consistency, verify_inclusion};
use domicile_core::log::{Hash, leaf_hash};
use domicile_core::note::VerifierKey;
use domicile_core::operation;
use domicile_topology::Topology;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

/// Entries asked for at once.
const PAGE: u64 = 500;

/// The log and the keys that sign for it.
pub(super) struct Log {
    writer: Writer,
    keys: Vec<VerifierKey>,
}

/// A signed tree head.
pub(super) struct Head {
    /// What it says.
    pub(super) checkpoint: Checkpoint,
    /// The note as served.
    pub(super) note: String,
}

/// An entry that is in the log.
pub(super) struct Proven {
    pub(super) head: Head,
    pub(super) index: u64,
    pub(super) text: String,
    pub(super) inclusion: Vec<String>,
}

#[derive(Deserialize)]
struct HeadAnswer {
    checkpoint: String,
}

#[derive(Deserialize)]
struct Entry {
    index: u64,
    entry: String,
}

#[derive(Deserialize)]
struct EntriesAnswer {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct ProofAnswer {
    checkpoint: String,
    entry: Option<Entry>,
    inclusion: Option<Vec<String>>,
    consistency: Option<Vec<String>>,
}

impl Log {
    /// The log of this cluster.
    pub(super) fn new(writer: Writer, topology: &Topology) -> Result<Self> {
        let keys = topology.log_keys.iter().filter(|key| operation::is_log(&key.jurisdiction));
        let keys: Result<Vec<_>, _> = keys.map(|key| VerifierKey::parse(&key.vkey)).collect();
        let keys = keys.context("the topology's key of the operations log is malformed")?;
        if keys.is_empty() {
            bail!("the topology has no key of the operations log; `domicile up` adds one");
        }
        Ok(Self { writer, keys })
    }

    /// The newest checkpoint, its signature checked.
    pub(super) async fn head(&self) -> Result<Head> {
        let answer: HeadAnswer = self.writer.get("/internal/v1/operations").await?;
        self.open(answer.checkpoint)
    }

    fn open(&self, note: String) -> Result<Head> {
        let checkpoint = Checkpoint::open(&note, &self.keys)
            .context("the operations log's checkpoint is not signed by its published key")?;
        if !operation::is_log(&checkpoint.origin.jurisdiction) {
            bail!("the checkpoint is one of {}", checkpoint.origin);
        }
        Ok(Head { checkpoint, note })
    }

    /// Checks that the log extends what was seen last.
    pub(super) async fn extends(&self, head: &Head, trust: &Trust) -> Result<()> {
        let Some(seen) = trust.seen().filter(|seen| seen.origin == head.checkpoint.origin) else {
            return Ok(());
        };
        if head.checkpoint.size < seen.size {
            bail!(shrank(seen.size, head.checkpoint.size));
        }
        let body = json!({ "from_size": seen.size });
        let answer: ProofAnswer = self.writer.post("/internal/v1/operations/proof", &body).await?;
        // The log may have grown since the head was read: the proof is to the newer one, which then extends both.
        let newest = self.open(answer.checkpoint)?.checkpoint;
        let path = hashes(&answer.consistency.unwrap_or_default())?;
        verify_consistency(seen.size, newest.size, &seen.root, &newest.root, &path)
            .with_context(|| forked(seen.size))?;
        if newest.size != head.checkpoint.size {
            let body = json!({ "from_size": head.checkpoint.size });
            let answer: ProofAnswer =
                self.writer.post("/internal/v1/operations/proof", &body).await?;
            let newest = self.open(answer.checkpoint)?.checkpoint;
            let path = hashes(&answer.consistency.unwrap_or_default())?;
            let (size, root) = (head.checkpoint.size, &head.checkpoint.root);
            verify_consistency(size, newest.size, root, &newest.root, &path)
                .with_context(|| forked(size))?;
        }
        Ok(())
    }

    /// The latest entries and the index of the first of them.
    pub(super) async fn tail(&self, head: &Head, limit: u64) -> Result<(u64, Vec<String>)> {
        let from = head.checkpoint.size.saturating_sub(limit);
        let mut texts = Vec::new();
        self.read(from, head.checkpoint.size, |text| texts.push(text.to_owned())).await?;
        Ok((from, texts))
    }

    /// One entry with the proof that it is in the log, which extends what was seen last.
    pub(super) async fn entry(&self, id: Uuid, trust: &Trust) -> Result<Proven> {
        let body = json!({ "id": id });
        let answer: ProofAnswer = self.writer.post("/internal/v1/operations/proof", &body).await?;
        let head = self.open(answer.checkpoint)?;
        self.extends(&head, trust).await?;
        let entry = answer.entry.context("the writer's answer lacks the entry")?;
        let inclusion = answer.inclusion.unwrap_or_default();
        let (leaf, path) = (leaf_hash(entry.entry.as_bytes()), hashes(&inclusion)?);
        let checkpoint = &head.checkpoint;
        verify_inclusion(entry.index, checkpoint.size, &leaf, &path, &checkpoint.root)
            .context("the entry is not the one that the log was signed with")?;
        Ok(Proven { index: entry.index, text: entry.entry, inclusion, head })
    }

    /// Reads every entry: their tree must be the signed one, and begin with the one seen last.
    pub(super) async fn whole(&self, head: &Head, trust: &Trust) -> Result<u64> {
        let checkpoint = &head.checkpoint;
        let seen = trust.seen().filter(|seen| seen.origin == checkpoint.origin);
        if let Some(seen) = seen.filter(|seen| seen.size > checkpoint.size) {
            bail!(shrank(seen.size, checkpoint.size));
        }
        let mut tree = Frontier::new();
        let mut root_then = (seen.map(|seen| seen.size) == Some(0)).then(|| tree.root());
        self.read(0, checkpoint.size, |text| {
            tree.push(leaf_hash(text.as_bytes()));
            if seen.is_some_and(|seen| seen.size == tree.size()) {
                root_then = Some(tree.root());
            }
        })
        .await?;
        if tree.root() != checkpoint.root {
            bail!(
                "the entries are not the ones that the checkpoint of {} entries was signed with: a row was changed",
                checkpoint.size
            );
        }
        if let Some(seen) = seen.filter(|seen| root_then != Some(seen.root)) {
            bail!(forked(seen.size));
        }
        Ok(checkpoint.size)
    }

    async fn read(&self, from: u64, to: u64, mut each: impl FnMut(&str)) -> Result<()> {
        let mut next = from;
        while next < to {
            let body = json!({ "from": next, "limit": PAGE.min(to - next) });
            let path = "/internal/v1/operations/entries";
            let page: EntriesAnswer = self.writer.post(path, &body).await?;
            for Entry { index, entry } in &page.entries {
                if *index != next {
                    bail!("entry {next} of the operations log is missing");
                }
                each(entry);
                next += 1;
            }
            if page.entries.is_empty() {
                bail!("entry {next} of the operations log is missing");
            }
        }
        Ok(())
    }
}

fn shrank(seen: u64, now: u64) -> String {
    format!(
        "the operations log has {now} entries, and {seen} were seen before: entries were lost or taken away"
    )
}

fn forked(seen: u64) -> String {
    format!(
        "the operations log does not extend the {seen} entries that were seen before: it was rewritten"
    )
}

fn hashes(path: &[String]) -> Result<Vec<Hash>> {
    path.iter().map(|hash| hex::decode_32(hash).context("a proof holds no hash")).collect()
}
