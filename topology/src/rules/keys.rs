//! The verification keys belong to this cluster and to regions that can sign.

use crate::check::{Places, Report};
use crate::document::Topology;
use crate::keys::vkey_name;
use domicile_core::checkpoint;

pub(super) fn check(topology: &Topology, places: &Places, report: &mut Report) {
    for (index, key) in topology.session_keys.iter().enumerate() {
        if topology.ledgers_in(&key.region).is_empty() {
            report.error(
                places.line("session_key", index, "region"),
                format!(
                    "session key `{}` is of region `{}`, which has no ledger",
                    key.kid, key.region
                ),
                "Name the ledger region whose writer signs with it.",
            );
        }
    }
    let cluster = &topology.cluster;
    let log_keys = topology.log_keys.iter().enumerate().map(|(index, key)| {
        let expected = checkpoint::origin(cluster, &key.jurisdiction, key.epoch);
        ("log_key", index, &key.vkey, expected)
    });
    let receipt_keys = topology
        .receipt_keys
        .iter()
        .enumerate()
        .map(|(index, key)| ("receipt_key", index, &key.vkey, format!("{cluster}/receipt")));
    for (section, index, vkey, expected) in log_keys.chain(receipt_keys) {
        let name = vkey_name(vkey);
        if name != expected {
            report.error(
                places.line(section, index, "vkey"),
                format!("the verifier key is named `{name}`"),
                format!("Use the key named `{expected}`."),
            );
        }
    }
}
