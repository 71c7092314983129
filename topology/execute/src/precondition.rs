//! What must hold before a step begins, as far as the control record and the journal tell.
//!
//! Pure. What only a node can tell, its agent checks when it is asked.

use crate::entry::{History, Learnt};
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::NodeId;
use domicile_topology::Record;
use domicile_topology::document::Durability;
use domicile_topology::plan::{Action, Plan};
use domicile_topology::record::Writes;

/// Checks the step's precondition against the record it would run under.
pub(crate) fn check(
    plan: &Plan,
    history: &History,
    record: &Record,
    action: &Action,
) -> Result<(), String> {
    match action {
        Action::Demote { node, epoch, .. } => {
            names(record, node, *epoch)?;
            require(record.writes == Writes::Closing, || "writes are not closing".to_owned())
        }
        Action::AwaitReplay { demoted, .. } => end_of(plan, history, demoted)
            .map(drop)
            .ok_or_else(|| format!("the end position of {demoted} is not known")),
        Action::Promote { node, epoch } | Action::OpenEpoch { node, epoch } => {
            names(record, node, *epoch)
        }
        Action::AwaitWriter { region, epoch } => {
            let stands = record.epoch == *epoch && &record.writer_region == region;
            require(stands, || stands_otherwise(record))
        }
        Action::Rejoin { node } => require(&record.writer_node != node, || {
            format!("{node} is the writer's node and follows nobody")
        }),
        Action::Sync { node, .. } | Action::DropSlots { node, .. } => {
            require(&record.writer_node == node, || stands_otherwise(record))
        }
        Action::SyncOff { node } => {
            require(&record.writer_node == node, || stands_otherwise(record))?;
            let is_off = record.durability == Durability::One && !record.promotable;
            require(is_off, || "the record still asks for two copies".to_owned())
        }
        Action::Checkpoint { .. }
        | Action::Slot { .. }
        | Action::Record { .. }
        | Action::AwaitLeaseEnd { .. }
        | Action::AwaitLeaseEnforced { .. }
        | Action::AwaitSlots { .. }
        | Action::Subscriptions { .. } => Ok(()),
    }
}

/// Where the demoted node's log ends, by the journal.
pub(crate) fn end_of(plan: &Plan, history: &History, demoted: &NodeId) -> Option<Lsn> {
    (1..).zip(&plan.steps).find_map(|(number, step)| match &step.action {
        Action::Demote { node, .. } if node == demoted => match history.done.get(&number)? {
            Learnt::Demoted { end_lsn, .. } => Some(*end_lsn),
            _ => None,
        },
        _ => None,
    })
}

fn names(record: &Record, node: &NodeId, epoch: Epoch) -> Result<(), String> {
    let stands = &record.writer_node == node && record.epoch == epoch;
    require(stands, || stands_otherwise(record))
}

fn stands_otherwise(record: &Record) -> String {
    format!("the control record names {} in epoch {}", record.writer_node, record.epoch)
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
