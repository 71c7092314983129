//! Two ledger nodes with their writers and agents, the control record, the leases, and what happens to them.
//!
//! A node stands for its region: the ledger's Postgres, its agent and its writer. `isolated` cuts it off from the control
//! plane and from the executor, `deaf` cuts off the writer alone, `parted` cuts the two nodes from each other.

use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::document::Durability;
use domicile_topology::record::{Beginning, Writes};
use domicile_topology::{JoinId, Member, Record};

pub(crate) const NODES: [&str; 2] = ["ledger-mt", "ledger-de"];
const REGIONS: [&str; 2] = ["mt-1", "de-1"];

/// One of the two.
pub(crate) type Node = usize;
/// A write.
pub(crate) type Write = u8;

pub(crate) fn node_id(node: Node) -> NodeId {
    NodeId::parse(NODES[node]).unwrap()
}

pub(crate) fn region_id(node: Node) -> RegionId {
    RegionId::parse(REGIONS[node]).unwrap()
}

pub(crate) fn node_of(id: &NodeId) -> Node {
    NODES.iter().position(|name| *name == id.as_str()).unwrap()
}

pub(crate) fn member_of(node: Node, join: u8) -> Member {
    Member { node: node_id(node), join_id: JoinId::from_random(join.into()) }
}

/// The control record, small enough to be compared a million times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Control {
    pub(crate) epoch: u8,
    pub(crate) writer: Node,
    /// Durability two, and the joining of the other node that confirms.
    pub(crate) confirms: Option<u8>,
    pub(crate) promotable: bool,
    pub(crate) closing: bool,
    pub(crate) beginning: Beginning,
}

impl Control {
    /// The record it stands for.
    pub(crate) fn record(&self) -> Record {
        let first = Record::first(region_id(self.writer), node_id(self.writer), 1);
        Record {
            epoch: Epoch(self.epoch.into()),
            durability: if self.confirms.is_some() { Durability::Two } else { Durability::One },
            sync_member: self.confirms.map(|join| member_of(1 - self.writer, join)),
            promotable: self.promotable,
            writes: if self.closing { Writes::Closing } else { Writes::Open },
            beginning: self.beginning,
            ..first
        }
    }
}

/// What a node's Postgres does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Stopped,
    Primary,
    Standby,
}

/// What a writer knows of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) epoch: u8,
    /// It answers under its lease only.
    pub(crate) one: bool,
    pub(crate) closing: bool,
}

/// A region: its Postgres, agent and writer.
#[expect(clippy::struct_excessive_bools, reason = "independent facts of one region")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Region {
    pub(crate) up: bool,
    pub(crate) isolated: bool,
    pub(crate) role: Role,
    /// Its data directory would start as primary.
    pub(crate) leads: bool,
    /// The writes it has on disk, in order.
    pub(crate) log: Vec<Write>,
    /// The joining it streams under.
    pub(crate) join: u8,
    /// The other's joining that its commits wait for.
    pub(crate) sync: Option<u8>,
    /// The epoch it was promoted for.
    pub(crate) epoch: u8,
    /// That epoch is open: the writer may log in.
    pub(crate) open: bool,
    /// Writes whose callers wait for an answer.
    pub(crate) waiting: Vec<Write>,
    pub(crate) seen: Option<Seen>,
    /// The writer's own clock says that its lease runs.
    pub(crate) leased: bool,
    /// The writer hears nothing of the control plane, though the agent beside it does.
    pub(crate) deaf: bool,
    /// The writer's database sessions were told that commits wait for nobody.
    pub(crate) unfenced: bool,
}

/// A writer's key in the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) epoch: u8,
    pub(crate) enforcing: bool,
}

/// A plan under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    /// Which, of the plans that the planner made.
    pub(crate) plan: usize,
    /// The next step.
    pub(crate) at: usize,
    /// How much the demoted node had written.
    pub(crate) end: usize,
    /// The joining that the sync step observed.
    pub(crate) joined: u8,
}

/// Everything.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) control: Control,
    pub(crate) regions: [Region; 2],
    pub(crate) leases: [Option<Lease>; 2],
    pub(crate) parted: bool,
    /// Standbys take what comes by its position alone: the seeded fault of a rejoin without rewind.
    pub(crate) by_position: bool,
    pub(crate) run: Option<Run>,
    /// Acknowledged writes that nobody has accepted the loss of.
    pub(crate) acknowledged: Vec<Write>,
    /// Somebody acknowledged after a later epoch was opened.
    pub(crate) late: bool,
    pub(crate) joins: u8,
    pub(crate) writes: u8,
    pub(crate) faults: u8,
    pub(crate) plans: u8,
    /// What has been reached, for the properties that something can happen.
    pub(crate) moves: Vec<Beginning>,
    pub(crate) called_off: bool,
}

impl World {
    /// Malta writes, Germany confirms and is promotable.
    pub(crate) fn healthy() -> Self {
        let primary = Region {
            up: true,
            isolated: false,
            role: Role::Primary,
            leads: true,
            log: Vec::new(),
            join: 0,
            sync: Some(1),
            epoch: 1,
            open: true,
            waiting: Vec::new(),
            seen: Some(Seen { epoch: 1, one: false, closing: false }),
            leased: true,
            deaf: false,
            unfenced: false,
        };
        let standby = Region {
            role: Role::Standby,
            leads: false,
            join: 1,
            sync: None,
            epoch: 0,
            open: false,
            seen: None,
            leased: false,
            ..primary.clone()
        };
        Self {
            control: Control {
                epoch: 1,
                writer: 0,
                confirms: Some(1),
                promotable: true,
                closing: false,
                beginning: Beginning::First,
            },
            regions: [primary, standby],
            leases: [Some(Lease { epoch: 1, enforcing: false }), None],
            parted: false,
            by_position: false,
            run: None,
            acknowledged: Vec::new(),
            late: false,
            joins: 1,
            writes: 0,
            faults: 0,
            plans: 0,
            moves: Vec::new(),
            called_off: false,
        }
    }

    /// Malta writes with one copy; Germany streams, and nobody waits for it.
    pub(crate) fn alone() -> Self {
        let mut world = Self::healthy();
        (world.control.confirms, world.control.promotable) = (None, false);
        world.regions[0].sync = None;
        world.regions[0].seen = Some(Seen { epoch: 1, one: true, closing: false });
        world.leases[0] = Some(Lease { epoch: 1, enforcing: true });
        world
    }

    /// Redundancy has just come back, and the writer has not heard of it.
    pub(crate) fn restored() -> Self {
        let Self { control, .. } = Self::healthy();
        let mut world = Self { control, ..Self::alone() };
        world.regions[0].sync = Some(1);
        world
    }

    /// The agent of the node can be asked.
    pub(crate) fn reaches(&self, node: Node) -> bool {
        self.regions[node].up && !self.regions[node].isolated
    }

    /// The two nodes' Postgres can talk.
    pub(crate) fn linked(&self) -> bool {
        !self.parted && self.regions.iter().all(|region| region.up)
    }

    /// The node streams from the other: a standby with no history of its own.
    pub(crate) fn streams(&self, node: Node) -> bool {
        let [own, source] = [&self.regions[node], &self.regions[1 - node]];
        self.linked()
            && own.role == Role::Standby
            && source.role == Role::Primary
            && (self.by_position || source.log.starts_with(&own.log))
    }

    /// The node's commit at this length of its log is confirmed, as far as it waits for that.
    pub(crate) fn confirmed(&self, node: Node, length: usize) -> bool {
        let other = &self.regions[1 - node];
        self.regions[node].sync.is_none_or(|join| {
            self.linked()
                && other.role == Role::Standby
                && other.join == join
                && other.log.len() >= length
        })
    }

    /// The writer of the node serves.
    pub(crate) fn serves(&self, node: Node) -> bool {
        let region = &self.regions[node];
        region.role == Role::Primary
            && region.open
            && region.seen.is_some_and(|seen| seen.epoch == region.epoch)
    }

    /// The writer of the node could acknowledge a write at this length of its log now.
    pub(crate) fn may_acknowledge(&self, node: Node, length: usize) -> bool {
        let region = &self.regions[node];
        let must_lease = region.unfenced || region.seen.is_some_and(|seen| seen.one);
        self.serves(node) && (region.leased || !must_lease) && self.confirmed(node, length)
    }
}
