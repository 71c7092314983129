//! The residency law over the declared nodes: who would hold, write and serve what.
//!
//! Each ledger node holds every jurisdiction, since it is a physical copy of the whole; a reader holds
//! what it names.

use crate::check::{Places, Report};
use crate::document::{JurisdictionPolicy, Topology};
use domicile_core::ids::RegionId;
use std::collections::BTreeSet;

pub(super) fn check(topology: &Topology, places: &Places, report: &mut Report) {
    for (index, policy) in topology.jurisdictions.iter().enumerate() {
        let rules = Rules { topology, places, policy, index };
        rules.subsets(report);
        rules.ledgers_may_hold(report);
        rules.readers_may_hold(report);
        rules.required_copies(report);
        rules.somebody_writes(report);
        rules.somebody_serves(report);
    }
}

struct Rules<'a> {
    topology: &'a Topology,
    places: &'a Places,
    policy: &'a JurisdictionPolicy,
    index: usize,
}

impl Rules<'_> {
    fn line(&self, key: &str) -> usize {
        self.places.line("jurisdiction", self.index, key)
    }

    fn subsets(&self, report: &mut Report) {
        let sets = [
            ("writer_regions", &self.policy.writer_regions),
            ("required_copy_regions", &self.policy.required_copy_regions),
            ("serve_regions", &self.policy.serve_regions),
        ];
        for (key, set) in sets {
            for region in set.difference(&self.policy.allowed_regions) {
                report.error(
                    self.line(key),
                    format!(
                        "`{key}` of {} names `{region}`, which is not allowed",
                        self.policy.code
                    ),
                    "Add it to `allowed_regions`, or remove it here.",
                );
            }
        }
    }

    fn ledgers_may_hold(&self, report: &mut Report) {
        for (index, ledger) in self.topology.ledgers.iter().enumerate() {
            if !self.policy.allowed_regions.contains(&ledger.region) {
                report.error(
                    self.places.line("ledger", index, "region"),
                    format!(
                        "ledger `{}` would hold {} in region `{}`, which is not allowed",
                        ledger.node, self.policy.code, ledger.region
                    ),
                    "Add the region to the jurisdiction's `allowed_regions`, or move the ledger.",
                );
            }
        }
    }

    fn readers_may_hold(&self, report: &mut Report) {
        let code = &self.policy.code;
        for (index, reader) in self.topology.readers.iter().enumerate() {
            let names = reader.jurisdictions.contains(code);
            if names && !self.policy.allowed_regions.contains(&reader.region) {
                report.error(
                    self.places.line("reader", index, "jurisdictions"),
                    format!(
                        "reader `{}` would hold {code} in region `{}`, which is not allowed",
                        reader.node, reader.region
                    ),
                    "Add the region to the jurisdiction's `allowed_regions`, or remove it from the reader.",
                );
            }
        }
        if self.topology.permitted_readers(code).is_empty() {
            report.error(
                self.line("code"),
                format!("jurisdiction {code} has no permitted reader"),
                "Add a [[reader]] that names it in one of its allowed regions.",
            );
        }
    }

    fn required_copies(&self, report: &mut Report) {
        let code = &self.policy.code;
        let missing = self.topology.residency(code).map(|law| law.missing()).unwrap_or_default();
        for region in missing {
            report.error(
                self.line("required_copy_regions"),
                format!("no node holds {code} in region `{region}`, where a copy is required"),
                "Add a [[reader]] of the jurisdiction, or a [[ledger]], in that region.",
            );
        }
    }

    fn somebody_writes(&self, report: &mut Report) {
        let code = &self.policy.code;
        let line = self.line("writer_regions");
        let preferred = &self.topology.failover.preferred_region;
        let ledger_regions: BTreeSet<&RegionId> =
            self.topology.ledgers.iter().map(|ledger| &ledger.region).collect();
        if !self.policy.writer_regions.contains(preferred) {
            report.error(
                line,
                format!("{code} would be suspended while the writer is in `{preferred}`, its preferred region"),
                "Add the preferred region to `writer_regions`, or prefer another region.",
            );
        }
        for region in ledger_regions {
            if region != preferred && !self.policy.writer_regions.contains(region) {
                report.warn(
                    line,
                    format!("{code} is suspended whenever the writer is in `{region}`"),
                    "Add the region to `writer_regions` if the jurisdiction permits writing there.",
                );
            }
        }
    }

    fn somebody_serves(&self, report: &mut Report) {
        let code = &self.policy.code;
        if self.topology.permitted_routers(code).is_empty() {
            report.error(
                self.line("serve_regions"),
                format!("no router may serve {code}"),
                "Add a [[router]] in one of its serve regions, or name a region that has one.",
            );
        }
    }
}
