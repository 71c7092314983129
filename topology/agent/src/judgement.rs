//! When an agent acts by itself: a failover to its own node, and the second copy after one. Pure.
//!
//! Invariants: never while the stream lives; never on one observer's word; a primary whose agent answers is gone only by
//! that agent's own word that its Postgres hangs; never unless the record lets this very joining
//! take over without loss; an unknown counts against acting. A mistaken failover costs a pause, never a write, because
//! the old primary can acknowledge nothing without this node – but a pause is a cost, so two regions must agree.
//! Deliberately absent: how the plan looks, which is the planner's, and finding the facts.

use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::Topology;
use domicile_topology::address::ServiceUrl;
use domicile_topology::agent_api::ObserveAnswer;
use domicile_topology::document::{Durability, FailoverMode};
use domicile_topology::observed::{NodeStatus, PostgresState};
use domicile_topology::record::{Beginning, DegradedBy, Record, Writes};
use thiserror::Error;

use crate::decide::Disk;
use crate::memory::Memory;
use crate::witness::SILENCE_MS;

/// A primary whose agent answers and whose Postgres has answered no beat for so long can acknowledge nothing,
/// milliseconds: longer than a crashed one takes to come up again as a rule.
const HANGS_MS: u64 = 3_000;
/// Most agents asked for a second word.
const MAX_OBSERVERS: usize = 8;

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Stay {
    /// The policy leaves it to people.
    #[error("the policy is manual")]
    Manual,
    /// This node is not a standby.
    #[error("this node is no standby")]
    NotStandby,
    /// The record does not let this joining take over.
    #[error("the control record does not call this joining promotable")]
    NotPromotable,
    /// Something arrived lately.
    #[error("the stream is alive")]
    StreamAlive,
    /// The primary's agent answers here, and does not say that its Postgres hangs.
    #[error("the primary's agent answers, and its Postgres does not hang")]
    PrimaryAnswers,
    /// No agent in a third region answered.
    #[error("no second observer answers")]
    NoSecondObserver,
    /// One in a third region sees the primary.
    #[error("a second observer sees the primary")]
    ObserverDisagrees,
}

/// What the suspicion rests on: all of it known to this node alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SuspicionFacts<'a> {
    /// This node.
    pub(crate) node: &'a NodeId,
    /// Who decides.
    pub(crate) policy: FailoverMode,
    /// The last known record: the executor compares it with the present one.
    pub(crate) record: &'a Record,
    /// The data directory.
    pub(crate) disk: Disk,
    /// What this node remembers.
    pub(crate) memory: &'a Memory,
    /// How long nothing has arrived.
    pub(crate) silence_ms: Option<u64>,
}

/// Is there reason to ask others whether the primary is dead?
pub(crate) fn suspects(facts: &SuspicionFacts<'_>) -> Result<(), Stay> {
    if facts.policy != FailoverMode::Automatic {
        return Err(Stay::Manual);
    }
    let joined = facts.memory.joined.as_ref().filter(|_| facts.disk == Disk::Standby);
    let joined = joined.filter(|_| facts.memory.hold().is_none()).ok_or(Stay::NotStandby)?;
    let record = facts.record;
    let takes_over = record.promotable
        && record.durability == Durability::Two
        && record.sync_member.as_ref() == Some(&joined.member)
        && record.writer_node == joined.source
        && &record.writer_node != facts.node;
    if !takes_over {
        return Err(Stay::NotPromotable);
    }
    match facts.silence_ms {
        Some(silence_ms) if silence_ms >= SILENCE_MS => Ok(()),
        _ => Err(Stay::StreamAlive),
    }
}

/// What one look at the primary says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It may be working.
    Alive,
    /// Nobody answers, or its own agent says that its Postgres can acknowledge nothing.
    Gone,
}

/// Its agent's silence, or what it says of its own Postgres. A writer that is about to move goes quiet by intention.
pub(crate) fn sight(record: &Record, agent_reachable: bool, quiet_ms: Option<u64>) -> Sight {
    let hangs = quiet_ms.is_some_and(|quiet_ms| quiet_ms >= HANGS_MS);
    if !agent_reachable || (hangs && record.writes == Writes::Open) {
        Sight::Gone
    } else {
        Sight::Alive
    }
}

/// Do this node's and the others' looks together make the primary dead? `None`: that observer did not answer.
pub(crate) fn concludes(
    record: &Record,
    own: Sight,
    words: &[Option<ObserveAnswer>],
) -> Result<(), Stay> {
    if own == Sight::Alive {
        return Err(Stay::PrimaryAnswers);
    }
    let mut heard = words.iter().flatten().peekable();
    if heard.peek().is_none() {
        return Err(Stay::NoSecondObserver);
    }
    let sees = |word: &ObserveAnswer| {
        sight(record, word.agent_reachable, word.quiet_ms) == Sight::Alive
            || word.stream_alive == Some(true)
    };
    if heard.any(sees) {
        return Err(Stay::ObserverDisagrees);
    }
    Ok(())
}

/// The agents whose word counts: in neither of the two regions that the failover is about.
pub(crate) fn observers<'a>(
    topology: &'a Topology,
    own: &RegionId,
    writer: &RegionId,
) -> Vec<&'a ServiceUrl> {
    let ledgers = topology.ledgers.iter().map(|ledger| (&ledger.region, &ledger.agent));
    let readers = topology.readers.iter().map(|reader| (&reader.region, &reader.agent));
    let third = ledgers.chain(readers).filter(|(region, _)| *region != own && *region != writer);
    third.map(|(_, agent)| agent).take(MAX_OBSERVERS).collect()
}

/// Does the second copy lack after a failover, so that this primary's agent should see to it? A person's choice of one
/// copy, and the making of a cluster, are left alone.
pub(crate) fn lacks_second_copy(
    node: &NodeId,
    aim: Durability,
    record: &Record,
    disk: Disk,
    memory: &Memory,
) -> bool {
    aim == Durability::Two
        && &record.writer_node == node
        && !record.promotable
        && record.writes == Writes::Open
        && record.degraded_by != DegradedBy::Person
        && matches!(record.beginning, Beginning::Failover | Beginning::Forced)
        && disk == Disk::Primary
        && memory.opened == Some(record.epoch)
}

/// Is this node back, so that commits may soon wait for it?
pub(crate) fn is_back(status: &NodeStatus, writer: &NodeId) -> bool {
    let postgres = &status.postgres;
    postgres.state == PostgresState::Standby
        && postgres.receiving == Some(true)
        && postgres.source.as_ref() == Some(writer)
}

/// Was a failover to this node begun and left unfinished, so that its plan has to be gone on with?
pub(crate) fn is_half_promoted(
    node: &NodeId,
    policy: FailoverMode,
    record: &Record,
    memory: &Memory,
) -> bool {
    policy == FailoverMode::Automatic
        && &record.writer_node == node
        && record.beginning == Beginning::Failover
        && memory.opened != Some(record.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Joined, Returning};
    use domicile_core::epoch::Epoch;
    use domicile_topology::member::{JoinId, Member};

    fn node(name: &str) -> NodeId {
        NodeId::parse(name).unwrap()
    }

    fn member(join: u64) -> Member {
        Member { node: node("b"), join_id: JoinId::from_random(join) }
    }

    fn following() -> Memory {
        let joined = Some(Joined { source: node("a"), member: member(1) });
        Memory { wanted: true, joined, ..Memory::default() }
    }

    fn promotable() -> Record {
        let first = Record::first(RegionId::parse("r").unwrap(), node("a"), 1);
        let sync_member = Some(member(1));
        Record { durability: Durability::Two, sync_member, promotable: true, ..first }
    }

    #[test]
    fn suspicion_needs_every_one_of_its_reasons() {
        let (me, record, memory) = (node("b"), promotable(), following());
        let all = SuspicionFacts {
            node: &me,
            policy: FailoverMode::Automatic,
            record: &record,
            disk: Disk::Standby,
            memory: &memory,
            silence_ms: Some(SILENCE_MS),
        };
        assert_eq!(suspects(&all), Ok(()));
        let manual = SuspicionFacts { policy: FailoverMode::Manual, ..all };
        assert_eq!(suspects(&manual), Err(Stay::Manual));
        for silence_ms in [None, Some(0), Some(SILENCE_MS - 1)] {
            assert_eq!(suspects(&SuspicionFacts { silence_ms, ..all }), Err(Stay::StreamAlive));
        }
        for disk in [Disk::Primary, Disk::Absent] {
            assert_eq!(suspects(&SuspicionFacts { disk, ..all }), Err(Stay::NotStandby));
        }
        let half = Memory { returning: Some(Returning::Rewinding), ..following() };
        for memory in [&Memory::default(), &half] {
            assert_eq!(suspects(&SuspicionFacts { memory, ..all }), Err(Stay::NotStandby));
        }
        let others = [
            Record { promotable: false, ..promotable() },
            Record { durability: Durability::One, ..promotable() },
            Record { sync_member: Some(member(2)), ..promotable() },
            Record { sync_member: None, ..promotable() },
            Record { writer_node: node("b"), ..promotable() },
            Record { writer_node: node("c"), ..promotable() },
        ];
        for record in &others {
            let facts = SuspicionFacts { record, ..all };
            assert_eq!(suspects(&facts), Err(Stay::NotPromotable), "{record:?}");
        }
    }

    #[test]
    fn two_regions_must_agree() {
        let record = promotable();
        let concludes = |reachable, words: &[Option<ObserveAnswer>]| {
            super::concludes(&record, sight(&record, reachable, None), words)
        };
        let word = |agent_reachable, stream_alive| {
            Some(ObserveAnswer { agent_reachable, stream_alive, quiet_ms: None })
        };
        let dead = word(false, Some(false));
        let agree: [&[Option<ObserveAnswer>]; 3] = [&[dead], &[word(false, None)], &[None, dead]];
        for words in agree {
            assert_eq!(concludes(false, words), Ok(()), "{words:?}");
            assert_eq!(concludes(true, words), Err(Stay::PrimaryAnswers), "{words:?}");
        }
        for words in [&[][..], &[None, None]] {
            assert_eq!(concludes(false, words), Err(Stay::NoSecondObserver), "{words:?}");
        }
        for seen in [word(true, Some(false)), word(false, Some(true)), word(true, None)] {
            assert_eq!(concludes(false, &[dead, seen]), Err(Stay::ObserverDisagrees), "{seen:?}");
        }
    }

    #[test]
    fn a_primary_that_hangs_is_gone_by_its_own_agents_word() {
        let record = promotable();
        let closing = Record { writes: Writes::Closing, ..promotable() };
        for (quiet_ms, expected) in [
            (None, Sight::Alive),
            (Some(0), Sight::Alive),
            (Some(HANGS_MS - 1), Sight::Alive),
            (Some(HANGS_MS), Sight::Gone),
        ] {
            assert_eq!(sight(&record, true, quiet_ms), expected, "{quiet_ms:?}");
            assert_eq!(sight(&record, false, quiet_ms), Sight::Gone);
            assert_eq!(sight(&closing, true, quiet_ms), Sight::Alive, "it stops by intention");
        }
        let word = |quiet_ms, stream_alive| {
            Some(ObserveAnswer { agent_reachable: true, stream_alive, quiet_ms })
        };
        let hangs = word(Some(HANGS_MS), Some(false));
        assert_eq!(concludes(&record, Sight::Gone, &[hangs]), Ok(()));
        for sees in [word(Some(10), Some(false)), word(Some(HANGS_MS), Some(true))] {
            let disagrees = Err(Stay::ObserverDisagrees);
            assert_eq!(concludes(&record, Sight::Gone, &[hangs, sees]), disagrees, "{sees:?}");
        }
    }

    #[test]
    fn the_second_copy_is_restored_after_failovers_only() {
        let me = node("a");
        let memory = Memory { opened: Some(Epoch(2)), ..Memory::default() };
        let alone = Record {
            epoch: Epoch(2),
            beginning: Beginning::Failover,
            durability: Durability::One,
            sync_member: None,
            promotable: false,
            ..promotable()
        };
        let check = |record: &Record| {
            lacks_second_copy(&me, Durability::Two, record, Disk::Primary, &memory)
        };
        assert!(check(&alone));
        assert!(check(&Record { beginning: Beginning::Forced, ..alone.clone() }));
        let left_alone = [
            Record { promotable: true, ..alone.clone() },
            Record { degraded_by: DegradedBy::Person, ..alone.clone() },
            Record { beginning: Beginning::First, ..alone.clone() },
            Record { beginning: Beginning::Switchover, ..alone.clone() },
            Record { writes: Writes::Closing, ..alone.clone() },
            Record { writer_node: node("b"), ..alone.clone() },
            Record { epoch: Epoch(3), ..alone.clone() },
        ];
        for record in &left_alone {
            assert!(!check(record), "{record:?}");
        }
        assert!(!lacks_second_copy(&me, Durability::One, &alone, Disk::Primary, &memory));
        assert!(!lacks_second_copy(&me, Durability::Two, &alone, Disk::Standby, &memory));
    }

    #[test]
    fn a_half_made_failover_to_this_node_is_gone_on_with() {
        let (me, automatic) = (node("a"), FailoverMode::Automatic);
        let record = Record { epoch: Epoch(2), beginning: Beginning::Failover, ..promotable() };
        let open = Memory { opened: Some(Epoch(2)), ..Memory::default() };
        let closed = Memory { opened: Some(Epoch(1)), ..Memory::default() };
        assert!(is_half_promoted(&me, automatic, &record, &closed));
        assert!(!is_half_promoted(&me, automatic, &record, &open));
        assert!(!is_half_promoted(&me, FailoverMode::Manual, &record, &closed));
        assert!(!is_half_promoted(&node("b"), automatic, &record, &closed));
        let forced = Record { beginning: Beginning::Forced, ..record };
        assert!(!is_half_promoted(&me, automatic, &forced, &closed));
    }
}
