//! What is looked at after a point by somebody who asks no service what it did.

use crate::database;
use crate::stop::{Done, failed, not_run};
use crate::system::System;
use anyhow::{Context, anyhow};
use domicile_core::ids::NodeId;
use domicile_oracles::History;
use domicile_oracles::verdict::Judgement;
use domicile_oracles::{Limits, Observations, Oracle, judge};
use serde_json::Value;

/// The oracles that count: all but the one about time, since a person takes his before he goes on.
const COUNTED: [Oracle; 7] =
    [Oracle::C1, Oracle::C2, Oracle::C3, Oracle::C5, Oracle::C6, Oracle::C7, Oracle::C10];

/// What the control record says of the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) epoch: u64,
    pub(super) region: String,
}

/// The control record as a majority has it, with no plan under way and one ledger that takes writes: the record's.
pub(super) async fn one_writer(system: &System) -> Done<Stand> {
    let status = system.status().await.map_err(not_run)?;
    if let Some(plan) = status.get("plan").and_then(Value::as_str) {
        return Err(failed(anyhow!("a plan is still under way: {plan}")));
    }
    let at = |pointer: &str| status.pointer(pointer).and_then(Value::as_str);
    let writer = at("/record/writer_node").context("there is no control record").map_err(failed)?;
    let mut primaries: Vec<&NodeId> = Vec::new();
    for ledger in &system.topology.ledgers {
        let answer = database::lines(system, &ledger.node, "SELECT pg_is_in_recovery()").await;
        match answer.map_err(failed)?.first().map(String::as_str) {
            Some("f") => primaries.push(&ledger.node),
            Some("t") => {}
            other => return Err(not_run(anyhow!("{} answered {other:?}", ledger.node))),
        }
    }
    if primaries.iter().map(|node| node.as_str()).ne([writer]) {
        return Err(failed(anyhow!("{primaries:?} take writes, the record names {writer}")));
    }
    let epoch = status.pointer("/record/epoch").and_then(Value::as_u64);
    let region = at("/record/writer_region").map(str::to_owned);
    let stand = epoch.zip(region).map(|(epoch, region)| Stand { epoch, region });
    stand.context("the control record lacks its epoch or region").map_err(not_run)
}

/// The writer is in one of these regions, and no older epoch is in force than before.
pub(super) fn moved_or_not(before: &Stand, after: &Stand, allowed: &[String]) -> Done {
    if after.epoch < before.epoch {
        return Err(failed(anyhow!("epoch {} after epoch {}", after.epoch, before.epoch)));
    }
    if !allowed.contains(&after.region) {
        return Err(failed(anyhow!(
            "the writer is in {}, not in one of {allowed:?}",
            after.region
        )));
    }
    if after.region != before.region && after.epoch == before.epoch {
        return Err(failed(anyhow!("the writer moved within epoch {}", after.epoch)));
    }
    Ok(())
}

/// What the oracles say; how many comparisons it rests on.
pub(super) fn consult(
    history: &History,
    observations: &Observations,
    limits: &Limits,
) -> Done<u64> {
    let Judgement { verdicts, .. } = judge(history, observations, limits);
    let counted = verdicts.iter().filter(|verdict| COUNTED.contains(&verdict.oracle));
    let mut compared = 0_u64;
    for verdict in counted {
        if verdict.broken > 0 {
            let first = verdict.violations.first().map(String::as_str).unwrap_or_default();
            return Err(failed(anyhow!(
                "{}: {} broken, first: {first}",
                verdict.oracle,
                verdict.broken
            )));
        }
        if verdict.checked == 0 {
            return Err(not_run(anyhow!("{} had nothing to look at", verdict.oracle)));
        }
        compared = compared.saturating_add(verdict.checked);
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stop;

    #[test]
    fn a_writer_elsewhere_and_an_older_epoch_are_found() {
        let stand = |epoch, region: &str| Stand { epoch, region: region.to_owned() };
        let before = stand(3, "home");
        assert!(moved_or_not(&before, &stand(4, "away"), &["away".to_owned()]).is_ok());
        assert!(moved_or_not(&before, &stand(3, "home"), &["home".to_owned()]).is_ok());
        for after in [stand(2, "away"), stand(4, "home"), stand(3, "away")] {
            let found = moved_or_not(&before, &after, &["away".to_owned()]);
            assert!(matches!(found, Err(Stop::Failed(_))), "{after:?}");
        }
    }

    #[test]
    fn nothing_recorded_proves_nothing() {
        let found = consult(&History::default(), &Observations::default(), &Limits::default());
        assert!(matches!(found, Err(Stop::NotRun(_))), "{found:?}");
    }
}
