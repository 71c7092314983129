//! The processes of a topology, by node and part: `writer-mt/writer`, `reader-mt/agent`.
//!
//! A reader node has two: the agent, which may change its database, and the reader, which cannot.
//! Postgres runs under its agent; it is a part too, so that it can be named in `kill`.

use anyhow::{Result, bail};
use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::Topology;
use domicile_topology::address::Address;
use std::fmt;

/// One process of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// A member of the control plane.
    Etcd,
    /// What runs beside a Postgres.
    Agent,
    /// The Postgres that an agent runs.
    Postgres,
    /// The writer service.
    Writer,
    /// The reader service.
    Reader,
    /// The router service.
    Router,
}

impl Part {
    /// Every part, in the order they start in.
    pub(crate) const ALL: [Self; 6] =
        [Self::Etcd, Self::Agent, Self::Postgres, Self::Writer, Self::Reader, Self::Router];

    /// The part's name, also the role in its certificate.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Agent => "agent",
            Self::Postgres => "postgres",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Router => "router",
        }
    }

    /// The file name of its program, if it is one of ours.
    pub(crate) const fn program(self) -> Option<&'static str> {
        match self {
            Self::Agent => Some("domicile-agent"),
            Self::Writer => Some("domicile-writer"),
            Self::Reader => Some("domicile-reader"),
            Self::Router => Some("domicile-router"),
            Self::Etcd | Self::Postgres => None,
        }
    }
}

/// The name of one process: a node and its part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UnitName {
    /// The node.
    pub(crate) node: NodeId,
    /// Which of its processes.
    pub(crate) part: Part,
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.part.name())
    }
}

/// One process of ours, with what the topology says of it.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    /// Its name.
    pub(crate) name: UnitName,
    /// Where it runs.
    pub(crate) region: RegionId,
    /// Where it is reached.
    pub(crate) address: Address,
    /// Its health and metrics; etcd has them on its client address.
    pub(crate) admin: Option<Address>,
}

/// Every process that `up` starts itself, in starting order. Postgres is started by its agent.
pub(crate) fn all(topology: &Topology) -> Vec<Unit> {
    let unit =
        |node: &NodeId, part, region: &RegionId, address: &Address, admin: Option<&Address>| Unit {
            name: UnitName { node: node.clone(), part },
            region: region.clone(),
            address: address.clone(),
            admin: admin.cloned(),
        };
    let mut units = Vec::new();
    for n in &topology.etcd {
        units.push(unit(&n.node, Part::Etcd, &n.region, n.client.address(), None));
    }
    for n in &topology.ledgers {
        units.push(unit(&n.node, Part::Agent, &n.region, n.agent.address(), Some(&n.admin)));
    }
    for n in &topology.readers {
        units.push(unit(&n.node, Part::Agent, &n.region, n.agent.address(), Some(&n.agent_admin)));
    }
    for n in &topology.writers {
        units.push(unit(&n.node, Part::Writer, &n.region, n.endpoint.address(), Some(&n.admin)));
    }
    for n in &topology.readers {
        units.push(unit(&n.node, Part::Reader, &n.region, n.endpoint.address(), Some(&n.admin)));
    }
    for n in &topology.routers {
        units.push(unit(&n.node, Part::Router, &n.region, n.endpoint.address(), Some(&n.admin)));
    }
    units
}

/// The units that a person means by `reader-mt` (all of the node) or `reader-mt/agent`.
pub(crate) fn select(topology: &Topology, wanted: &str) -> Result<Vec<Unit>> {
    let (node, part) =
        wanted.split_once('/').map_or((wanted, None), |(node, part)| (node, Some(part)));
    let units = all(topology);
    let found: Vec<Unit> = units
        .iter()
        .filter(|unit| {
            unit.name.node.as_str() == node && part.is_none_or(|part| part == unit.name.part.name())
        })
        .cloned()
        .collect();
    if found.is_empty() {
        let known: Vec<String> = units.iter().map(|unit| unit.name.to_string()).collect();
        bail!("the topology has no `{wanted}`; it has {}", known.join(", "));
    }
    Ok(found)
}
