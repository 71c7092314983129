//! What a plan rests on, and what it means: is this primary healthy, is this standby ready, is this reader's slot?
//!
//! Invariants: a judgement rests on fresh observations only; what could not be observed counts against readiness.
//! Slots are judged per reader and never gate a move. Deliberately absent: gathering the facts.

use super::limits::{MAX_FACT_AGE_MS, NEAR_BYTES};
use super::refusal::{Missing, RefusalCode};
use crate::agent_api::subscription_name;
use crate::document::{Durability, LedgerNode, ReaderNode, Topology};
use crate::lease::WriterLease;
use crate::observed::{NodeStatus, PostgresState};
use crate::record::Record;
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything the planner knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The topology.
    pub topology: Topology,
    /// The control record …
    pub record: Record,
    /// … and its revision in the control plane.
    pub record_revision: i64,
    /// What the agents said.
    pub nodes: BTreeMap<NodeId, Fact>,
    /// The writers' leases.
    pub leases: Vec<WriterLease>,
}

/// What is known of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Its agent's last answer.
    pub status: Option<NodeStatus>,
    /// How long ago that answer came, milliseconds on the observer's monotonic clock.
    pub age_ms: u64,
    /// Why there is no newer one.
    pub error: Option<String>,
}

impl Facts {
    /// What the node's agent said, if that is fresh.
    pub fn fresh(&self, node: &NodeId) -> Option<&NodeStatus> {
        let fact = self.nodes.get(node).filter(|fact| fact.age_ms <= MAX_FACT_AGE_MS)?;
        fact.status.as_ref()
    }

    /// The ledger node of the region that a move there is about: the sync member if it stands there, else one that
    /// runs as standby, else the first.
    pub fn candidate(&self, region: &RegionId) -> Option<&LedgerNode> {
        let nodes = self.topology.ledgers_in(region);
        let is_member = |ledger: &&&LedgerNode| self.is_sync_member(&ledger.node);
        let follows = |ledger: &&&LedgerNode| {
            self.fresh(&ledger.node).is_some_and(|s| s.postgres.state == PostgresState::Standby)
        };
        nodes
            .iter()
            .find(is_member)
            .or_else(|| nodes.iter().find(follows))
            .or_else(|| nodes.first())
            .copied()
    }

    /// Whether the record waits for this node.
    pub fn is_sync_member(&self, node: &NodeId) -> bool {
        self.record.sync_member.as_ref().is_some_and(|member| &member.node == node)
    }

    /// Whether the record lets this node take over without loss.
    pub fn is_promotable(&self, node: &NodeId) -> bool {
        self.record.durability == Durability::Two
            && self.record.promotable
            && self.is_sync_member(node)
    }

    /// Whether the agent says that its Postgres does not run.
    pub fn is_stopped(&self, node: &NodeId) -> bool {
        let stopped = |state| matches!(state, PostgresState::Stopped | PostgresState::Absent);
        self.fresh(node).is_some_and(|status| stopped(status.postgres.state))
    }

    /// Whether the node streams from the record's writer.
    pub fn follows_writer(&self, node: &NodeId) -> bool {
        self.fresh(node).is_some_and(|status| {
            let postgres = &status.postgres;
            postgres.state == PostgresState::Standby
                && postgres.receiving == Some(true)
                && postgres.member.is_some()
                && postgres.source.as_ref() == Some(&self.record.writer_node)
        })
    }

    /// Whether the node streams from the writer as the very member that the record waits for.
    pub fn follows_as_member(&self, node: &NodeId) -> bool {
        let member = self.fresh(node).and_then(|status| status.postgres.member.as_ref());
        self.follows_writer(node) && member.is_some() && member == self.record.sync_member.as_ref()
    }

    /// What keeps the writer's node from being a healthy primary of the record's epoch.
    pub fn primary_gaps(&self) -> Vec<Missing> {
        let mut gaps: Vec<Missing> = self.primary_state_gap().into_iter().collect();
        let node = &self.record.writer_node;
        if self.fresh(node).is_some_and(|status| status.epoch_open != Some(self.record.epoch)) {
            let what = format!("epoch {} is not open on {node}", self.record.epoch);
            gaps.push(Missing::new(RefusalCode::PrimaryNotReady, what));
        }
        gaps
    }

    /// Whether the writer's node says that the record's epoch is open on it.
    pub fn epoch_is_open(&self) -> bool {
        let status = self.fresh(&self.record.writer_node);
        status.is_some_and(|status| status.epoch_open == Some(self.record.epoch))
    }

    /// The writer's node does not answer as a running primary.
    pub fn primary_state_gap(&self) -> Option<Missing> {
        let node = &self.record.writer_node;
        let Some(status) = self.fresh(node) else {
            return Some(self.silent(node, RefusalCode::PrimaryUnreachable));
        };
        let state = status.postgres.state;
        let what = || format!("Postgres of {node} is {}", state_name(state));
        let is_primary = state == PostgresState::Primary;
        (!is_primary).then(|| Missing::new(RefusalCode::PrimaryNotReady, what()))
    }

    /// What keeps the node from being promoted without loss while the primary lives.
    pub fn standby_gaps(&self, node: &NodeId) -> Vec<Missing> {
        let mut gaps = self.standing_gaps(node);
        let Some(member) = self.record.sync_member.as_ref().filter(|_| self.is_promotable(node))
        else {
            return gaps;
        };
        let mut gap = |what| gaps.push(Missing::new(RefusalCode::StandbyNotReady, what));
        if let Some(postgres) = self.fresh(node).map(|status| &status.postgres) {
            if postgres.receiving != Some(true) {
                gap(format!("{node} receives nothing from its upstream"));
            }
            let behind = postgres.lsn.zip(postgres.replay_lsn).map(|(l, r)| l.bytes_since(r));
            if behind.is_none_or(|bytes| bytes > NEAR_BYTES) {
                gap(format!("{node} is not near with replaying ({} bytes)", or_unknown(behind)));
            }
        }
        if let Some(primary) = self.fresh(&self.record.writer_node) {
            let standby = primary.standby(member);
            if !standby.is_some_and(crate::observed::StandbyStatus::is_synchronous) {
                gap(format!("{} is not the synchronous standby", member.replication_name()));
            }
            let behind = standby.and_then(|standby| standby.lag_bytes);
            if behind.is_none_or(|bytes| bytes > NEAR_BYTES) {
                gap(format!("{node} is not near ({} bytes behind)", or_unknown(behind)));
            }
        }
        gaps
    }

    /// What keeps the node from being promoted without loss when the primary may be dead.
    pub fn standing_gaps(&self, node: &NodeId) -> Vec<Missing> {
        let mut gaps = Vec::new();
        if !self.is_promotable(node) {
            let what = format!("the control record does not call {node} promotable");
            gaps.push(Missing::new(RefusalCode::NotPromotable, what));
        }
        gaps.extend(self.standby_state_gap(node));
        let member = self.fresh(node).and_then(|status| status.postgres.member.as_ref());
        if let (Some(own), true) = (member, self.is_promotable(node))
            && self.record.sync_member.as_ref() != Some(own)
        {
            let what = format!("{node} has joined as {own:?}, which is not the record's member");
            gaps.push(Missing::new(RefusalCode::StandbyNotReady, what));
        }
        gaps
    }

    /// The node does not answer as a running standby that knows its own joining.
    pub fn standby_state_gap(&self, node: &NodeId) -> Option<Missing> {
        let Some(status) = self.fresh(node) else {
            return Some(self.silent(node, RefusalCode::StandbyUnreachable));
        };
        let state = status.postgres.state;
        if state != PostgresState::Standby {
            let what = format!("Postgres of {node} is {}, not a standby", state_name(state));
            return Some(Missing::new(RefusalCode::StandbyNotReady, what));
        }
        let what = || format!("{node} does not say under which member it joined");
        let unnamed = status.postgres.member.is_none();
        unnamed.then(|| Missing::new(RefusalCode::StandbyNotReady, what()))
    }

    /// Replication processes that exist and do not run, which would hold up a clean stop.
    pub fn stalled_gaps(&self, node: &NodeId) -> Vec<Missing> {
        let stalled = self.fresh(node).map_or(&[][..], |status| &status.postgres.stalled);
        let gap = |stalled: &crate::observed::StalledProcess| {
            let what = format!("{} (pid {}) on {node} does not run", stalled.process, stalled.pid);
            Missing::new(RefusalCode::StalledProcess, what)
        };
        stalled.iter().map(gap).collect()
    }

    /// The reader's jurisdictions whose slots on the standby are not fit to go on from after a promotion.
    pub fn unready_slots(&self, standby: &NodeId, reader: &ReaderNode) -> BTreeSet<Jurisdiction> {
        let slots = self.fresh(standby).map_or(&[][..], |status| &status.slots);
        let ready = |jurisdiction: &&Jurisdiction| {
            let name = subscription_name(&reader.node, jurisdiction);
            slots.iter().any(|slot| slot.name == name && slot.ready)
        };
        reader.jurisdictions.iter().filter(|jurisdiction| !ready(jurisdiction)).cloned().collect()
    }

    /// The readers whose agents answer.
    pub fn answering_readers(&self) -> BTreeSet<NodeId> {
        let readers = self.topology.readers.iter().map(|reader| &reader.node);
        readers.filter(|node| self.fresh(node).is_some()).cloned().collect()
    }

    /// The writer processes of the record's region that hold no lease: dead, frozen, or cut off from the control plane.
    pub fn unleased_writers(&self) -> BTreeSet<NodeId> {
        let is_leased = |node: &NodeId| self.leases.iter().any(|lease| &lease.node == node);
        let writers = self.topology.writers_in(&self.record.writer_region);
        writers.iter().map(|writer| &writer.node).filter(|node| !is_leased(node)).cloned().collect()
    }

    /// The missing answer of a node.
    pub fn silent(&self, node: &NodeId, code: RefusalCode) -> Missing {
        let what = match self.nodes.get(node) {
            None => format!("{node} was not asked"),
            Some(Fact { error: Some(error), .. }) => format!("{node} does not answer: {error}"),
            Some(fact) => format!("the last answer of {node} is {} ms old", fact.age_ms),
        };
        Missing::new(code, what)
    }
}

const fn state_name(state: PostgresState) -> &'static str {
    match state {
        PostgresState::Absent => "absent",
        PostgresState::Stopped => "stopped",
        PostgresState::Starting => "starting",
        PostgresState::Primary => "a primary",
        PostgresState::Standby => "a standby",
        PostgresState::Unreachable => "not answering",
    }
}

fn or_unknown(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "unknown".to_owned(), |bytes| bytes.to_string())
}
