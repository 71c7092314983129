//! May this node's Postgres start, and as what? May its commits wait for somebody else? Pure decisions.
//!
//! Invariants: a ledger node starts as primary only if the control record names it; without the control plane only
//! if it was primary in the very epoch of the last known record and a standby in another region fences it; an
//! unknown is refused. A standby may always start: it can acknowledge nothing.
//! Deliberately absent: finding the facts, and acting.

use domicile_core::epoch::Epoch;
use domicile_core::ids::NodeId;
use domicile_topology::document::Durability;
use domicile_topology::member::Member;
use domicile_topology::observed::NodeKind;
use domicile_topology::record::Record;
use thiserror::Error;

use crate::settings::SyncTarget;

/// What the data directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// There is none.
    Absent,
    /// It would start as primary.
    Primary,
    /// It would start as standby.
    Standby,
}

/// What is known of the control record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The control plane answered: this, or no record yet.
    Answered(Option<Record>),
    /// It did not; the last record this node has seen.
    Away(Option<Record>),
}

impl Authority {
    /// The record, fresh or last known.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Answered(record) | Self::Away(record) => record.as_ref(),
        }
    }
}

/// Everything the decision to start rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFacts<'a> {
    /// This node.
    pub node: &'a NodeId,
    /// Ledger or reader.
    pub kind: NodeKind,
    /// The data directory.
    pub disk: Disk,
    /// The control record.
    pub authority: &'a Authority,
    /// The epoch in which this node last started as primary under a record that named it.
    pub primary_in: Option<Epoch>,
    /// What its commits waited for.
    pub sync: &'a SyncTarget,
    /// What else keeps it down.
    pub hold: Option<Hold>,
}

/// Why the data directory is not to be started as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Its term has ended, and the next has not begun.
    Demoted,
    /// It is on its way back: half compared, rewound or copied.
    Returning,
}

/// What Postgres may be started as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// As a reader's own database.
    Reader,
    /// As a standby.
    Standby,
    /// As the ledger's primary.
    Primary {
        /// The record's epoch; `None` before the first record.
        epoch: Option<Epoch>,
        /// What commits must wait for.
        sync: SyncTarget,
    },
}

/// Why Postgres is not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nothing to start.
    #[error("there is no database here: init or clone it")]
    NoData,
    /// Another node writes.
    #[error("the control record names another node as the writer")]
    NotNamed,
    /// There was a record, and now there is none.
    #[error("the control record is gone, though this node has seen one")]
    RecordLost,
    /// The control plane is away and this node was not primary in the last known epoch.
    #[error("the control plane is away and this node was not primary in the last known epoch")]
    NotLastPrimary,
    /// The node waits for the next epoch.
    #[error("this node was demoted and waits for the new epoch: rejoin it, or undo the demotion")]
    Demoted,
    /// The node is being made a standby.
    #[error("this node is on its way back to being a standby: rejoin it")]
    Returning,
    /// The control plane is away and no standby fences this node.
    #[error("the control plane is away and no standby in another region fences this node")]
    Unfenced,
}

/// May Postgres start, and as what?
pub fn may_start(facts: &StartFacts<'_>) -> Result<Start, Refusal> {
    match (facts.kind, facts.disk) {
        (_, Disk::Absent) => Err(Refusal::NoData),
        (NodeKind::Ledger, _) if facts.hold == Some(Hold::Demoted) => Err(Refusal::Demoted),
        (NodeKind::Ledger, _) if facts.hold == Some(Hold::Returning) => Err(Refusal::Returning),
        (NodeKind::Reader, _) => Ok(Start::Reader),
        (NodeKind::Ledger, Disk::Standby) => Ok(Start::Standby),
        (NodeKind::Ledger, Disk::Primary) => may_lead(facts),
    }
}

fn may_lead(facts: &StartFacts<'_>) -> Result<Start, Refusal> {
    match facts.authority {
        Authority::Answered(Some(record)) => named(facts, record),
        Authority::Answered(None) if facts.primary_in.is_some() => Err(Refusal::RecordLost),
        Authority::Answered(None) => Ok(Start::Primary { epoch: None, sync: facts.sync.clone() }),
        Authority::Away(None) => Err(Refusal::NotLastPrimary),
        Authority::Away(Some(record)) => {
            let lead = named(facts, record)?;
            if facts.primary_in != Some(record.epoch) {
                return Err(Refusal::NotLastPrimary);
            }
            match &lead {
                Start::Primary { sync: SyncTarget::Member(_), .. } => Ok(lead),
                _ => Err(Refusal::Unfenced),
            }
        }
    }
}

fn named(facts: &StartFacts<'_>, record: &Record) -> Result<Start, Refusal> {
    if &record.writer_node != facts.node {
        return Err(Refusal::NotNamed);
    }
    Ok(Start::Primary { epoch: Some(record.epoch), sync: effective_sync(record, facts.sync) })
}

// The configuration is changed before the record when the wait is switched on, and after it when it is switched off:
// in between, the stricter of the two holds.
fn effective_sync(record: &Record, configured: &SyncTarget) -> SyncTarget {
    match (configured, record.durability, &record.sync_member) {
        (SyncTarget::Member(_), _, _) | (_, Durability::One, _) => configured.clone(),
        (_, Durability::Two, Some(member)) => SyncTarget::Member(member.clone()),
        (_, Durability::Two, None) => SyncTarget::Closed,
    }
}

/// Must a running primary be stopped, because the control plane says that another node writes?
pub fn must_yield(node: &NodeId, authority: &Authority) -> bool {
    matches!(authority, Authority::Answered(Some(record)) if &record.writer_node != node)
}

/// Why what commits wait for is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SyncRefusal {
    /// The control plane is away, and the change would take a fence down.
    #[error("the control plane is away and the change would take the present fence down")]
    Away,
    /// Another node writes.
    #[error("the control record names another node as the writer")]
    NotNamed,
    /// Promotable first has to be cleared.
    #[error("the control record still says promotable: clear it first")]
    Promotable,
    /// Durability first has to be `one`.
    #[error("the control record still says durability two: change it first")]
    Two,
    /// The node itself.
    #[error("a node cannot be its own standby")]
    Itself,
}

/// May commits, that wait for `present`, wait for `wanted` instead?
pub fn may_change_sync(
    node: &NodeId,
    authority: &Authority,
    present: &SyncTarget,
    wanted: Option<&Member>,
) -> Result<(), SyncRefusal> {
    if wanted.is_some_and(|member| &member.node == node) {
        return Err(SyncRefusal::Itself);
    }
    if let SyncTarget::Member(member) = present
        && wanted == Some(member)
    {
        return Ok(());
    }
    let strengthens = wanted.is_some() && !matches!(present, SyncTarget::Member(_));
    let record = match authority {
        Authority::Away(_) if strengthens => return Ok(()),
        Authority::Away(_) => return Err(SyncRefusal::Away),
        Authority::Answered(None) => return Ok(()),
        Authority::Answered(Some(record)) => record,
    };
    if &record.writer_node != node {
        return Err(SyncRefusal::NotNamed);
    }
    let as_recorded = wanted.is_some() && record.sync_member.as_ref() == wanted;
    if record.promotable && !as_recorded {
        return Err(SyncRefusal::Promotable);
    }
    if wanted.is_none() && record.durability == Durability::Two {
        return Err(SyncRefusal::Two);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_core::ids::RegionId;
    use domicile_topology::member::JoinId;
    use domicile_topology::record::Beginning;

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn member(join: u8) -> Member {
        let join_id = JoinId::parse(&format!("{join:016x}")).unwrap();
        Member { node: node("b"), join_id }
    }

    fn record(writer: &str, epoch: u64, durability: Durability) -> Record {
        let two = durability == Durability::Two;
        let beginning = if epoch == 1 { Beginning::First } else { Beginning::Forced };
        Record {
            epoch: Epoch(epoch),
            beginning,
            durability,
            sync_member: two.then(|| member(1)),
            ..Record::first(RegionId::parse("r").unwrap(), node(writer), 1)
        }
    }

    fn lead(epoch: Option<u64>, sync: SyncTarget) -> Start {
        Start::Primary { epoch: epoch.map(Epoch), sync }
    }

    #[test]
    fn what_a_node_may_start_as() {
        use Authority::{Answered, Away};
        use Durability::{One, Two};
        let (off, on) = (SyncTarget::Off, SyncTarget::Member(member(1)));
        let other = SyncTarget::Member(member(2));
        let two = |epoch| record("a", epoch, Two);
        let cases = [
            // authority, was primary in, configured, verdict
            (Answered(None), None, &off, Ok(lead(None, off.clone()))),
            (Answered(None), Some(1), &on, Err(Refusal::RecordLost)),
            (Answered(Some(record("b", 1, Two))), Some(1), &on, Err(Refusal::NotNamed)),
            (Answered(Some(two(3))), None, &on, Ok(lead(Some(3), on.clone()))),
            (Answered(Some(two(3))), Some(3), &off, Ok(lead(Some(3), on.clone()))),
            (Answered(Some(two(3))), Some(3), &SyncTarget::Closed, Ok(lead(Some(3), on.clone()))),
            (Answered(Some(two(3))), Some(3), &other, Ok(lead(Some(3), other.clone()))),
            (Answered(Some(record("a", 1, One))), Some(1), &off, Ok(lead(Some(1), off.clone()))),
            (Answered(Some(record("a", 1, One))), Some(1), &on, Ok(lead(Some(1), on.clone()))),
            (Away(None), None, &off, Err(Refusal::NotLastPrimary)),
            (Away(Some(two(3))), Some(3), &on, Ok(lead(Some(3), on.clone()))),
            (Away(Some(two(3))), Some(2), &on, Err(Refusal::NotLastPrimary)),
            (Away(Some(two(3))), None, &on, Err(Refusal::NotLastPrimary)),
            (Away(Some(record("b", 3, Two))), Some(3), &on, Err(Refusal::NotNamed)),
            (Away(Some(record("a", 3, One))), Some(3), &off, Err(Refusal::Unfenced)),
        ];
        let me = node("a");
        for (authority, primary_in, sync, expected) in &cases {
            let mut facts = StartFacts {
                node: &me,
                kind: NodeKind::Ledger,
                disk: Disk::Primary,
                authority,
                primary_in: primary_in.map(Epoch),
                sync,
                hold: None,
            };
            assert_eq!(&may_start(&facts), expected, "{authority:?} {primary_in:?} {sync:?}");
            facts.disk = Disk::Standby;
            assert_eq!(may_start(&facts), Ok(Start::Standby));
            for disk in [Disk::Primary, Disk::Standby] {
                let held =
                    |hold| may_start(&StartFacts { disk, hold: Some(hold), ..facts.clone() });
                assert_eq!(held(Hold::Demoted), Err(Refusal::Demoted));
                assert_eq!(held(Hold::Returning), Err(Refusal::Returning));
            }
            facts.disk = Disk::Absent;
            assert_eq!(may_start(&facts), Err(Refusal::NoData));
            facts = StartFacts { kind: NodeKind::Reader, disk: Disk::Primary, ..facts };
            assert_eq!(may_start(&facts), Ok(Start::Reader));
        }
    }

    #[test]
    fn only_a_fresh_record_makes_a_primary_yield() {
        let (me, theirs) = (node("a"), record("b", 2, Durability::Two));
        assert!(must_yield(&me, &Authority::Answered(Some(theirs.clone()))));
        assert!(!must_yield(&me, &Authority::Away(Some(theirs))));
        assert!(!must_yield(&me, &Authority::Answered(None)));
        assert!(!must_yield(&me, &Authority::Answered(Some(record("a", 2, Durability::One)))));
    }

    #[test]
    fn the_wait_is_taken_down_only_after_the_record() {
        use Durability::{One, Two};
        let me = node("a");
        let (first, second) = (member(1), member(2));
        let on = SyncTarget::Member(first.clone());
        let promotable = Record { promotable: true, ..record("a", 1, Two) };
        let answered = |record: &Record| Authority::Answered(Some(record.clone()));
        let check = |authority, present: &SyncTarget, wanted: Option<&Member>| {
            may_change_sync(&me, &authority, present, wanted)
        };
        let two = record("a", 1, Two);
        assert_eq!(check(answered(&promotable), &on, Some(&first)), Ok(()), "as it is");
        assert_eq!(check(answered(&promotable), &on, Some(&second)), Err(SyncRefusal::Promotable));
        assert_eq!(check(answered(&promotable), &on, None), Err(SyncRefusal::Promotable));
        assert_eq!(check(answered(&two), &on, None), Err(SyncRefusal::Two));
        assert_eq!(check(answered(&two), &on, Some(&second)), Ok(()));
        assert_eq!(check(answered(&record("a", 1, One)), &on, None), Ok(()));
        assert_eq!(check(answered(&record("b", 1, One)), &on, None), Err(SyncRefusal::NotNamed));
        assert_eq!(check(Authority::Away(None), &on, None), Err(SyncRefusal::Away));
        assert_eq!(check(Authority::Away(None), &on, Some(&second)), Err(SyncRefusal::Away));
        assert_eq!(check(Authority::Away(None), &SyncTarget::Off, Some(&first)), Ok(()));
        let own = Member { node: me.clone(), ..first };
        assert_eq!(check(answered(&two), &on, Some(&own)), Err(SyncRefusal::Itself));
    }
}
