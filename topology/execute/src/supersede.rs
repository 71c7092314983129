//! Whether a new plan may take the place of one that was left unfinished.
//!
//! Invariant: a move that was begun is gone on with or undone; only a plan for when that is impossible replaces it. What
//! the control record says stays true either way: every change of it is checked against what stands there.

use crate::entry::History;
use domicile_topology::plan::{Action, Intent, Plan, RecordChange};

/// Whether `intent` may take over from `plan`, left where `history` says.
pub(crate) fn may_supersede(intent: &Intent, plan: &Plan, history: &History) -> bool {
    match intent {
        // The region that the plan needs may be gone.
        Intent::Failover { .. } | Intent::Degrade { .. } => true,
        _ => !is_mid_move(plan, history),
    }
}

/// Whether the writer was taken away and does not serve again.
fn is_mid_move(plan: &Plan, history: &History) -> bool {
    let mut is_moving = false;
    for (number, step) in (1..).zip(&plan.steps) {
        let is_done = history.done.contains_key(&number);
        match &step.action {
            Action::Record {
                change: RecordChange::CloseWrites | RecordChange::NewEpoch { .. },
            } => {
                is_moving |= is_done;
            }
            Action::AwaitWriter { .. } if is_done => is_moving = false,
            _ => {}
        }
    }
    is_moving || history.calling_off.is_some()
}
