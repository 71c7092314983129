//! C7: a reader holds its own jurisdictions only, is not further behind than it may be, and does not forget what it showed.

use crate::history::{Event, History, Read};
use crate::observation::Observations;
use crate::verdict::{Oracle, Verdict};
use std::collections::BTreeMap;

/// C7.
pub fn stay_at_home(
    history: &History,
    observations: &Observations,
    lag_max_ms: &BTreeMap<String, u64>,
) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C7);
    for node in &observations.nodes {
        for jurisdiction in &node.jurisdictions {
            verdict.check(node.holder.may_hold(jurisdiction), || {
                format!("{} holds rows of {jurisdiction}", node.node)
            });
        }
    }
    let mut shown: BTreeMap<&str, Vec<(u64, &Read)>> = BTreeMap::new();
    for event in &history.events {
        let Event::Read { asked_ns, at_ns, client, read } = event else { continue };
        let Read { node, effect, .. } = read;
        verdict.check(read.log_size >= read.asked_size, || {
            let (given, asked) = (read.log_size, read.asked_size);
            format!("{client}: {node} answered from size {given}, at least {asked} was asked for")
        });
        let most = lag_max_ms.get(&read.jurisdiction);
        verdict.check(most.is_none_or(|most| read.lag_ms <= *most), || {
            format!("{client}: {node} answered while {} ms behind", read.lag_ms)
        });
        let before = shown.entry(effect).or_default();
        let known = before.iter().any(|(at, earlier)| {
            earlier.found && at < asked_ns && read.asked_size >= earlier.log_size
        });
        verdict.check(read.found || !known, || {
            format!("{client}: {effect} was shown before, and {node} does not know it")
        });
        before.push((*at_ns, read));
    }
    verdict
}
