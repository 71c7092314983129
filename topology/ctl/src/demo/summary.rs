//! The demo's last page: what ran where, what was written, how far behind each reader is, where each proof came from.
//!
//! Every figure is from the live services: the agents' and services' status, and the proofs themselves.

use super::play::{Proven, money};
use crate::status::{self, Report};
use crate::term::table;
use domicile_topology::Topology;

/// The page.
pub(super) fn render(report: &Report, topology: &Topology, proven: &[Proven]) -> String {
    let headers = [
        "proof of",
        "jurisdiction",
        "outcome",
        "stake",
        "payout",
        "served by",
        "checkpoint",
        "offline check",
    ];
    let rows: Vec<Vec<String>> = proven
        .iter()
        .map(|proof| {
            vec![
                format!("{} {}", proof.kind, proof.round),
                proof.jurisdiction.to_string(),
                proof.outcome.clone(),
                money(proof.stake_micro),
                money(proof.payout_micro.get()),
                proof.reader.clone(),
                proof.checkpoint_size.to_string(),
                "✓ verified".to_owned(),
            ]
        })
        .collect();
    format!("{}\n\n{}", status::page(report, topology), table(&headers, &rows))
}
