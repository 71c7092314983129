//! When this node may be routed to: replica verified, not too far behind, no foreign row.

use crate::auditor::Audit;
use crate::state::Reader;
use domicile_core::ids::Jurisdiction;
use domicile_service::health::Readiness;
use std::sync::Arc;
use std::time::Duration;

/// How often readiness is judged, in milliseconds.
const JUDGE_EVERY_MS: u64 = 200;
/// How often the replica is searched for foreign rows, in judgements.
const FOREIGN_ROWS_EVERY: u32 = 50;

/// Judges for as long as the process runs.
pub(crate) async fn judge(reader: Arc<Reader>, readiness: Readiness) {
    let verified = readiness.check("verified");
    let fresh = readiness.check("fresh");
    let residency = readiness.check("residency");
    let permitted: Vec<&str> = reader.logs.keys().map(Jurisdiction::as_str).collect();
    let mut round: u32 = 0;
    loop {
        match first_fault(&reader, audit_fault) {
            Some(fault) => verified.fail(fault),
            None => verified.pass("every published checkpoint was recomputed"),
        }
        match first_fault(&reader, lag_fault) {
            Some(fault) => fresh.fail(fault),
            None => fresh.pass("within the lag limit"),
        }
        if round.is_multiple_of(FOREIGN_ROWS_EVERY) {
            match reader.store.foreign_row(&permitted).await {
                Ok(None) => residency.pass("only rows of the served jurisdictions"),
                Ok(Some(foreign)) => {
                    tracing::error!(%foreign, "the replica holds rows of a foreign jurisdiction");
                    residency.fail(format!("rows of {foreign} are in this replica"));
                }
                Err(error) => residency.fail(error.to_string()),
            }
        }
        round = round.wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(JUDGE_EVERY_MS)).await;
    }
}

fn first_fault(
    reader: &Reader,
    fault: impl Fn(&Jurisdiction, &crate::state::Log) -> Option<String>,
) -> Option<String> {
    reader.logs.iter().find_map(|(jurisdiction, log)| fault(jurisdiction, log))
}

fn audit_fault(jurisdiction: &Jurisdiction, log: &crate::state::Log) -> Option<String> {
    match &*log.audit.borrow() {
        // An empty log is verified: there is nothing to contradict.
        Audit::Empty | Audit::Verified(_) => None,
        Audit::Starting => Some(format!("{jurisdiction}: the replica has not been audited yet")),
        Audit::Broken(reason) => Some(format!("{jurisdiction}: {reason}")),
    }
}

fn lag_fault(jurisdiction: &Jurisdiction, log: &crate::state::Log) -> Option<String> {
    match log.freshness.lag() {
        None => Some(format!("{jurisdiction}: no heartbeat of the writer has arrived")),
        Some(lag) if lag > Duration::from_millis(log.lag_limit_ms) => Some(format!(
            "{jurisdiction}: {} ms behind, permitted {}",
            lag.as_millis(),
            log.lag_limit_ms
        )),
        Some(_) => None,
    }
}
