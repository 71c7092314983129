//! C1, C2, C3: what was promised against the effects that exist.

use crate::history::{History, Kind, Operation, Standing};
use crate::observation::{Effect, Observation, Observations};
use crate::verdict::{Oracle, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// The prefix of the effects that an operation of this kind has.
fn family(kind: Kind) -> &'static str {
    match kind {
        Kind::Play | Kind::Bet => "bet/",
        Kind::Open => "round/",
        Kind::Close => "closed/",
        Kind::Settle => "settled/",
    }
}

fn by_effect(node: &Observation) -> BTreeMap<&str, Vec<&Effect>> {
    let mut found: BTreeMap<&str, Vec<&Effect>> = BTreeMap::new();
    for effect in &node.effects {
        found.entry(&effect.effect).or_default().push(effect);
    }
    found
}

fn by_tag(node: &Observation) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for effect in &node.effects {
        if let Some(tag) = &effect.tag {
            found.entry(tag).or_default().insert(&effect.effect);
        }
    }
    found
}

/// Every effect known anywhere, with its jurisdictions: a node that may hold one of them must have it.
fn jurisdictions(observations: &Observations) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for effect in observations.nodes.iter().flat_map(|node| &node.effects) {
        found.entry(&effect.effect).or_default().insert(&effect.jurisdiction);
    }
    found
}

/// C1: an acknowledged effect is there exactly once, with what was told, on every node that holds its jurisdiction.
pub fn acknowledged_is_kept(history: &History, observations: &Observations) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C1);
    let homes = jurisdictions(observations);
    let nodes: Vec<_> = observations.nodes.iter().map(|node| (node, by_effect(node))).collect();
    for (node, reason) in &observations.unseen {
        verdict.check(false, || format!("{node} could not be looked at: {reason}"));
    }
    for operation in &history.operations {
        let Standing::Acknowledged(told) = operation.standing() else { continue };
        let key = &operation.key;
        let Some(home) = homes.get(told.effect.as_str()) else {
            verdict.check(false, || format!("{key}: acknowledged {} is lost", told.effect));
            continue;
        };
        for (node, effects) in &nodes {
            let found = effects.get(told.effect.as_str()).map_or(&[][..], Vec::as_slice);
            let name = &node.node;
            for jurisdiction in home.iter().filter(|home| node.holder.may_hold(home)) {
                let times = found.iter().filter(|e| e.jurisdiction == **jurisdiction).count();
                verdict.check(times == 1, || {
                    format!("{key}: acknowledged {} is {times} times on {name}", told.effect)
                });
            }
            verdict.check(found.iter().all(|effect| effect.digest == told.digest), || {
                format!("{key}: {} on {name} is not what was told", told.effect)
            });
        }
    }
    verdict
}

/// C2: what was refused for certain is nowhere; everything that is somewhere is the same on every node that may hold it,
/// whether or not its client was told.
pub fn undecided_is_agreed(history: &History, observations: &Observations) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C2);
    let tags: Vec<_> = observations.nodes.iter().map(|node| (node, by_tag(node))).collect();
    for operation in &history.operations {
        let (Standing::Refused, Some(tag)) = (operation.standing(), &operation.tag) else {
            continue;
        };
        for (node, tags) in &tags {
            verdict.check(!tags.contains_key(tag.as_str()), || {
                format!("{}: refused, and yet on {}", operation.key, node.node)
            });
        }
    }
    let mut known: BTreeMap<(&str, &str), (&str, BTreeSet<&str>)> = BTreeMap::new();
    for node in &observations.nodes {
        for effect in &node.effects {
            let entry = known
                .entry((&effect.effect, &effect.jurisdiction))
                .or_insert_with(|| (&effect.digest, BTreeSet::new()));
            entry.1.insert(&node.node);
            verdict.check(entry.0 == effect.digest, || {
                format!("{} on {} differs from another node's", effect.effect, node.node)
            });
        }
    }
    for ((effect, jurisdiction), (_, holders)) in &known {
        for node in &observations.nodes {
            if node.holder.may_hold(jurisdiction) {
                verdict.check(holders.contains(node.node.as_str()), || {
                    format!("{effect} is on {holders:?} and not on {}", node.node)
                });
            }
        }
    }
    verdict
}

/// C3: all acknowledgements of a key say the same, no effect was given to two keys, and no key has two effects.
pub fn one_effect_per_key(history: &History, observations: &Observations) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C3);
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for operation in &history.operations {
        let mut told = operation.acknowledgements().map(|(_, _, told)| told);
        let Some(first) = told.next() else { continue };
        verdict.check(told.all(|again| again.body_sha256 == first.body_sha256), || {
            format!("{}: two different acknowledgements", operation.key)
        });
        let owner = *owners.entry(&first.effect).or_insert(&operation.key);
        verdict.check(owner == operation.key, || {
            format!("{owner} and {} were both given {}", operation.key, first.effect)
        });
    }
    for node in &observations.nodes {
        for (tag, effects) in by_tag(node) {
            verdict.check(effects.len() == 1, || {
                format!("the key of {tag} has {} effects on {}", effects.len(), node.node)
            });
        }
        nothing_unasked(&mut verdict, history, node);
    }
    verdict
}

/// Whatever exists was asked for. Effects that show their key are compared one by one, the others by number.
fn nothing_unasked(verdict: &mut Verdict, history: &History, node: &Observation) {
    let asked: BTreeSet<&str> =
        history.operations.iter().filter_map(|operation| operation.tag.as_deref()).collect();
    for effect in &node.effects {
        if let Some(tag) = &effect.tag {
            verdict.check(asked.contains(tag.as_str()), || {
                format!("{} on {}: nobody asked for it", effect.effect, node.node)
            });
        }
    }
    for family in ["round/", "closed/", "settled/"] {
        let possible = |operation: &&Operation| {
            self::family(operation.kind) == family
                && !matches!(operation.standing(), Standing::Refused)
        };
        let most = history.operations.iter().filter(possible).count();
        let present: BTreeSet<&str> = node
            .effects
            .iter()
            .map(|effect| effect.effect.as_str())
            .filter(|effect| effect.starts_with(family))
            .collect();
        if !present.is_empty() {
            verdict.check(present.len() <= most, || {
                let found = present.len();
                format!(
                    "{found} of `{family}` exist on {}, at most {most} were asked for",
                    node.node
                )
            });
        }
    }
}
