//! The state of the world, and the players who write in it.

use crate::plane::Plane;
use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::agent_api::subscription_name;
use domicile_topology::document::Durability;
use domicile_topology::lease::{MARGIN_MS, TTL_S, WriterLease};
use domicile_topology::observed::{
    NodeKind, NodeStatus, PostgresState, PostgresStatus, SlotStatus, StandbyStatus,
};
use domicile_topology::record::{Beginning, Writes};
use domicile_topology::{JoinId, Member, Record, Topology};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// One write: the epoch it was made in, and its number.
pub(crate) type Write = (Epoch, u64);

#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) region: RegionId,
    pub(crate) runs: bool,
    pub(crate) is_primary: bool,
    pub(crate) is_demoted: bool,
    pub(crate) log: Vec<Write>,
    pub(crate) timeline: u32,
    pub(crate) sync_member: Option<Member>,
    pub(crate) member: Option<Member>,
    pub(crate) source: Option<NodeId>,
    pub(crate) epoch_open: Option<Epoch>,
    pub(crate) lets_writer_in: bool,
}

/// What a region that is cut off still believes.
#[derive(Debug, Clone)]
pub(crate) struct Isolated {
    pub(crate) since: Instant,
    pub(crate) record: Record,
}

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) topology: Topology,
    pub(crate) plane: Plane,
    pub(crate) ledgers: BTreeMap<NodeId, Ledger>,
    /// Whom each reader follows.
    pub(crate) following: BTreeMap<NodeId, NodeId>,
    pub(crate) leases: BTreeMap<NodeId, WriterLease>,
    pub(crate) isolated: BTreeMap<RegionId, Isolated>,
    pub(crate) acknowledged: Vec<Write>,
    pub(crate) writes: u64,
    pub(crate) joins: u64,
}

pub(crate) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub(crate) fn region(name: &str) -> RegionId {
    name.parse().unwrap()
}

impl Cluster {
    /// Malta writes in epoch 4, Germany confirms and is promotable.
    pub(crate) fn healthy() -> Self {
        static TOPOLOGY: OnceLock<Topology> = OnceLock::new();
        let text = include_str!("../../../examples/local.toml");
        let topology = TOPOLOGY.get_or_init(|| Topology::parse(text).unwrap()).clone();
        let member = Member { node: node("ledger-de"), join_id: JoinId::from_random(7) };
        let first = Record::first(region("mt-1"), node("ledger-mt"), topology.generation);
        let record = Record {
            epoch: Epoch(4),
            durability: Durability::Two,
            sync_member: Some(member.clone()),
            promotable: true,
            beginning: Beginning::Switchover,
            ..first
        };
        let primary = Ledger {
            region: region("mt-1"),
            runs: true,
            is_primary: true,
            is_demoted: false,
            log: Vec::new(),
            timeline: 1,
            sync_member: Some(member.clone()),
            member: None,
            source: None,
            epoch_open: Some(Epoch(4)),
            lets_writer_in: true,
        };
        let standby = Ledger {
            region: region("de-1"),
            is_primary: false,
            sync_member: None,
            member: Some(member),
            source: Some(node("ledger-mt")),
            lets_writer_in: false,
            ..primary.clone()
        };
        let readers = topology.readers.iter().map(|reader| reader.node.clone());
        let mut cluster = Self {
            following: readers.map(|reader| (reader, node("ledger-mt"))).collect(),
            topology,
            plane: Plane::new(record),
            ledgers: [(node("ledger-mt"), primary), (node("ledger-de"), standby)].into(),
            leases: BTreeMap::new(),
            isolated: BTreeMap::new(),
            acknowledged: Vec::new(),
            writes: 0,
            joins: 100,
        };
        cluster.tick();
        cluster
    }

    pub(crate) fn record(&self) -> &Record {
        &self.plane.record
    }

    pub(crate) fn is_cut(&self, node: &NodeId) -> bool {
        let ledgers = self.topology.ledgers.iter().map(|n| (&n.node, &n.region));
        let readers = self.topology.readers.iter().map(|n| (&n.node, &n.region));
        let writers = self.topology.writers.iter().map(|n| (&n.node, &n.region));
        let mut all = ledgers.chain(readers).chain(writers);
        all.any(|(name, region)| name == node && self.isolated.contains_key(region))
    }

    /// Cuts a region off from everybody; it goes on by what it knows.
    pub(crate) fn isolate(&mut self, name: &str) {
        let (since, record) = (Instant::now(), self.plane.record.clone());
        self.isolated.insert(region(name), Isolated { since, record });
    }

    /// The region is back; its agent sees the record and stops a primary that it does not name.
    pub(crate) fn heal(&mut self, name: &str) {
        self.isolated.remove(&region(name));
        let writer = self.plane.record.writer_node.clone();
        for (node, ledger) in &mut self.ledgers {
            if ledger.region == region(name) && ledger.is_primary && *node != writer {
                ledger.runs = false;
                ledger.lets_writer_in = false;
            }
        }
        self.tick();
    }

    /// Whether `standby` streams from `source`: what is written there arrives here.
    pub(crate) fn streams(&self, standby: &NodeId, source: &NodeId) -> bool {
        let (to, from) = (&self.ledgers[standby], &self.ledgers[source]);
        let is_reachable = !self.is_cut(standby) && !self.is_cut(source);
        let follows = to.runs && !to.is_primary && to.source.as_ref() == Some(source);
        is_reachable && follows && from.runs && from.log.starts_with(&to.log)
    }

    /// The standby that commits on `primary` wait for, if it streams under that very joining.
    pub(crate) fn confirming(&self, primary: &NodeId, member: &Member) -> bool {
        let standby = self.ledgers.get(&member.node);
        standby.is_some_and(|standby| standby.member.as_ref() == Some(member))
            && self.streams(&member.node, primary)
    }

    /// A moment passes: logs stream, leases are renewed or run out, players write wherever somebody lets them.
    pub(crate) fn tick(&mut self) {
        self.replicate();
        self.renew_leases();
        let nodes: Vec<NodeId> = self.ledgers.keys().cloned().collect();
        for node in nodes {
            self.write_at(&node);
        }
    }

    fn replicate(&mut self) {
        let nodes: Vec<NodeId> = self.ledgers.keys().cloned().collect();
        for standby in &nodes {
            for source in &nodes {
                let differs = self.ledgers[standby].log.len() != self.ledgers[source].log.len()
                    || self.ledgers[standby].timeline != self.ledgers[source].timeline;
                if standby != source && differs && self.streams(standby, source) {
                    let (log, timeline) =
                        (self.ledgers[source].log.clone(), self.ledgers[source].timeline);
                    let to = self.ledgers.get_mut(standby).unwrap();
                    (to.log, to.timeline) = (log, timeline);
                }
            }
        }
    }

    fn renew_leases(&mut self) {
        let ttl = Duration::from_secs(TTL_S.unsigned_abs());
        for writer in self.topology.writers.clone() {
            match self.isolated.get(&writer.region) {
                Some(isolated) if isolated.since.elapsed() < ttl => {}
                None if self.plane.record.writer_region == writer.region => {
                    let record = &self.plane.record;
                    let enforcing = record.durability == Durability::One;
                    let (node, region) = (writer.node.clone(), writer.region);
                    let lease = WriterLease { node, region, epoch: record.epoch, enforcing };
                    self.leases.insert(writer.node, lease);
                }
                _ => {
                    self.leases.remove(&writer.node);
                }
            }
        }
    }

    /// The record as the node's region knows it, and whether its writer may answer with one copy.
    fn view(&self, node: &NodeId) -> (Record, bool) {
        let answers_for = Duration::from_millis(TTL_S.unsigned_abs() * 1_000 - MARGIN_MS);
        match self.isolated.get(&self.ledgers[node].region) {
            Some(isolated) => (isolated.record.clone(), isolated.since.elapsed() < answers_for),
            None => (self.plane.record.clone(), true),
        }
    }

    /// The epoch that the writer beside this node serves.
    pub(crate) fn served(&self, node: &NodeId) -> Option<Epoch> {
        let ledger = &self.ledgers[node];
        let (record, _) = self.view(node);
        let is_let_in = ledger.runs && ledger.is_primary && ledger.lets_writer_in;
        let is_its = record.writer_node == *node && ledger.epoch_open == Some(record.epoch);
        (is_let_in && is_its && record.writes == Writes::Open).then_some(record.epoch)
    }

    /// A player's write: in the log at once, acknowledged if a second copy confirms or one is enough.
    pub(crate) fn write_at(&mut self, node: &NodeId) -> bool {
        let Some(epoch) = self.served(node) else { return false };
        self.writes += 1;
        let write = (epoch, self.writes);
        self.ledgers.get_mut(node).unwrap().log.push(write);
        let (record, is_leased) = self.view(node);
        let is_acknowledged = match &self.ledgers[node].sync_member.clone() {
            Some(member) => {
                let confirmed = self.confirming(node, member);
                self.replicate();
                confirmed
            }
            None => record.durability == Durability::Two || is_leased,
        };
        if is_acknowledged {
            self.acknowledged.push(write);
        }
        is_acknowledged
    }

    pub(crate) fn new_member(&mut self, node: &NodeId) -> Member {
        self.joins += 1;
        Member { node: node.clone(), join_id: JoinId::from_random(self.joins) }
    }

    fn slots(&self) -> Vec<SlotStatus> {
        let names = self.topology.readers.iter().flat_map(|reader| {
            reader.jurisdictions.iter().map(|code| subscription_name(&reader.node, code))
        });
        let slot = |name| SlotStatus {
            name,
            synced: true,
            temporary: false,
            invalidation_reason: None,
            active: false,
            confirmed_flush_lsn: Some(Lsn(0)),
            lag_bytes: Some(0),
            ready: true,
        };
        names.map(slot).collect()
    }

    /// What the node's agent would report.
    pub(crate) fn status(&self, name: &NodeId) -> NodeStatus {
        let ledger = self.ledgers.get(name);
        let position = ledger.map(|ledger| Lsn(ledger.log.len() as u64));
        let state = match ledger {
            None => PostgresState::Primary,
            Some(ledger) if !ledger.runs => PostgresState::Stopped,
            Some(ledger) if ledger.is_primary => PostgresState::Primary,
            Some(_) => PostgresState::Standby,
        };
        let source = ledger.and_then(|ledger| ledger.source.clone());
        let receiving = source.as_ref().map(|source| self.streams(name, source));
        let postgres = PostgresStatus {
            state,
            version: None,
            system_identifier: None,
            timeline: ledger.map(|ledger| ledger.timeline),
            lsn: position,
            replay_lsn: position.filter(|_| state == PostgresState::Standby),
            receiving,
            member: ledger.and_then(|ledger| ledger.member.clone()),
            source,
            silence_ms: None,
            writer_sessions: None,
            sync_member: ledger.and_then(|ledger| ledger.sync_member.clone()),
            sync_waiters: None,
            restarts: 0,
            refusal: None,
            stalled: Vec::new(),
        };
        let kind = if ledger.is_some() { NodeKind::Ledger } else { NodeKind::Reader };
        NodeStatus {
            node: name.clone(),
            region: ledger.map_or_else(|| region("gb-1"), |ledger| ledger.region.clone()),
            kind,
            postgres,
            replication: self.standbys(name),
            slots: self.slots(),
            subscriptions: Vec::new(),
            epoch_open: ledger.and_then(|ledger| ledger.epoch_open),
            probe: None,
            log: BTreeMap::new(),
            schema_version: Some(1),
        }
    }

    fn standbys(&self, primary: &NodeId) -> Vec<StandbyStatus> {
        let Some(source) = self.ledgers.get(primary) else { return Vec::new() };
        let members: BTreeSet<Member> = self
            .ledgers
            .iter()
            .filter(|(name, _)| *name != primary && self.streams(name, primary))
            .filter_map(|(_, ledger)| ledger.member.clone())
            .collect();
        let standby = |member: Member| StandbyStatus {
            name: member.replication_name(),
            state: "streaming".into(),
            sync_state: if source.sync_member.as_ref() == Some(&member) { "sync" } else { "async" }
                .into(),
            flush_lsn: Some(Lsn(source.log.len() as u64)),
            lag_bytes: Some(0),
            lag_ms: None,
            member: Some(member),
        };
        members.into_iter().map(standby).collect()
    }
}
