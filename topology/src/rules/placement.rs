//! Where the nodes must be for the cluster to write, to survive a region and to be reached.

use super::names::nodes;
use crate::check::{Places, Report};
use crate::document::{Durability, FailoverMode, Topology};
use crate::limits;
use domicile_core::ids::RegionId;
use std::collections::{BTreeMap, BTreeSet};

/// A second observer in a third region has to agree before a standby promotes itself.
const MIN_REGIONS_FOR_AUTOMATIC: usize = 3;

pub(super) fn check(topology: &Topology, places: &Places, report: &mut Report) {
    preferred_region(topology, places, report);
    two_regions(topology, places, report);
    writers_beside_ledgers(topology, places, report);
    observers(topology, places, report);
    control_plane(topology, places, report);
    used_regions(topology, places, report);
    readers_with_work(topology, places, report);
}

fn ledger_regions(topology: &Topology) -> BTreeSet<&RegionId> {
    topology.ledgers.iter().map(|ledger| &ledger.region).collect()
}

fn preferred_region(topology: &Topology, places: &Places, report: &mut Report) {
    let preferred = &topology.failover.preferred_region;
    let line = places.line("failover", 0, "preferred_region");
    let missing = [
        ("ledger", topology.ledgers_in(preferred).is_empty()),
        ("writer", topology.writers_in(preferred).is_empty()),
    ];
    for (section, _) in missing.into_iter().filter(|(_, missing)| *missing) {
        let message = format!("the preferred region `{preferred}` has no {section}");
        report.error(
            line,
            message,
            format!("Add a [[{section}]] there, or prefer another region."),
        );
    }
}

fn two_regions(topology: &Topology, places: &Places, report: &mut Report) {
    let regions = ledger_regions(topology).len();
    if topology.durability.mode == Durability::Two && regions < 2 {
        report.error(
            places.line("durability", 0, "mode"),
            format!("durability \"two\" with ledger nodes in {regions} region(s)"),
            "Add a [[ledger]] in a second region, or set the mode to \"one\".",
        );
    }
}

fn writers_beside_ledgers(topology: &Topology, places: &Places, report: &mut Report) {
    let with_ledger = ledger_regions(topology);
    let mut seen: BTreeMap<&RegionId, usize> = BTreeMap::new();
    for (index, writer) in topology.writers.iter().enumerate() {
        let count = seen.entry(&writer.region).or_default();
        *count += 1;
        if *count == limits::MAX_WRITERS_PER_REGION + 1 {
            report.error(
                places.line("writer", index, "region"),
                format!(
                    "region `{}` has more than {} writers",
                    writer.region,
                    count.saturating_sub(1)
                ),
                "Every one keeps a pool of connections to the same Postgres: take some away.",
            );
        }
        if !with_ledger.contains(&writer.region) {
            report.error(
                places.line("writer", index, "region"),
                format!(
                    "writer `{}` has no ledger node in region `{}`",
                    writer.node, writer.region
                ),
                "Add a [[ledger]] there, or move the writer to a ledger's region.",
            );
        }
    }
    for (index, ledger) in topology.ledgers.iter().enumerate() {
        // The preferred region without a writer is an error of its own.
        let is_preferred = ledger.region == topology.failover.preferred_region;
        if !is_preferred && topology.writers_in(&ledger.region).is_empty() {
            report.warn(
                places.line("ledger", index, "region"),
                format!("nobody could write in region `{}` after a promotion", ledger.region),
                "Add a [[writer]] there.",
            );
        }
    }
}

fn observers(topology: &Topology, places: &Places, report: &mut Report) {
    let ledgers = topology.ledgers.iter().map(|node| &node.region);
    let readers = topology.readers.iter().map(|node| &node.region);
    let regions: BTreeSet<_> = ledgers.chain(readers).collect();
    let is_automatic = topology.failover.policy == FailoverMode::Automatic;
    if is_automatic && regions.len() < MIN_REGIONS_FOR_AUTOMATIC {
        report.error(
            places.line("failover", 0, "policy"),
            format!("automatic failover with agents in {} region(s)", regions.len()),
            "Add a ledger or reader node in a third region, or set the policy to \"manual\".",
        );
    }
}

fn control_plane(topology: &Topology, places: &Places, report: &mut Report) {
    let members = topology.etcd.len();
    let last = places.line("etcd", members.saturating_sub(1), "node");
    if members > 0 && members.is_multiple_of(2) {
        report.warn(
            last,
            format!("{members} etcd members survive no more failures than {}", members - 1),
            "Use an odd number, three or five.",
        );
    }
    let mut per_region: BTreeMap<&RegionId, usize> = BTreeMap::new();
    for member in &topology.etcd {
        *per_region.entry(&member.region).or_default() += 1;
    }
    // Losing `count` members must leave a majority of them all.
    let fatal = |count: usize| (members - count) * 2 <= members;
    for (region, _) in per_region.into_iter().filter(|(_, count)| members > 1 && fatal(*count)) {
        report.warn(
            last,
            format!("losing region `{region}` takes the control plane's majority with it"),
            "Spread the etcd members over three or more regions.",
        );
    }
}

fn used_regions(topology: &Topology, places: &Places, report: &mut Report) {
    let used: BTreeSet<_> = nodes(topology).into_iter().map(|(.., region)| region).collect();
    for (index, region) in topology.regions.iter().enumerate() {
        if !used.contains(&region.id) {
            let line = places.line("region", index, "id");
            let message = format!("region `{}` has no node", region.id);
            report.warn(line, message, "Remove it, or place a node there.");
        }
    }
}

fn readers_with_work(topology: &Topology, places: &Places, report: &mut Report) {
    for (index, reader) in topology.readers.iter().enumerate() {
        if reader.jurisdictions.is_empty() {
            report.error(
                places.line("reader", index, "jurisdictions"),
                format!("reader `{}` holds no jurisdiction", reader.node),
                "Name at least one jurisdiction, or remove the reader.",
            );
        }
    }
}
