//! The control record: what it may say and how it may change.

use domicile_core::epoch::Epoch;
use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::document::Durability;
use domicile_topology::record::{Beginning, DegradedBy, RecordFault, Writes};
use domicile_topology::{JoinId, Member, Record};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn member(node: &str, join: u64) -> Member {
    Member { node: NodeId::parse(node).unwrap(), join_id: JoinId::from_random(join) }
}

fn one() -> Record {
    let (region, node) = (RegionId::parse("mt-1").unwrap(), NodeId::parse("ledger-mt").unwrap());
    Record::first(region, node, 1)
}

fn two() -> Record {
    Record { durability: Durability::Two, sync_member: Some(member("ledger-de", 1)), ..one() }
}

fn promotable() -> Record {
    Record { promotable: true, ..two() }
}

fn promoted() -> Record {
    Record {
        epoch: Epoch(2),
        writer_region: RegionId::parse("de-1").unwrap(),
        writer_node: NodeId::parse("ledger-de").unwrap(),
        beginning: Beginning::Failover,
        ..one()
    }
}

fn forced() -> Record {
    Record { beginning: Beginning::Forced, ..promoted() }
}

fn waiving(reader: &str, record: Record) -> Record {
    Record { waived_readers: BTreeSet::from([NodeId::parse(reader).unwrap()]), ..record }
}

fn chosen(record: Record) -> Record {
    Record { degraded_by: DegradedBy::Person, ..record }
}

#[test]
fn a_record_is_consistent() {
    for sound in [one(), two(), promotable(), promoted()] {
        assert_eq!(sound.check(), Ok(()));
    }
    let cases = [
        (Record { epoch: Epoch(0), ..one() }, RecordFault::EpochZero),
        (Record { sync_member: None, ..two() }, RecordFault::TwoWithoutMember),
        (Record { promotable: true, ..one() }, RecordFault::PromotableInOne),
        (
            Record { sync_member: Some(member("ledger-mt", 1)), ..two() },
            RecordFault::MemberIsWriter,
        ),
        (Record { beginning: Beginning::First, ..promoted() }, RecordFault::BeginningMismatch),
        (Record { beginning: Beginning::Forced, ..one() }, RecordFault::BeginningMismatch),
        (waiving("reader-mt", one()), RecordFault::WaiverMisplaced),
        (chosen(two()), RecordFault::ChoiceMisplaced),
    ];
    for (record, fault) in cases {
        assert_eq!(record.check(), Err(fault));
    }
}

#[test]
fn a_persons_choice_of_one_copy_ends_with_two_or_with_the_epoch() {
    for next in [two(), forced(), chosen(one())] {
        assert_eq!(chosen(one()).allows(&next), Ok(()), "{next:#?}");
    }
    assert_eq!(two().allows(&chosen(one())), Ok(()));
    assert_eq!(chosen(one()).allows(&one()), Err(RecordFault::ChoiceUndone));
    assert_eq!(one().allows(&chosen(forced())), Err(RecordFault::ChoiceMisplaced));
    let written = serde_json::to_string(&promoted()).unwrap();
    assert!(!written.contains("degraded_by"), "older programs read it: {written}");
}

#[test]
fn a_reader_is_waived_within_an_epoch_and_stays_waived() {
    let waived = waiving("reader-mt", promoted());
    assert_eq!(promoted().allows(&waived), Ok(()));
    assert_eq!(waived.allows(&promoted()), Err(RecordFault::WaiverMisplaced));
    assert_eq!(promotable().allows(&waived), Err(RecordFault::WaiverMisplaced), "not on the way");
}

#[test]
fn redundancy_is_built_and_taken_down_in_order() {
    let steps = [one(), two(), promotable(), two(), one(), forced()];
    for pair in steps.windows(2) {
        assert_eq!(pair[0].allows(&pair[1]), Ok(()), "{pair:#?}");
    }
    assert_eq!(promotable().allows(&promoted()), Ok(()));
    let other_member = Record { sync_member: Some(member("ledger-de", 2)), ..two() };
    let other_writer = Record { writer_node: NodeId::parse("ledger-xx").unwrap(), ..one() };
    let cases = [
        (one(), promotable(), RecordFault::PromotableTooEarly),
        (promotable(), one(), RecordFault::PromotableNotCleared),
        (promotable(), other_member.clone(), RecordFault::PromotableNotCleared),
        (two(), Record { promotable: true, ..other_member }, RecordFault::PromotableTooEarly),
        (one(), other_writer, RecordFault::WriterWithoutEpoch),
        (promoted(), one(), RecordFault::GoesBack),
        (one(), Record { topology_generation: 0, ..one() }, RecordFault::GoesBack),
        (two(), Record { epoch: Epoch(3), ..promoted() }, RecordFault::EpochSkips),
        (
            two(),
            Record {
                promotable: true,
                sync_member: Some(member("ledger-mt", 7)),
                durability: Durability::Two,
                ..promoted()
            },
            RecordFault::NewEpochPromotable,
        ),
    ];
    for (present, next, fault) in cases {
        assert_eq!(present.allows(&next), Err(fault), "{present:#?} -> {next:#?}");
    }
}

#[test]
fn the_writer_moves_to_the_promotable_member_or_by_force() {
    let closing = Record { writes: Writes::Closing, ..promotable() };
    let switched = Record {
        beginning: Beginning::Switchover,
        durability: Durability::Two,
        sync_member: Some(member("ledger-mt", 9)),
        ..promoted()
    };
    assert_eq!(promotable().allows(&closing), Ok(()));
    assert_eq!(closing.allows(&promotable()), Ok(()), "a switchover can be called off");
    assert_eq!(closing.allows(&switched), Ok(()));
    assert_eq!(closing.allows(&promoted()), Ok(()), "the writer's region dies while it closes");
    assert_eq!(two().allows(&forced()), Ok(()));
    assert_eq!(forced().allows(&waiving("reader-mt", forced())), Ok(()));
    let elsewhere = Record { writer_node: NodeId::parse("ledger-xx").unwrap(), ..promoted() };
    let cases = [
        (promotable(), switched.clone(), RecordFault::WritesNotClosing),
        (two(), promoted(), RecordFault::NotPromotable),
        (promotable(), elsewhere, RecordFault::NotPromotable),
        (
            closing.clone(),
            Record { writes: Writes::Closing, ..switched },
            RecordFault::NewEpochClosing,
        ),
        (promoted(), forced(), RecordFault::BeginningMismatch),
        (waiving("reader-mt", forced()), forced(), RecordFault::WaiverMisplaced),
    ];
    for (present, next, fault) in cases {
        assert_eq!(present.allows(&next), Err(fault), "{present:#?} -> {next:#?}");
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let nodes = prop_oneof![Just("ledger-mt"), Just("ledger-de")];
    let members = proptest::option::of((nodes.clone(), 0..3_u64));
    let beginnings = prop_oneof![
        Just(Beginning::First),
        Just(Beginning::Switchover),
        Just(Beginning::Failover),
        Just(Beginning::Forced)
    ];
    let writes = prop_oneof![Just(Writes::Open), Just(Writes::Closing)];
    (0..4_u64, nodes, any::<bool>(), members, any::<bool>(), beginnings, writes).prop_map(
        |(epoch, writer, is_two, joined, promotable, beginning, writes)| Record {
            epoch: Epoch(epoch),
            beginning,
            writes,
            writer_node: NodeId::parse(writer).unwrap(),
            durability: if is_two { Durability::Two } else { Durability::One },
            sync_member: joined.map(|(node, join)| member(node, join)),
            promotable,
            ..one()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_allowed_change_skips_a_step(present in any_record(), next in any_record()) {
        if present.check().is_err() || present.allows(&next).is_err() {
            return Ok(());
        }
        prop_assert!(next.check().is_ok());
        prop_assert!(next.epoch >= present.epoch && next.epoch.0 - present.epoch.0 <= 1);
        if next.epoch == present.epoch {
            prop_assert_eq!(&next.writer_node, &present.writer_node);
            // Who may be promoted is always somebody whom the record before already waited for.
            if next.promotable {
                prop_assert_eq!(present.durability, Durability::Two);
                prop_assert_eq!(&next.sync_member, &present.sync_member);
            }
            // The wait is never turned off, nor turned to somebody else, under a promotable standby.
            if present.promotable {
                prop_assert_eq!(next.durability, Durability::Two);
                prop_assert_eq!(&next.sync_member, &present.sync_member);
            }
        } else {
            prop_assert!(!next.promotable);
            // Without force, the writer goes to whom acknowledged writes waited for, and to nobody else.
            if next.beginning != Beginning::Forced {
                prop_assert!(present.promotable);
                let member = present.sync_member.as_ref().map(|member| &member.node);
                prop_assert_eq!(member, Some(&next.writer_node));
            }
        }
    }

    #[test]
    fn a_record_survives_json(record in any_record()) {
        let json = serde_json::to_string(&record).unwrap();
        prop_assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }
}
