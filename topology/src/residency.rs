//! The residency law: `required ⊆ actual ⊆ allowed`, who may read, who may serve, who may write.
//!
//! Invariants: an unknown jurisdiction has no reader, no route and no writer; every answer here is
//! derived from the document alone, so that publication, reader, router and planner agree.
//! Deliberately absent: whether a node is healthy.

use crate::document::{
    JurisdictionPolicy, LedgerNode, ReaderNode, RouterNode, Topology, WriterNode,
};
use domicile_core::ids::{Jurisdiction, NodeId, RegionId};
use std::collections::BTreeSet;

/// The three sets of the residency law for one jurisdiction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residency {
    /// Regions that must hold a copy.
    pub required: BTreeSet<RegionId>,
    /// Regions with a node that holds one.
    pub actual: BTreeSet<RegionId>,
    /// Regions that may hold one.
    pub allowed: BTreeSet<RegionId>,
}

impl Residency {
    /// Required regions without a copy.
    pub fn missing(&self) -> BTreeSet<RegionId> {
        self.required.difference(&self.actual).cloned().collect()
    }

    /// Regions that hold a copy and may not.
    pub fn foreign(&self) -> BTreeSet<RegionId> {
        self.actual.difference(&self.allowed).cloned().collect()
    }

    /// Whether `required ⊆ actual ⊆ allowed`.
    pub fn holds(&self) -> bool {
        self.required.is_subset(&self.actual) && self.actual.is_subset(&self.allowed)
    }
}

impl Topology {
    /// The rules of a jurisdiction; `None` means refuse.
    pub fn policy(&self, jurisdiction: &Jurisdiction) -> Option<&JurisdictionPolicy> {
        self.jurisdictions.iter().find(|policy| &policy.code == jurisdiction)
    }

    /// Whether the region may hold the jurisdiction's rows.
    pub fn may_hold(&self, region: &RegionId, jurisdiction: &Jurisdiction) -> bool {
        self.policy(jurisdiction).is_some_and(|policy| policy.allowed_regions.contains(region))
    }

    /// Whether a writer in the region may write for the jurisdiction.
    pub fn writer_may_write(&self, region: &RegionId, jurisdiction: &Jurisdiction) -> bool {
        self.policy(jurisdiction).is_some_and(|policy| policy.writer_regions.contains(region))
    }

    /// Whether a router in the region may serve the jurisdiction's tokens.
    pub fn router_may_serve(&self, region: &RegionId, jurisdiction: &Jurisdiction) -> bool {
        self.policy(jurisdiction).is_some_and(|policy| policy.serve_regions.contains(region))
    }

    /// The readers that hold the jurisdiction and may.
    pub fn permitted_readers(&self, jurisdiction: &Jurisdiction) -> Vec<&ReaderNode> {
        let permitted = |reader: &&ReaderNode| {
            reader.jurisdictions.contains(jurisdiction)
                && self.may_hold(&reader.region, jurisdiction)
        };
        self.readers.iter().filter(permitted).collect()
    }

    /// The routers that may serve the jurisdiction: what a misdirected caller is told.
    pub fn permitted_routers(&self, jurisdiction: &Jurisdiction) -> Vec<&RouterNode> {
        let permitted = |router: &&RouterNode| self.router_may_serve(&router.region, jurisdiction);
        self.routers.iter().filter(permitted).collect()
    }

    /// The jurisdictions that are suspended while the writer is in the region.
    pub fn suspended_under(&self, writer_region: &RegionId) -> Vec<&Jurisdiction> {
        let suspended =
            |policy: &&JurisdictionPolicy| !policy.writer_regions.contains(writer_region);
        self.jurisdictions.iter().filter(suspended).map(|policy| &policy.code).collect()
    }

    /// Required, actual and allowed regions of a jurisdiction, as far as the document decides them.
    pub fn residency(&self, jurisdiction: &Jurisdiction) -> Option<Residency> {
        let policy = self.policy(jurisdiction)?;
        let ledgers = self.ledgers.iter().map(|ledger| &ledger.region);
        let readers = self.readers.iter().filter(|r| r.jurisdictions.contains(jurisdiction));
        Some(Residency {
            required: policy.required_copy_regions.clone(),
            actual: ledgers.chain(readers.map(|reader| &reader.region)).cloned().collect(),
            allowed: policy.allowed_regions.clone(),
        })
    }

    /// The ledger node with this name.
    pub fn ledger(&self, node: &NodeId) -> Option<&LedgerNode> {
        self.ledgers.iter().find(|ledger| &ledger.node == node)
    }

    /// The reader with this name.
    pub fn reader(&self, node: &NodeId) -> Option<&ReaderNode> {
        self.readers.iter().find(|reader| &reader.node == node)
    }

    /// The ledger nodes of a region.
    pub fn ledgers_in(&self, region: &RegionId) -> Vec<&LedgerNode> {
        self.ledgers.iter().filter(|ledger| &ledger.region == region).collect()
    }

    /// The writers of a region.
    pub fn writers_in(&self, region: &RegionId) -> Vec<&WriterNode> {
        self.writers.iter().filter(|writer| &writer.region == region).collect()
    }
}
