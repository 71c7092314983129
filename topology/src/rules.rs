//! The rules between the entries of a document.
//!
//! Invariant: each rule reports every place that breaks it, at the line of the entry to change.

mod keys;
mod names;
mod placement;
mod residency;

use crate::check::{Places, Report};
use crate::document::Topology;

/// Applies every rule; those about placement only when all names are known and unique.
pub(crate) fn check(topology: &Topology, places: &Places, report: &mut Report) {
    names::check(topology, places, report);
    if report.has_error() {
        return;
    }
    placement::check(topology, places, report);
    residency::check(topology, places, report);
    keys::check(topology, places, report);
}
