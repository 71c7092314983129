//! How the epochs so far began, as far as the plans tell that the control plane keeps.
//!
//! Invariant: an epoch that nobody can tell about counts like a forced one. Its primary may have kept what the history
//! since lacks.

use domicile_control::StoredPlan;
use domicile_core::epoch::Epoch;
use domicile_execute::{Entry, Happened, Learnt};
use domicile_topology::record::{Beginning, Record};
use std::collections::{BTreeMap, BTreeSet};

/// Epochs that began by force, or nobody knows how.
pub(super) fn doubtful(record: &Record, plans: &[StoredPlan]) -> BTreeSet<Epoch> {
    let mut began = BTreeMap::from([(record.epoch, record.beginning)]);
    for StoredPlan { plan, journal } in plans {
        began.insert(plan.record.epoch, plan.record.beginning);
        for entry in journal {
            let entry = serde_json::from_slice::<Entry>(&entry.value).map(|entry| entry.happened);
            if let Ok(Happened::Done { learnt: Learnt::Record { record }, .. }) = entry {
                began.insert(record.epoch, record.beginning);
            }
        }
    }
    let is_doubtful = |epoch: &Epoch| began.get(epoch).is_none_or(|b| *b == Beginning::Forced);
    (2..=record.epoch.0).map(Epoch).filter(is_doubtful).collect()
}

/// Whether what was written in this epoch and is missing since may have been acknowledged: the epoch was left by force, or
/// nobody knows how. A move without force takes along whatever anybody was told.
pub(super) fn may_have_lost(epoch: Epoch, now: Epoch, doubtful: &BTreeSet<Epoch>) -> bool {
    let next = Epoch(epoch.0.saturating_add(1));
    next > now || doubtful.contains(&next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_control::{Revision, StoredEntry};

    fn record(epoch: u64, beginning: Beginning) -> Record {
        let first = crate::moves::example().record;
        Record { epoch: Epoch(epoch), beginning, ..first }
    }

    fn plan(made_under: Record, changed_to: Record) -> StoredPlan {
        let plan = domicile_topology::plan::Plan { record: made_under, ..crate::moves::example() };
        let learnt = Learnt::Record { record: changed_to };
        let happened = Happened::Done { step: 1, learnt, took_ms: 1 };
        let entry = Entry { at_unix_ms: 1, by: "somebody".to_owned(), happened };
        let value = serde_json::to_vec(&entry).unwrap();
        StoredPlan { plan, journal: vec![StoredEntry { number: 1, value, revision: Revision(1) }] }
    }

    #[test]
    fn an_epoch_is_doubted_while_it_was_forced_or_nobody_remembers_it() {
        use Beginning::{Failover, First, Forced, Switchover};
        let forced = plan(record(1, First), record(2, Forced));
        let back = plan(record(2, Forced), record(3, Switchover));
        let now = record(3, Switchover);
        let doubted = |plans: &[StoredPlan]| -> Vec<u64> {
            doubtful(&now, plans).into_iter().map(|epoch| epoch.0).collect()
        };
        assert_eq!(doubted(&[forced, back.clone()]), [2], "it stays so after a move without force");
        assert_eq!(doubted(&[back]), [2], "as the next plan found it");
        assert_eq!(doubted(&[]), [2], "no plan of it is kept");
        assert_eq!(doubted(&[plan(record(1, First), record(2, Failover))]), [0_u64; 0]);
        assert!(doubtful(&record(1, First), &[]).is_empty());
    }

    #[test]
    fn only_who_left_by_force_may_have_lost_what_was_acknowledged() {
        let doubtful = BTreeSet::from([Epoch(3)]);
        let lost = |epoch| may_have_lost(Epoch(epoch), Epoch(5), &doubtful);
        assert_eq!([1, 2, 3, 4, 5].map(lost), [false, true, false, false, true]);
    }
}
