//! Which steps run side by side: neighbours that touch different nodes and need nothing of one another.

use domicile_core::ids::NodeId;
use domicile_topology::plan::{Action, Step};

/// Most steps that run at once.
const MAX_AT_ONCE: usize = 16;

/// How many of these steps begin together: the first, and as many of those after it as need nothing of each other.
///
/// The demoted node rejoins while the new primary is promoted: it streams from a standby as well as from a primary, and
/// the opening of the epoch waits for both. Each reader follows by itself, so that a dead one delays no other.
pub(crate) fn together(steps: &[&Step]) -> usize {
    let mut taken: Vec<&Action> = Vec::new();
    for step in steps.iter().take(MAX_AT_ONCE) {
        if !taken.iter().all(|before| are_independent(before, &step.action)) {
            break;
        }
        taken.push(&step.action);
    }
    taken.len()
}

fn are_independent(first: &Action, second: &Action) -> bool {
    let differ = |a: &NodeId, b: &NodeId| a != b;
    match (first, second) {
        (Action::Promote { node: a, .. }, Action::Rejoin { node: b })
        | (Action::Checkpoint { node: a }, Action::Checkpoint { node: b })
        | (Action::Subscriptions { node: a, .. }, Action::Subscriptions { node: b, .. }) => {
            differ(a, b)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_core::epoch::Epoch;
    use domicile_topology::plan::Undo;
    use std::collections::BTreeSet;

    fn step(action: Action) -> Step {
        Step { action, timeout_ms: 1, on_failure: Undo::Stop }
    }

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    #[test]
    fn only_neighbours_on_different_nodes_run_together() {
        let follow =
            |name| step(Action::Subscriptions { node: node(name), reseed: BTreeSet::new() });
        let promote = step(Action::Promote { node: node("b"), epoch: Epoch(2) });
        let rejoin = |name| step(Action::Rejoin { node: node(name) });
        let open = step(Action::OpenEpoch { node: node("b"), epoch: Epoch(2) });
        let count = |steps: &[Step]| together(&steps.iter().collect::<Vec<_>>());
        assert_eq!(count(&[promote.clone(), rejoin("a"), open.clone(), follow("r")]), 2);
        assert_eq!(count(&[promote.clone(), rejoin("b")]), 1);
        assert_eq!(count(&[rejoin("a"), promote]), 1);
        assert_eq!(count(&[follow("r"), follow("s"), follow("r")]), 2);
        assert_eq!(count(&[open, follow("r")]), 1);
        assert_eq!(count(&[]), 0);
    }
}
