//! The log gate: may this writer sign for this log? (DESIGN invariant 7)
//!
//! A writer signs only when its tree extends what the outside holds. Every holder that answers must agree, always.
//! Who has to answer depends on how the epoch began: after a switchover or a failover, in which nothing acknowledged
//! is missing, one holder (or none, when a person has waived every one that is silent by name); after a forced failover every holder that nobody waived by name. Once an epoch's gate was
//! passed – the head row says so – a restart in it needs no holder. One log's refusal suspends that jurisdiction only.
//!
//! Pure: the facts are gathered by [`super::passage`], the judgement is made here.
//! Deliberately absent: re-import of a lost tail from a reader; such a log stays suspended for a person.

use domicile_core::log::Hash;
use domicile_topology::record::Beginning;
use std::collections::BTreeSet;

/// What one holder (a reader, the control plane, or the ledger's own checkpoint table) says about a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Who holds it, for messages and evidence.
    pub(crate) holder: String,
    /// The tree size of its latest checkpoint; 0 when it holds none yet.
    pub(crate) size: u64,
    /// The root it holds at that size.
    pub(crate) root: Hash,
    /// Our own root at that size, `None` when our tree is smaller.
    pub(crate) our_root: Option<Hash>,
}

/// The facts of one attempt to pass the gate.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// How the epoch began.
    pub(crate) beginning: Beginning,
    /// The gate was passed in this epoch before.
    pub(crate) passed_before: bool,
    /// The ledger holds no checkpoint of the log.
    pub(crate) never_signed: bool,
    /// Holders that answered with a checkpoint.
    pub(crate) heard: Vec<Holding>,
    /// Outside holders that did not answer in time.
    pub(crate) silent: BTreeSet<String>,
    /// Holders that a person has waived for this epoch.
    pub(crate) waived: BTreeSet<String>,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Sign. `missing` names the holders that were not heard, for the record.
    Sign { missing: BTreeSet<String> },
    /// Ask again: these were not heard, and with them too few were.
    Wait { missing: BTreeSet<String> },
    /// Never sign: the outside holds a different or a longer history.
    Refuse { reason: String },
}

/// Judges the facts; the rule stands in the module's description.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    if let Some(reason) = facts.heard.iter().find_map(contradiction) {
        return Verdict::Refuse { reason };
    }
    let missing = facts.silent.clone();
    let enough = facts.passed_before
        || match facts.beginning {
            // No earlier writer can have signed anything.
            Beginning::First if facts.never_signed => true,
            Beginning::First | Beginning::Switchover | Beginning::Failover => {
                // When all have answered and none holds a checkpoint, nothing outside can be contradicted.
                !facts.heard.is_empty() || missing.is_subset(&facts.waived)
            }
            Beginning::Forced => missing.is_subset(&facts.waived),
        };
    if enough { Verdict::Sign { missing } } else { Verdict::Wait { missing } }
}

fn contradiction(holding: &Holding) -> Option<String> {
    let Holding { holder, size, root, our_root } = holding;
    match our_root {
        None => {
            Some(format!("{holder} holds {size} leaves, more than this ledger: leaves were lost"))
        }
        Some(ours) if ours != root => {
            Some(format!("{holder} holds a different history at size {size}: the log has forked"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVES: [Beginning; 3] = [Beginning::Switchover, Beginning::Failover, Beginning::Forced];

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn holding(size: u64, root: u8, ours: Option<u8>) -> Holding {
        Holding {
            holder: "reader-mt".into(),
            size,
            root: [root; 32],
            our_root: ours.map(|byte| [byte; 32]),
        }
    }

    /// An agreeing holder is heard, another one is silent.
    fn facts(beginning: Beginning) -> Facts {
        Facts {
            beginning,
            passed_before: false,
            never_signed: false,
            heard: vec![holding(7, 1, Some(1))],
            silent: names(&["reader-de"]),
            waived: names(&[]),
        }
    }

    #[test]
    fn one_holder_is_enough_after_a_move_that_lost_nothing() {
        for beginning in [Beginning::Switchover, Beginning::Failover] {
            let verdict = judge(&facts(beginning));
            assert_eq!(verdict, Verdict::Sign { missing: names(&["reader-de"]) });
            let unheard = Facts { heard: vec![], ..facts(beginning) };
            assert_eq!(judge(&unheard), Verdict::Wait { missing: names(&["reader-de"]) });
            let lost = Facts { never_signed: true, ..unheard.clone() };
            assert!(matches!(judge(&lost), Verdict::Wait { .. }), "the silent one may hold it");
            let waived = Facts { waived: names(&["reader-de"]), ..unheard.clone() };
            assert_eq!(judge(&waived), Verdict::Sign { missing: names(&["reader-de"]) });
            let other = Facts { waived: names(&["reader-gb"]), ..unheard.clone() };
            assert!(matches!(judge(&other), Verdict::Wait { .. }), "another one was waived");
            let none_holds = Facts { silent: names(&[]), ..unheard };
            assert_eq!(judge(&none_holds), Verdict::Sign { missing: names(&[]) });
        }
    }

    #[test]
    fn a_forced_failover_asks_every_holder_that_nobody_waived() {
        let forced = facts(Beginning::Forced);
        assert_eq!(judge(&forced), Verdict::Wait { missing: names(&["reader-de"]) });
        let all = Facts { silent: names(&[]), ..forced.clone() };
        assert_eq!(judge(&all), Verdict::Sign { missing: names(&[]) });
        let other = Facts { waived: names(&["reader-gb"]), ..forced.clone() };
        assert!(matches!(judge(&other), Verdict::Wait { .. }), "another one was waived");
        let waived = Facts { waived: names(&["reader-de", "reader-gb"]), heard: vec![], ..forced };
        assert_eq!(judge(&waived), Verdict::Sign { missing: names(&["reader-de"]) });
    }

    #[test]
    fn only_a_gate_passed_in_the_same_epoch_needs_no_holder_again() {
        for beginning in MOVES {
            let unheard = Facts { heard: vec![], ..facts(beginning) };
            assert!(matches!(judge(&unheard), Verdict::Wait { .. }), "{beginning:?}");
            let again = Facts { passed_before: true, ..unheard };
            assert!(matches!(judge(&again), Verdict::Sign { .. }), "{beginning:?}");
        }
    }

    #[test]
    fn a_new_cluster_may_begin_alone() {
        let fresh = Facts { never_signed: true, heard: vec![], ..facts(Beginning::First) };
        assert!(matches!(judge(&fresh), Verdict::Sign { .. }));
        let signed = Facts { never_signed: false, ..fresh };
        assert!(matches!(judge(&signed), Verdict::Wait { .. }), "somebody signed already");
    }

    #[test]
    fn a_longer_or_different_history_outside_closes_it_whatever_the_rest_says() {
        for (bad, word) in [(holding(9, 1, None), "lost"), (holding(7, 1, Some(2)), "forked")] {
            for beginning in MOVES {
                for passed_before in [true, false] {
                    let heard = vec![holding(7, 1, Some(1)), bad.clone()];
                    let waived = names(&["reader-mt", "reader-de"]);
                    let facts = Facts { passed_before, heard, waived, ..facts(beginning) };
                    let Verdict::Refuse { reason } = judge(&facts) else {
                        panic!("must refuse {bad:?}");
                    };
                    assert!(reason.contains(word), "{reason}");
                }
            }
        }
    }
}
