//! The log gate: may this writer sign for this log? (DESIGN invariant 7)
//!
//! A writer signs only when its tree extends what the outside holds. After a restart in the same epoch its
//! own durable checkpoints are enough, and every reachable holder must agree; in a new epoch at least one
//! holder has to be heard. One log's refusal suspends that jurisdiction only.
//!
//! Pure: the facts are gathered by [`super::sequencer`], the judgement is made here.
//! Deliberately absent: re-import of a lost tail from a reader; such a log stays suspended for a person.

use domicile_core::log::Hash;

/// What one outside holder (a reader, or the ledger's own checkpoint table) says about a log.
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
    /// The last signature of this log was made in the writer's present epoch.
    pub(crate) same_epoch: bool,
    /// The ledger holds no checkpoint of the log.
    pub(crate) never_signed: bool,
    /// This is the cluster's first epoch: no earlier writer can have signed anything.
    pub(crate) first_epoch: bool,
    /// Holders that answered.
    pub(crate) heard: Vec<Holding>,
    /// Outside holders that did not answer in time.
    pub(crate) silent: Vec<String>,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Sign. `missing` names the holders that were not heard, for the record.
    Sign { missing: Vec<String> },
    /// Ask again: too few holders were heard.
    Wait { missing: Vec<String> },
    /// Never sign: the outside holds a different or a longer history.
    Refuse { reason: String },
}

/// Judges the facts; the table stands in the module's description.
pub(crate) fn judge(facts: &Facts) -> Verdict {
    for holding in &facts.heard {
        match holding.our_root {
            None => {
                return Verdict::Refuse {
                    reason: format!(
                        "{} holds {} leaves, more than this ledger: leaves were lost",
                        holding.holder, holding.size
                    ),
                };
            }
            Some(ours) if ours != holding.root => {
                return Verdict::Refuse {
                    reason: format!(
                        "{} holds a different history at size {}: the log has forked",
                        holding.holder, holding.size
                    ),
                };
            }
            Some(_) => {}
        }
    }
    let missing = facts.silent.clone();
    // A ledger without a checkpoint may have lost its first one: then every holder has to say so.
    let nothing_outside = facts.never_signed && (facts.first_epoch || missing.is_empty());
    if nothing_outside || facts.same_epoch || !facts.heard.is_empty() {
        Verdict::Sign { missing }
    } else {
        Verdict::Wait { missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(size: u64, root: u8, ours: Option<u8>) -> Holding {
        Holding {
            holder: "reader-mt".into(),
            size,
            root: [root; 32],
            our_root: ours.map(|byte| [byte; 32]),
        }
    }

    fn facts(same_epoch: bool, heard: Vec<Holding>) -> Facts {
        Facts {
            same_epoch,
            never_signed: false,
            first_epoch: false,
            heard,
            silent: vec!["reader-de".into()],
        }
    }

    #[test]
    fn an_agreeing_holder_opens_the_gate_in_any_epoch() {
        for same_epoch in [true, false] {
            let verdict = judge(&facts(same_epoch, vec![holding(7, 1, Some(1))]));
            assert_eq!(verdict, Verdict::Sign { missing: vec!["reader-de".into()] });
        }
    }

    #[test]
    fn a_new_epoch_waits_for_at_least_one_holder() {
        assert!(matches!(judge(&facts(false, vec![])), Verdict::Wait { .. }));
        assert!(matches!(judge(&facts(true, vec![])), Verdict::Sign { .. }));
        let lost = Facts { never_signed: true, ..facts(false, vec![]) };
        assert!(matches!(judge(&lost), Verdict::Wait { .. }), "a silent holder may hold it");
        let fresh = Facts { first_epoch: true, ..lost.clone() };
        assert!(matches!(judge(&fresh), Verdict::Sign { .. }));
        let all_answered = Facts { silent: vec![], ..lost };
        assert!(matches!(judge(&all_answered), Verdict::Sign { .. }));
    }

    #[test]
    fn a_longer_or_different_history_outside_closes_it_whatever_the_rest_says() {
        for (bad, word) in [(holding(9, 1, None), "lost"), (holding(7, 1, Some(2)), "forked")] {
            for same_epoch in [true, false] {
                let heard = vec![holding(7, 1, Some(1)), bad.clone()];
                let Verdict::Refuse { reason } = judge(&facts(same_epoch, heard)) else {
                    panic!("must refuse {bad:?}");
                };
                assert!(reason.contains(word), "{reason}");
            }
        }
    }
}
