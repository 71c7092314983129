//! C6: epochs only grow for everybody who looks, and in each one node answers.

use crate::history::{Event, History};
use crate::observation::Observations;
use crate::verdict::{Oracle, Verdict};
use std::collections::BTreeMap;

/// C6.
pub fn only_grow(history: &History, observations: &Observations) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C6);
    let mut writers: BTreeMap<u64, &str> = BTreeMap::new();
    let mut one_writer = |verdict: &mut Verdict, who: &str, epoch: u64, node| {
        let first = *writers.entry(epoch).or_insert(node);
        verdict.check(first == node, || {
            format!("{who} knows {node} as the writer of epoch {epoch}, others {first}")
        });
    };
    let mut highest: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &history.events {
        let Event::Record { observer, epoch, node, .. } = event else { continue };
        one_writer(&mut verdict, observer, *epoch, node);
        let before = highest.entry(observer).or_insert(*epoch);
        verdict.check(epoch >= before, || {
            format!("{observer} saw epoch {epoch} after epoch {before}")
        });
        *before = (*before).max(*epoch);
    }
    for node in &observations.nodes {
        for (epoch, writer) in &node.epochs {
            one_writer(&mut verdict, &node.node, *epoch, writer);
        }
        let growing = node.epochs.is_sorted_by(|before, after| before.0 < after.0);
        verdict.check(growing, || format!("{} opened epochs out of order", node.node));
    }
    answers(&mut verdict, history);
    verdict
}

/// No request that was sent after an answer of a newer epoch had arrived is answered by an older one; and in each epoch
/// one node answers.
fn answers(verdict: &mut Verdict, history: &History) {
    let mut told: Vec<(u64, u64, u64, &str)> = Vec::new();
    let mut nodes: BTreeMap<u64, &str> = BTreeMap::new();
    for operation in &history.operations {
        for (invoked, at, acknowledged) in operation.acknowledgements() {
            let Some(epoch) = acknowledged.epoch else { continue };
            told.push((at, invoked, epoch, &operation.key));
            if let Some(node) = &acknowledged.node {
                let first = *nodes.entry(epoch).or_insert(node);
                verdict.check(first == node, || {
                    format!("{}: {node} answered in epoch {epoch}, as {first} did", operation.key)
                });
            }
        }
    }
    told.sort_unstable();
    // The highest epoch that anybody had been told by each time.
    let mut known: Vec<(u64, u64)> = Vec::new();
    for (at, _, epoch, _) in &told {
        if known.last().is_none_or(|(_, highest)| epoch > highest) {
            known.push((*at, *epoch));
        }
    }
    for (_, invoked, epoch, key) in &told {
        let before = known.partition_point(|(at, _)| at < invoked);
        let highest = before.checked_sub(1).and_then(|last| known.get(last)).map_or(0, |k| k.1);
        verdict.check(*epoch >= highest, || {
            format!("{key}: answered in epoch {epoch}, sent after epoch {highest} had answered")
        });
    }
}
