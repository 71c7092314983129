//! C5: every copy of a log is a prefix of the longest, and everything ever signed or seen from outside fits it.

use crate::history::{Event, History};
use crate::merkle::{Hash, Head, Tree, from_hex};
use crate::observation::{HeldLog, Observation, Observations};
use crate::verdict::{Oracle, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// C5.
pub fn extends_itself(history: &History, observations: &Observations) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C5);
    let names: BTreeSet<&str> =
        observations.nodes.iter().flat_map(|node| node.logs.keys().map(String::as_str)).collect();
    let mut origins = BTreeSet::new();
    for name in names {
        let held: Vec<(&Observation, &HeldLog)> = observations
            .nodes
            .iter()
            .filter_map(|node| node.logs.get(name).map(|log| (node, log)))
            .collect();
        for (node, log) in &held {
            sound(&mut verdict, name, &node.node, log);
        }
        let Some((longest, log)) = held.iter().max_by_key(|(_, log)| log.leaves.len()) else {
            continue;
        };
        for (node, copy) in &held {
            let prefix = log.leaves.get(..copy.leaves.len()) == Some(copy.leaves.as_slice());
            verdict.check(prefix, || {
                format!("{name}: {} holds another log than {}", node.node, longest.node)
            });
        }
        let heads = heads(&mut verdict, name, history, &held, &mut origins);
        covered(&mut verdict, name, log, &heads);
    }
    for (source, head) in seen_outside(history) {
        verdict.check(head.is_some_and(|head| origins.contains(&head.origin)), || {
            format!("{source} served a checkpoint of a log that no node holds")
        });
    }
    verdict
}

/// Indexes without gaps from zero, hashes that are those of the bytes, no checkpoint ahead of the leaves.
fn sound(verdict: &mut Verdict, name: &str, node: &str, log: &HeldLog) {
    let dense = (0..).zip(&log.leaves).all(|(expected, (index, _))| expected == *index);
    verdict.check(dense, || format!("{name}: {node} has a gap in its leaves"));
    verdict.check(log.leaves_altered == 0, || {
        format!("{name}: {node} has {} leaves that are not what was hashed", log.leaves_altered)
    });
}

/// Every head that anybody holds or was shown, by who says so.
fn heads(
    verdict: &mut Verdict,
    name: &str,
    history: &History,
    copies: &[(&Observation, &HeldLog)],
    origins: &mut BTreeSet<String>,
) -> BTreeMap<u64, BTreeMap<Hash, String>> {
    let mut heads: BTreeMap<u64, BTreeMap<Hash, String>> = BTreeMap::new();
    let mut own = BTreeSet::new();
    for (node, log) in copies {
        for note in &log.checkpoints {
            let Some(head) = Head::parse(note) else {
                verdict.check(false, || format!("{name}: {} holds an unreadable note", node.node));
                continue;
            };
            own.insert(head.origin);
            heads.entry(head.size).or_default().entry(head.root).or_insert(node.node.clone());
        }
    }
    for (source, head) in seen_outside(history) {
        if let Some(head) = head.filter(|head| own.contains(&head.origin)) {
            heads.entry(head.size).or_default().entry(head.root).or_insert(source.to_owned());
        }
    }
    origins.extend(own);
    heads
}

fn seen_outside(history: &History) -> impl Iterator<Item = (&str, Option<Head>)> {
    history.events.iter().filter_map(|event| match event {
        Event::Checkpoint { source, note, .. } => Some((source.as_str(), Head::parse(note))),
        _ => None,
    })
}

/// Each head's root is the one of the longest log's first leaves.
fn covered(
    verdict: &mut Verdict,
    name: &str,
    log: &HeldLog,
    heads: &BTreeMap<u64, BTreeMap<Hash, String>>,
) {
    let mut tree = Tree::default();
    let mut leaves = log.leaves.iter();
    let mut size = 0;
    for (wanted, roots) in heads {
        while size < *wanted {
            let Some(leaf) = leaves.next() else { break };
            let Some(hash) = from_hex(&leaf.1) else { break };
            tree.push(hash);
            size += 1;
        }
        for (root, holder) in roots {
            verdict.check(size == *wanted, || {
                format!("{name}: {holder} has a checkpoint of {wanted} leaves, {size} are left")
            });
            verdict.check(size != *wanted || tree.root() == *root, || {
                format!("{name}: {holder} has a checkpoint of {wanted} leaves that does not fit them: a fork")
            });
        }
    }
}
