//! Moving the writer, as one node decides it: who may log in, what commits wait for, when to come back. Pure.
//!
//! Invariants: the writer's role gets in only on the node that is primary of the very epoch opened there; what a
//! promoted node's commits wait for comes from the control record, never from what the node inherited; a node comes back
//! by itself only on a fresh record that names another. Deliberately absent: finding the facts, and acting.

use domicile_core::epoch::Epoch;
use domicile_core::ids::NodeId;
use domicile_topology::document::Durability;
use domicile_topology::observed::NodeKind;
use domicile_topology::record::{Beginning, Record, Writes};
use thiserror::Error;

use crate::decide::{Authority, Disk};
use crate::memory::{Memory, Returning};
use crate::settings::SyncTarget;

/// What the writer's admission rests on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdmitFacts<'a> {
    /// This node.
    pub(crate) node: &'a NodeId,
    /// The data directory.
    pub(crate) disk: Disk,
    /// The last known record: it may be behind what this node was told at its last operation.
    pub(crate) record: &'a Option<Record>,
    /// The epoch in which this node last ran as primary.
    pub(crate) primary_in: Option<Epoch>,
    /// The last epoch opened here.
    pub(crate) opened: Option<Epoch>,
}

/// May the writer's role log in?
pub(crate) fn may_admit_writer(facts: &AdmitFacts<'_>) -> bool {
    let Some(opened) = facts.opened else { return false };
    if facts.disk != Disk::Primary || facts.primary_in != Some(opened) {
        return false;
    }
    match facts.record {
        Some(record) if record.epoch == opened => &record.writer_node == facts.node,
        Some(record) => record.epoch < opened,
        None => true,
    }
}

/// Why the writer is not moved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransferRefusal {
    /// Nobody can say who writes.
    #[error("the control plane is away: the writer moves on its word only")]
    Away,
    /// The record says something else.
    #[error("the control record says epoch {epoch} on {node}")]
    NotNamed {
        /// Its epoch.
        epoch: Epoch,
        /// Its writer's node.
        node: NodeId,
    },
    /// There is none.
    #[error("there is no control record")]
    NoRecord,
    /// The writer may still take work.
    #[error("the control record says that writes are open: close them first")]
    WritesOpen,
}

/// The record, if it is fresh and names this node at this epoch.
pub(crate) fn named(
    node: &NodeId,
    epoch: Epoch,
    authority: Authority,
) -> Result<Record, TransferRefusal> {
    match authority {
        Authority::Answered(Some(record))
            if &record.writer_node == node && record.epoch == epoch =>
        {
            Ok(record)
        }
        Authority::Answered(Some(Record { epoch, writer_node: node, .. })) => {
            Err(TransferRefusal::NotNamed { epoch, node })
        }
        Authority::Answered(None) => Err(TransferRefusal::NoRecord),
        Authority::Away(_) => Err(TransferRefusal::Away),
    }
}

/// May this primary be demoted?
pub(crate) fn may_demote(
    node: &NodeId,
    epoch: Epoch,
    authority: Authority,
) -> Result<(), TransferRefusal> {
    match named(node, epoch, authority)?.writes {
        Writes::Closing => Ok(()),
        Writes::Open => Err(TransferRefusal::WritesOpen),
    }
}

/// What commits wait for under this record.
pub(crate) fn recorded_wait(record: &Record) -> SyncTarget {
    match (record.durability, &record.sync_member) {
        (Durability::Two, Some(member)) => SyncTarget::Member(member.clone()),
        (Durability::Two, None) => SyncTarget::Closed,
        (Durability::One, _) => SyncTarget::Off,
    }
}

/// Does this node have to become a standby of the node that the record names, without being asked?
pub(crate) fn must_return(
    node: &NodeId,
    kind: NodeKind,
    disk: Disk,
    memory: &Memory,
    record: &Record,
) -> bool {
    if kind != NodeKind::Ledger || !memory.wanted || &record.writer_node == node {
        return false;
    }
    match disk {
        Disk::Absent => memory.returning.is_some(),
        Disk::Primary => true,
        Disk::Standby => {
            let follows = memory.joined.as_ref().map(|joined| &joined.source);
            memory.demoted.is_some()
                || memory.returning.is_some()
                || follows != Some(&record.writer_node)
        }
    }
}

/// How a node that the record does not name comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It follows the right node already, or only has to start.
    Follow,
    /// It follows another node: a new joining is made at the right one.
    Refollow,
    /// It was primary and did not hand over: its history must be compared with the new one.
    Compare,
    /// Its data cannot be used.
    Clone,
}

/// How does this node come back under this record?
pub(crate) fn manner(disk: Disk, memory: &Memory, record: &Record) -> Manner {
    let joined = memory.joined.as_ref();
    match (disk, memory.returning) {
        (Disk::Absent, _) | (_, Some(Returning::Rewinding | Returning::Cloning)) => Manner::Clone,
        (Disk::Primary, _) | (_, Some(Returning::Apart)) if handed_over(memory, record) => {
            Manner::Follow
        }
        (Disk::Primary, _) | (_, Some(Returning::Apart)) => Manner::Compare,
        (Disk::Standby, _) if memory.demoted.is_some() && !handed_over(memory, record) => {
            Manner::Compare
        }
        (Disk::Standby, _) if joined.is_some_and(|j| j.source == record.writer_node) => {
            Manner::Follow
        }
        (Disk::Standby, _) => Manner::Refollow,
    }
}

// By a switchover the new primary had everything before it was named, and named this very joining.
fn handed_over(memory: &Memory, record: &Record) -> bool {
    let (Some(demoted), Some(joined)) = (&memory.demoted, &memory.joined) else { return false };
    record.beginning == Beginning::Switchover
        && record.epoch.0.checked_sub(1) == Some(demoted.epoch.0)
        && joined.source == record.writer_node
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Demoted, Joined};
    use domicile_core::epoch::Lsn;
    use domicile_core::ids::RegionId;
    use domicile_topology::member::{JoinId, Member};

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn record(writer: &str, epoch: u64, beginning: Beginning) -> Record {
        let first = Record::first(RegionId::parse("r").unwrap(), node(writer), 1);
        Record { epoch: Epoch(epoch), beginning, ..first }
    }

    fn joined(source: &str) -> Joined {
        let member = Member { node: node("a"), join_id: JoinId::from_random(1) };
        Joined { source: node(source), member }
    }

    fn demoted(epoch: u64) -> Demoted {
        Demoted { epoch: Epoch(epoch), end_lsn: Lsn(1), timeline: 1 }
    }

    #[test]
    fn the_writer_is_admitted_in_the_opened_epoch_alone() {
        let me = node("a");
        let here = |epoch| Some(record("a", epoch, Beginning::Forced));
        let there = |epoch| Some(record("b", epoch, Beginning::Forced));
        let (one, two) = (Some(Epoch(1)), Some(Epoch(2)));
        let cases = [
            // disk, last record, primary in, opened, admitted
            (Disk::Primary, here(2), two, two, true),
            (Disk::Primary, None, two, two, true),
            (Disk::Primary, there(1), two, two, true), // the operation heard more than the watch
            (Disk::Primary, there(2), two, two, false),
            (Disk::Primary, here(3), two, two, false), // not opened yet
            (Disk::Primary, there(3), two, two, false),
            (Disk::Primary, here(2), two, one, false),
            (Disk::Primary, here(2), one, two, false),
            (Disk::Primary, here(2), two, None, false),
            (Disk::Primary, here(2), None, None, false),
            (Disk::Standby, here(2), two, two, false),
            (Disk::Absent, here(2), two, two, false),
        ];
        for (disk, record, primary_in, opened, expected) in &cases {
            let facts = AdmitFacts {
                node: &me,
                disk: *disk,
                record,
                primary_in: *primary_in,
                opened: *opened,
            };
            assert_eq!(may_admit_writer(&facts), *expected, "{facts:?}");
        }
    }

    #[test]
    fn a_demotion_needs_a_fresh_record_that_closes_writes() {
        let me = node("a");
        let open = record("a", 2, Beginning::Forced);
        let closing = Record { writes: Writes::Closing, ..open.clone() };
        let check = |epoch, authority| may_demote(&me, Epoch(epoch), authority);
        let answered = |record: &Record| Authority::Answered(Some(record.clone()));
        assert_eq!(check(2, answered(&closing)), Ok(()));
        assert_eq!(check(2, answered(&open)), Err(TransferRefusal::WritesOpen));
        assert!(matches!(check(1, answered(&closing)), Err(TransferRefusal::NotNamed { .. })));
        let theirs = Record { writer_node: node("b"), ..closing.clone() };
        assert!(matches!(check(2, answered(&theirs)), Err(TransferRefusal::NotNamed { .. })));
        assert_eq!(check(2, Authority::Answered(None)), Err(TransferRefusal::NoRecord));
        assert_eq!(check(2, Authority::Away(Some(closing))), Err(TransferRefusal::Away));
    }

    #[test]
    fn the_record_alone_says_what_a_promoted_node_waits_for() {
        let member = joined("b").member;
        let one = record("b", 2, Beginning::Failover);
        assert_eq!(recorded_wait(&one), SyncTarget::Off);
        let two = Record { durability: Durability::Two, ..one };
        assert_eq!(recorded_wait(&two), SyncTarget::Closed, "nobody is named: nothing commits");
        let named = Record { sync_member: Some(member.clone()), ..two };
        assert_eq!(recorded_wait(&named), SyncTarget::Member(member));
    }

    #[test]
    fn a_node_returns_by_itself_only_to_another_and_only_if_wanted() {
        let (me, theirs) = (node("a"), record("b", 2, Beginning::Failover));
        let check = |disk, memory: &Memory, record: &Record| {
            must_return(&me, NodeKind::Ledger, disk, memory, record)
        };
        let wanted = Memory { wanted: true, ..Memory::default() };
        let following = Memory { joined: Some(joined("b")), ..wanted.clone() };
        let elsewhere = Memory { joined: Some(joined("c")), ..wanted.clone() };
        let waiting = Memory { demoted: Some(demoted(1)), ..following.clone() };
        let half_way = Memory { returning: Some(Returning::Settling), ..following.clone() };
        assert!(check(Disk::Primary, &wanted, &theirs));
        assert!(!check(Disk::Primary, &Memory::default(), &theirs), "stopped by a person");
        assert!(!check(Disk::Primary, &wanted, &record("a", 2, Beginning::Failover)));
        assert!(!check(Disk::Absent, &wanted, &theirs), "never part of the cluster");
        assert!(check(Disk::Absent, &half_way, &theirs));
        assert!(!check(Disk::Standby, &following, &theirs));
        for memory in [&elsewhere, &waiting, &half_way] {
            assert!(check(Disk::Standby, memory, &theirs), "{memory:?}");
        }
        assert!(!must_return(&me, NodeKind::Reader, Disk::Primary, &wanted, &theirs));
    }

    #[test]
    fn how_a_node_comes_back() {
        let switched = record("b", 2, Beginning::Switchover);
        let failed = record("b", 2, Beginning::Failover);
        let plain = Memory::default();
        let following = Memory { joined: Some(joined("b")), ..Memory::default() };
        let waiting = Memory { demoted: Some(demoted(1)), ..following.clone() };
        let earlier = Memory { demoted: Some(demoted(0)), ..following.clone() };
        let elsewhere = Memory { joined: Some(joined("c")), ..Memory::default() };
        let at = |returning| Memory { returning: Some(returning), ..following.clone() };
        let cases = [
            (Disk::Absent, plain.clone(), &failed, Manner::Clone),
            (Disk::Primary, plain.clone(), &failed, Manner::Compare),
            (Disk::Primary, plain, &switched, Manner::Compare),
            (Disk::Primary, waiting.clone(), &switched, Manner::Follow),
            (Disk::Primary, waiting.clone(), &failed, Manner::Compare),
            (Disk::Standby, waiting.clone(), &switched, Manner::Follow),
            (Disk::Standby, waiting, &failed, Manner::Compare),
            (Disk::Standby, earlier, &switched, Manner::Compare),
            (Disk::Standby, following.clone(), &failed, Manner::Follow),
            (Disk::Standby, elsewhere, &failed, Manner::Refollow),
            (Disk::Standby, at(Returning::Settling), &failed, Manner::Follow),
            (Disk::Primary, at(Returning::Apart), &failed, Manner::Compare),
            (Disk::Standby, at(Returning::Apart), &failed, Manner::Compare),
            (Disk::Primary, at(Returning::Rewinding), &failed, Manner::Clone),
            (Disk::Standby, at(Returning::Rewinding), &switched, Manner::Clone),
            (Disk::Standby, at(Returning::Cloning), &failed, Manner::Clone),
        ];
        for (disk, memory, record, expected) in &cases {
            assert_eq!(manner(*disk, memory, record), *expected, "{disk:?} {memory:?}");
        }
    }
}
