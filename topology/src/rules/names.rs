//! Names and addresses: unique, known, and not too many.

use crate::address::Address;
use crate::check::{Places, Report};
use crate::document::Topology;
use crate::limits::{
    MAX_ETCD_MEMBERS, MAX_JURISDICTIONS, MAX_LOG_KEYS, MAX_NODES, MAX_RECEIPT_KEYS, MAX_REGIONS,
    MAX_SESSION_KEYS,
};
use domicile_core::ids::{NodeId, RegionId};
use domicile_core::operation;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// A node of any kind: its section, number within it, name and region.
pub(super) type AnyNode<'t> = (&'static str, usize, &'t NodeId, &'t RegionId);

pub(super) fn check(topology: &Topology, places: &Places, report: &mut Report) {
    counts(topology, places, report);
    unique_names(topology, places, report);
    unique_addresses(topology, places, report);
    known_regions(topology, places, report);
    known_jurisdictions(topology, places, report);
}

/// Every node of the document, in the order of its sections.
pub(super) fn nodes(topology: &Topology) -> Vec<AnyNode<'_>> {
    let mut nodes: Vec<AnyNode<'_>> = Vec::new();
    nodes.extend(topology.etcd.iter().enumerate().map(|(i, n)| ("etcd", i, &n.node, &n.region)));
    nodes.extend(
        topology.ledgers.iter().enumerate().map(|(i, n)| ("ledger", i, &n.node, &n.region)),
    );
    nodes.extend(
        topology.readers.iter().enumerate().map(|(i, n)| ("reader", i, &n.node, &n.region)),
    );
    nodes.extend(
        topology.writers.iter().enumerate().map(|(i, n)| ("writer", i, &n.node, &n.region)),
    );
    nodes.extend(
        topology.routers.iter().enumerate().map(|(i, n)| ("router", i, &n.node, &n.region)),
    );
    nodes
}

fn counts(topology: &Topology, places: &Places, report: &mut Report) {
    let at_least_one = [
        ("region", topology.regions.len()),
        ("etcd", topology.etcd.len()),
        ("ledger", topology.ledgers.len()),
        ("writer", topology.writers.len()),
        ("router", topology.routers.len()),
        ("jurisdiction", topology.jurisdictions.len()),
    ];
    for (section, count) in at_least_one {
        if count == 0 {
            let remedy = format!("Add at least one [[{section}]].");
            report.error(1, format!("there is no [[{section}]]"), remedy);
        }
    }
    let at_most = [
        ("region", topology.regions.len(), MAX_REGIONS),
        ("jurisdiction", topology.jurisdictions.len(), MAX_JURISDICTIONS),
        ("etcd", topology.etcd.len(), MAX_ETCD_MEMBERS),
        ("session_key", topology.session_keys.len(), MAX_SESSION_KEYS),
        ("log_key", topology.log_keys.len(), MAX_LOG_KEYS),
        ("receipt_key", topology.receipt_keys.len(), MAX_RECEIPT_KEYS),
    ];
    for (section, count, most) in at_most {
        if count > most {
            let line = places.line(section, most, "");
            let message = format!("{count} [[{section}]] entries exceed the limit");
            report.error(line, message, format!("Keep at most {most}."));
        }
    }
    let nodes = nodes(topology);
    if let Some((section, index, ..)) = nodes.get(MAX_NODES) {
        let message = format!("{} nodes exceed the limit", nodes.len());
        let line = places.line(section, *index, "node");
        report.error(line, message, format!("Keep at most {MAX_NODES} nodes of all kinds."));
    }
}

/// Reports each name that an earlier line already has.
struct Seen<T>(BTreeMap<T, usize>);

impl<T: Ord + Display> Seen<T> {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn add(&mut self, what: &str, name: T, line: usize, report: &mut Report) {
        if let Some(first) = self.0.get(&name) {
            let message = format!("{what} `{name}` already stands on line {first}");
            report.error(line, message, "Give each its own.");
        } else {
            self.0.insert(name, line);
        }
    }
}

fn unique_names(topology: &Topology, places: &Places, report: &mut Report) {
    let mut seen = Seen::new();
    for (index, region) in topology.regions.iter().enumerate() {
        seen.add("region", region.id.as_str(), places.line("region", index, "id"), report);
    }
    let mut seen = Seen::new();
    for (section, index, node, _) in nodes(topology) {
        seen.add("node", node.as_str(), places.line(section, index, "node"), report);
    }
    let mut seen = Seen::new();
    for (index, policy) in topology.jurisdictions.iter().enumerate() {
        let line = places.line("jurisdiction", index, "code");
        seen.add("jurisdiction", policy.code.as_str(), line, report);
    }
    let mut seen = Seen::new();
    for (index, key) in topology.session_keys.iter().enumerate() {
        seen.add("key id", key.kid.as_str(), places.line("session_key", index, "kid"), report);
    }
    let mut seen = Seen::new();
    for (index, key) in topology.log_keys.iter().enumerate() {
        let name = format!("{}/{}", key.jurisdiction, key.epoch);
        seen.add("log key", name, places.line("log_key", index, "epoch"), report);
    }
    let mut seen = Seen::new();
    for (index, key) in topology.receipt_keys.iter().enumerate() {
        let line = places.line("receipt_key", index, "vkey");
        seen.add("receipt key", key.vkey.as_str(), line, report);
    }
}

fn unique_addresses(topology: &Topology, places: &Places, report: &mut Report) {
    let mut seen: Seen<&Address> = Seen::new();
    let mut add = |section: &'static str, index: usize, key: &str, address| {
        seen.add("address", address, places.line(section, index, key), report);
    };
    for (index, node) in topology.etcd.iter().enumerate() {
        add("etcd", index, "client", node.client.address());
        add("etcd", index, "peer", node.peer.address());
    }
    for (index, node) in topology.ledgers.iter().enumerate() {
        add("ledger", index, "postgres", &node.postgres);
        add("ledger", index, "agent", node.agent.address());
        add("ledger", index, "admin", &node.admin);
    }
    for (index, node) in topology.readers.iter().enumerate() {
        add("reader", index, "postgres", &node.postgres);
        add("reader", index, "agent", node.agent.address());
        add("reader", index, "agent_admin", &node.agent_admin);
        add("reader", index, "endpoint", node.endpoint.address());
        add("reader", index, "admin", &node.admin);
    }
    for (index, node) in topology.writers.iter().enumerate() {
        add("writer", index, "endpoint", node.endpoint.address());
        add("writer", index, "admin", &node.admin);
    }
    for (index, node) in topology.routers.iter().enumerate() {
        add("router", index, "endpoint", node.endpoint.address());
        add("router", index, "admin", &node.admin);
    }
}

fn known_regions(topology: &Topology, places: &Places, report: &mut Report) {
    let known: BTreeSet<&RegionId> = topology.regions.iter().map(|region| &region.id).collect();
    let mut check = |region: &RegionId, line: usize| {
        if !known.contains(region) {
            let message = format!("region `{region}` is not declared");
            report.error(line, message, "Add a [[region]] with that id, or correct the name.");
        }
    };
    let preferred_line = places.line("failover", 0, "preferred_region");
    check(&topology.failover.preferred_region, preferred_line);
    for (section, index, _, region) in nodes(topology) {
        check(region, places.line(section, index, "region"));
    }
    for (index, policy) in topology.jurisdictions.iter().enumerate() {
        let sets = [
            ("writer_regions", &policy.writer_regions),
            ("required_copy_regions", &policy.required_copy_regions),
            ("allowed_regions", &policy.allowed_regions),
            ("serve_regions", &policy.serve_regions),
        ];
        for (key, set) in sets {
            // Without the key the set is a copy of allowed_regions, which is checked itself.
            let is_copy = key == "serve_regions" && !places.has("jurisdiction", index, key);
            let line = places.line("jurisdiction", index, key);
            set.iter().filter(|_| !is_copy).for_each(|region| check(region, line));
        }
    }
    for (index, key) in topology.session_keys.iter().enumerate() {
        check(&key.region, places.line("session_key", index, "region"));
    }
}

fn known_jurisdictions(topology: &Topology, places: &Places, report: &mut Report) {
    let named_by_readers = topology.readers.iter().enumerate().flat_map(|(index, reader)| {
        let line = places.line("reader", index, "jurisdictions");
        reader.jurisdictions.iter().map(move |code| (code, line))
    });
    let named_by_keys = topology
        .log_keys
        .iter()
        .enumerate()
        .map(|(index, key)| (&key.jurisdiction, places.line("log_key", index, "jurisdiction")));
    let named_by_keys = named_by_keys.filter(|(code, _)| !operation::is_log(code));
    for (index, policy) in topology.jurisdictions.iter().enumerate() {
        if operation::is_log(&policy.code) {
            let line = places.line("jurisdiction", index, "code");
            let message = format!("`{}` stands for the operations log", policy.code);
            report.error(line, message, "Write the jurisdiction's own ISO 3166 code.");
        }
    }
    for (code, line) in named_by_readers.chain(named_by_keys) {
        if topology.policy(code).is_none() {
            let message = format!("jurisdiction `{code}` is not declared");
            report.error(
                line,
                message,
                "Add a [[jurisdiction]] with that code, or remove the name.",
            );
        }
    }
}
