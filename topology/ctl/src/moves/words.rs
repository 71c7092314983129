//! Plans in words: what each step does, what must hold before it, and what follows when it fails.

use domicile_core::ids::NodeId;
use domicile_topology::document::Durability;
use domicile_topology::plan::{Action, Intent, LostWrites, RecordChange, Undo};
use std::collections::BTreeSet;
use std::fmt::Display;

/// What is asked for.
pub(crate) fn intent(intent: &Intent) -> String {
    match intent {
        Intent::Switchover { to } => format!("switchover to {to}"),
        Intent::Failover { to, accept_data_loss: None, .. } => format!("failover to {to}"),
        Intent::Failover { to, accept_data_loss: Some(reason), .. } => {
            format!("forced failover to {to} (loss accepted: {reason})")
        }
        Intent::Failback => "failback to the preferred region".to_owned(),
        Intent::Rejoin { node } => format!("rejoin {node}"),
        Intent::Degrade { reason } => format!("degrade to one copy ({reason})"),
        Intent::RestoreDurability => "restore durability".to_owned(),
        Intent::WaiveReader { node, reason } => {
            format!("let this epoch's logs go on without the word of {node} ({reason})")
        }
        Intent::ReaderAdd { node } => format!("add reader {node}"),
        Intent::ReaderReseed { node } => format!("copy reader {node} anew"),
        Intent::ReaderRemove { node } => format!("remove reader {node}"),
    }
}

/// What a step does.
pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Checkpoint { node } => format!("{node}: write a checkpoint"),
        Action::Slot { node, member } => {
            format!("{node}: make the slot that {} will stream from", member.node)
        }
        Action::Record { change } => format!("record: {}", record(change)),
        Action::Demote { node, source, .. } => {
            format!("{node}: finish what is in flight, stop cleanly, wait as a standby of {source}")
        }
        Action::AwaitReplay { node, demoted } => {
            format!("wait until {node} has replayed all that {demoted} wrote")
        }
        Action::AwaitLeaseEnd { epoch } => {
            format!("wait until no writer of an epoch before {epoch} holds a lease")
        }
        Action::AwaitLeaseEnforced { region, .. } => {
            format!("wait until each writer in {region} that holds a lease answers under it only")
        }
        Action::Promote { node, epoch } => format!("{node}: become primary of epoch {epoch}"),
        Action::Rejoin { node } => format!("{node}: follow the writer's node as its standby"),
        Action::Sync { node, standby } => format!("{node}: every commit waits for {standby}"),
        Action::SyncOff { node } => {
            format!(
                "{node}: end the sessions of writers without a lease, then commits wait for nobody"
            )
        }
        Action::OpenEpoch { node, epoch } => {
            format!("{node}: open epoch {epoch}, let the writer log in")
        }
        Action::AwaitWriter { region, epoch } => {
            format!(
                "wait until the writer in {region} has proven its logs and serves epoch {epoch}"
            )
        }
        Action::AwaitSlots { standby, readers } => {
            format!("wait until the slots of {} on {standby} are ready", list(readers))
        }
        Action::Subscriptions { node, reseed } if reseed.is_empty() => {
            format!("{node}: follow the writer's node")
        }
        Action::Subscriptions { node, reseed } => {
            format!("{node}: follow the writer's node, copy {} anew", list(reseed))
        }
        Action::DropSlots { node, reader } => format!("{node}: drop the slots of {reader}"),
    }
}

/// What must hold before a step; the executor checks it.
pub(crate) fn precondition(action: &Action) -> String {
    match action {
        Action::Checkpoint { node } | Action::Slot { node, .. } => format!("{node} runs"),
        Action::Record { change } => record_precondition(change).to_owned(),
        Action::Demote { node, epoch, .. } => {
            format!("the record names {node} at epoch {epoch}, writes closing")
        }
        Action::AwaitReplay { demoted, .. } => format!("{demoted} has stopped cleanly"),
        Action::AwaitLeaseEnd { epoch } | Action::Promote { epoch, .. } => {
            format!("the record is at epoch {epoch}")
        }
        Action::AwaitLeaseEnforced { .. } => "the record says durability one".to_owned(),
        Action::Rejoin { node } => format!("the record names another node than {node}"),
        Action::Sync { standby, .. } => format!("{standby} streams under its current joining"),
        Action::SyncOff { .. } => "the record says durability one, leases are enforced".to_owned(),
        Action::OpenEpoch { node, epoch } => format!("{node} is primary of epoch {epoch}"),
        Action::AwaitWriter { epoch, .. } => format!("epoch {epoch} is open"),
        Action::AwaitSlots { standby, .. } => format!("{standby} streams"),
        Action::Subscriptions { .. } => "the writer's node takes writes".to_owned(),
        Action::DropSlots { node, .. } => format!("{node} is primary"),
    }
}

/// What follows when a step fails.
pub(crate) const fn on_failure(undo: Undo) -> &'static str {
    match undo {
        Undo::Stop => "stop; `resume` goes on here",
        Undo::CallOff => "call off, open writes again",
        Undo::GoOn => "note it, go on",
    }
}

/// What may be lost.
pub(crate) fn loss(loss: LostWrites) -> String {
    match loss {
        LostWrites::None => "none: every acknowledged write has arrived".to_owned(),
        LostWrites::Tail { at_most_bytes: Some(bytes) } => format!(
            "at most {} of acknowledged writes; `domicile loss-statement` names them afterwards",
            crate::term::bytes(bytes)
        ),
        LostWrites::Tail { at_most_bytes: None } => {
            "an unknown amount of acknowledged writes; `domicile loss-statement` names them afterwards"
                .to_owned()
        }
    }
}

/// Names as a person lists them.
pub(crate) fn list<T: Display>(items: &BTreeSet<T>) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn record(change: &RecordChange) -> String {
    match change {
        RecordChange::CloseWrites => "the writer takes no more work".to_owned(),
        RecordChange::OpenWrites => "the writer takes work again".to_owned(),
        RecordChange::ClearPromotable => "no standby is promotable".to_owned(),
        RecordChange::SetPromotable => "the standby is promotable".to_owned(),
        RecordChange::WaiveReader { reader } => format!("the log gate need not hear {reader}"),
        RecordChange::SetDurability { durability: Durability::Two, standby } => {
            format!("two copies, confirmed by {}", name(standby.as_ref()))
        }
        RecordChange::SetDurability { durability: Durability::One, .. } => "one copy".to_owned(),
        RecordChange::NewEpoch { epoch, region, node, .. } => {
            format!("epoch {epoch}, the writer is in {region} on {node}")
        }
    }
}

const fn record_precondition(change: &RecordChange) -> &'static str {
    match change {
        RecordChange::CloseWrites => "the standby is ready",
        RecordChange::OpenWrites | RecordChange::WaiveReader { .. } => "the epoch has not changed",
        RecordChange::ClearPromotable => "nobody else has changed the record",
        RecordChange::SetPromotable => "the standby is synchronous, replaying and confirmed",
        RecordChange::SetDurability { .. } => "no standby is promotable",
        RecordChange::NewEpoch { .. } => "the record is the one this plan was made under",
    }
}

fn name(node: Option<&NodeId>) -> String {
    node.map_or_else(|| "nobody".to_owned(), ToString::to_string)
}
