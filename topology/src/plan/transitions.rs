//! The states a cluster moves through: what the control record says, and how far its writer's node has come.
//!
//! Invariants: every step of every plan leaves the state or goes along a row of the table; every state is reachable, and
//! from every one a promotable standby is. The table is printed as the diagram in the documentation.
//! Deliberately absent: readers, which no state waits for, and what holds inside a state while a step runs.

use super::{Action, RecordChange};
use crate::document::Durability;
use crate::record::{Beginning, Record, Writes};
use std::fmt::Write as _;

/// How far the node that the record names has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It is primary and its epoch is open.
    Leads,
    /// It was primary and has stopped cleanly.
    Demoted,
    /// The record names it; it is no primary yet.
    Chosen,
    /// It is primary; its epoch is not open yet.
    Promoted,
}

/// The states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// One copy of each write.
    Single,
    /// Two copies; the standby may not take over without force.
    Redundant,
    /// Two copies; the standby may take over, nothing acknowledged is lost.
    Promotable,
    /// The writer finishes what it has: it is about to move.
    Closing,
    /// The former primary has stopped; nobody writes.
    Halted,
    /// A new epoch after a switchover: the former primary will confirm.
    Switched,
    /// A new epoch after a failover: nobody confirms.
    FailedOver,
    /// A new epoch by force: older leases have to end first.
    Forced,
    /// The new primary runs and its first commit waits for the former one.
    OpeningTwo,
    /// The new primary runs, alone.
    OpeningOne,
}

impl State {
    /// Every state.
    pub const ALL: &[Self] = &[
        Self::Single,
        Self::Redundant,
        Self::Promotable,
        Self::Closing,
        Self::Halted,
        Self::Switched,
        Self::FailedOver,
        Self::Forced,
        Self::OpeningTwo,
        Self::OpeningOne,
    ];

    /// The state of a cluster with this record, whose writer's node has come so far.
    pub fn of(record: &Record, stage: Stage) -> Self {
        let is_two = record.durability == Durability::Two;
        match (stage, record.beginning) {
            (Stage::Leads, _) if record.writes == Writes::Closing => Self::Closing,
            (Stage::Leads, _) if record.promotable => Self::Promotable,
            (Stage::Leads, _) if is_two => Self::Redundant,
            (Stage::Leads, _) => Self::Single,
            (Stage::Demoted, _) => Self::Halted,
            (Stage::Promoted, _) if is_two => Self::OpeningTwo,
            (Stage::Promoted, _) => Self::OpeningOne,
            (Stage::Chosen, Beginning::Forced) => Self::Forced,
            (Stage::Chosen, _) if is_two => Self::Switched,
            (Stage::Chosen, _) => Self::FailedOver,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Redundant => "redundant",
            Self::Promotable => "promotable",
            Self::Closing => "closing",
            Self::Halted => "halted",
            Self::Switched => "switched",
            Self::FailedOver => "failed_over",
            Self::Forced => "forced",
            Self::OpeningTwo => "opening_two",
            Self::OpeningOne => "opening_one",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Single => "single – one copy",
            Self::Redundant => "redundant – two copies, not promotable",
            Self::Promotable => "promotable – two copies, the standby may take over",
            Self::Closing => "closing – the writer finishes what it has",
            Self::Halted => "halted – the former primary has stopped",
            Self::Switched => "switched – a new epoch, two copies",
            Self::FailedOver => "failed over – a new epoch, one copy",
            Self::Forced => "forced – a new epoch, older leases run",
            Self::OpeningTwo => "opening – primary, waits for the second copy",
            Self::OpeningOne => "opening – primary, alone",
        }
    }
}

/// The stage and record after a step of a plan.
pub fn after(record: &Record, stage: Stage, action: &Action) -> (Record, Stage) {
    match action {
        Action::Record { change } => {
            let joined = match change {
                RecordChange::SetDurability { standby: Some(node), .. } => {
                    let join_id = crate::member::JoinId::from_random(0);
                    Some(crate::member::Member { node: node.clone(), join_id })
                }
                _ => None,
            };
            let is_new = matches!(change, RecordChange::NewEpoch { .. });
            (change.apply(record, joined), if is_new { Stage::Chosen } else { stage })
        }
        Action::Demote { .. } => (record.clone(), Stage::Demoted),
        Action::Promote { .. } => (record.clone(), Stage::Promoted),
        Action::OpenEpoch { .. } => (record.clone(), Stage::Leads),
        _ => (record.clone(), stage),
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// From here …
    pub from: State,
    /// … by this step …
    pub by: &'static str,
    /// … to there.
    pub to: State,
}

const fn row(from: State, by: &'static str, to: State) -> Transition {
    Transition { from, by, to }
}

/// The table. Besides, a forced failover leads from every state to [`State::Forced`].
pub const TRANSITIONS: &[Transition] = &[
    row(State::Single, "sync, then record two", State::Redundant),
    row(State::Redundant, "slots awaited, then record promotable", State::Promotable),
    row(State::Promotable, "record not promotable", State::Redundant),
    row(State::Redundant, "record one, then leases, then sync off", State::Single),
    row(State::Promotable, "record closing", State::Closing),
    row(State::Closing, "called off: record open", State::Promotable),
    row(State::Closing, "demote", State::Halted),
    row(State::Halted, "called off: demotion undone", State::Closing),
    row(State::Halted, "all replayed, then record switchover", State::Switched),
    row(State::Promotable, "record failover", State::FailedOver),
    row(State::Closing, "record failover", State::FailedOver),
    row(State::Halted, "record failover", State::FailedOver),
    row(State::Switched, "promote", State::OpeningTwo),
    row(State::FailedOver, "promote", State::OpeningOne),
    row(State::Forced, "older leases ended, then promote", State::OpeningOne),
    row(State::OpeningTwo, "former primary follows, then epoch opened", State::Redundant),
    row(State::OpeningTwo, "record one, then leases, then sync off", State::OpeningOne),
    row(State::OpeningOne, "epoch opened", State::Single),
];

/// Whether a step may lead from one state to the other.
pub fn is_transition(from: State, to: State) -> bool {
    from == to || to == State::Forced || TRANSITIONS.iter().any(|t| (t.from, t.to) == (from, to))
}

/// The table as a Mermaid state diagram.
pub fn diagram() -> String {
    let mut text = String::from("stateDiagram-v2\n");
    for state in State::ALL {
        let _infallible = writeln!(text, "    {} : {}", state.name(), state.meaning());
    }
    let _infallible = writeln!(text, "    [*] --> {}", State::Single.name());
    for Transition { from, by, to } in TRANSITIONS {
        let by = by.replace(": ", ", ");
        let _infallible = writeln!(text, "    {} --> {} : {by}", from.name(), to.name());
    }
    text
}
