//! C10: what the database servers wrote themselves.

use crate::observation::Observations;
use crate::verdict::{Limits, Oracle, Verdict};

/// Words of a damaged database; none of them is ever part of a fault injected here.
const DAMAGE: [&str; 6] = [
    "page verification failed",
    "invalid page in block",
    "checksum failure",
    "incorrect resource manager data checksum",
    "could not read blocks",
    "missing chunk number",
];
/// Words of a slot that was given up.
const SLOT_LOST: &str = "invalidating obsolete replication slot";
/// Severity of a server that gave itself up.
const PANIC: &str = "PANIC:";

/// C10.
pub fn is_quiet(observations: &Observations, limits: &Limits) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C10);
    let mut slots_lost: u64 = 0;
    for node in &observations.nodes {
        for line in &node.server_log {
            let name = &node.node;
            verdict.check(limits.panic_expected || !line.contains(PANIC), || {
                format!("{name}: {line}")
            });
            let damaged = DAMAGE.iter().any(|words| line.contains(words));
            verdict.check(!damaged, || format!("{name}: {line}"));
            slots_lost += u64::from(line.contains(SLOT_LOST));
        }
    }
    if verdict.checked > 0 {
        verdict.check(slots_lost <= limits.slots_lost_max, || {
            format!("{slots_lost} slots were invalidated, {} expected", limits.slots_lost_max)
        });
    }
    verdict
}
