//! Situations to plan from: the local example's cluster, and what may go wrong with it.

use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{NodeId, RegionId};
use domicile_topology::agent_api::subscription_name;
use domicile_topology::document::Durability;
use domicile_topology::lease::WriterLease;
use domicile_topology::observed::{
    NodeKind, NodeStatus, PostgresState, PostgresStatus, SlotStatus, StandbyStatus,
};
use domicile_topology::plan::{Action, Fact, Facts, Intent, Plan, PlanIds, RecordChange, Refusal};
use domicile_topology::record::{Beginning, DegradedBy};
use domicile_topology::{JoinId, Member, Record, Topology};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

pub(crate) fn region(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

pub(crate) fn member(name: &str, join: u64) -> Member {
    Member { node: node(name), join_id: JoinId::from_random(join) }
}

pub(crate) fn topology() -> Topology {
    Topology::parse(include_str!("../../../examples/local.toml")).unwrap()
}

fn postgres(state: PostgresState) -> PostgresStatus {
    PostgresStatus {
        state,
        version: None,
        system_identifier: None,
        timeline: Some(1),
        lsn: Some(Lsn(5_000)),
        replay_lsn: None,
        receiving: None,
        member: None,
        source: None,
        silence_ms: None,
        writer_sessions: None,
        sync_member: None,
        sync_waiters: None,
        restarts: 0,
        refusal: None,
        stalled: Vec::new(),
    }
}

fn status(name: &str, kind: NodeKind, postgres: PostgresStatus) -> NodeStatus {
    NodeStatus {
        node: node(name),
        region: region(if name.ends_with("mt") { "mt-1" } else { "de-1" }),
        kind,
        postgres,
        replication: Vec::new(),
        slots: Vec::new(),
        subscriptions: Vec::new(),
        epoch_open: None,
        probe: None,
        log: BTreeMap::new(),
        schema_version: Some(1),
    }
}

fn slots(topology: &Topology) -> Vec<SlotStatus> {
    let named = |reader: &domicile_topology::document::ReaderNode| {
        let names = reader.jurisdictions.iter().map(|code| subscription_name(&reader.node, code));
        names.collect::<Vec<_>>()
    };
    let slot = |name| SlotStatus {
        name,
        synced: true,
        temporary: false,
        invalidation_reason: None,
        active: false,
        confirmed_flush_lsn: Some(Lsn(5_000)),
        lag_bytes: Some(0),
        ready: true,
    };
    topology.readers.iter().flat_map(named).map(slot).collect()
}

fn fact(status: NodeStatus) -> (NodeId, Fact) {
    (status.node.clone(), Fact { status: Some(status), age_ms: 10, error: None })
}

/// Malta writes in epoch 4, Germany confirms and is promotable, all three readers follow.
pub(crate) fn healthy() -> Facts {
    let topology = topology();
    let confirming = member("ledger-de", 7);
    let record = Record {
        epoch: Epoch(4),
        durability: Durability::Two,
        sync_member: Some(confirming.clone()),
        promotable: true,
        beginning: Beginning::Switchover,
        ..Record::first(region("mt-1"), node("ledger-mt"), 1)
    };
    let mut primary = status("ledger-mt", NodeKind::Ledger, postgres(PostgresState::Primary));
    primary.epoch_open = Some(Epoch(4));
    primary.postgres.sync_member = Some(confirming.clone());
    primary.slots = slots(&topology);
    primary.replication.push(StandbyStatus {
        name: confirming.replication_name(),
        member: Some(confirming.clone()),
        state: "streaming".into(),
        sync_state: "sync".into(),
        flush_lsn: Some(Lsn(5_000)),
        lag_bytes: Some(0),
        lag_ms: None,
    });
    let mut standby = status("ledger-de", NodeKind::Ledger, postgres(PostgresState::Standby));
    standby.postgres = PostgresStatus {
        replay_lsn: Some(Lsn(5_000)),
        receiving: Some(true),
        member: Some(confirming),
        source: Some(node("ledger-mt")),
        ..standby.postgres
    };
    standby.slots = slots(&topology);
    let readers = ["reader-mt", "reader-de", "reader-gb"]
        .map(|name| fact(status(name, NodeKind::Reader, postgres(PostgresState::Primary))));
    let lease = WriterLease {
        node: node("writer-mt"),
        region: region("mt-1"),
        epoch: Epoch(4),
        enforcing: false,
    };
    Facts {
        topology,
        record,
        record_revision: 42,
        nodes: readers.into_iter().chain([fact(primary), fact(standby)]).collect(),
        leases: vec![lease],
    }
}

/// The same after a failover: Germany writes alone, with one copy, and Malta is back with what it was.
pub(crate) fn alone() -> Facts {
    let mut facts = healthy();
    facts.record = Record {
        epoch: Epoch(5),
        writer_region: region("de-1"),
        writer_node: node("ledger-de"),
        durability: Durability::One,
        sync_member: None,
        promotable: false,
        beginning: Beginning::Failover,
        ..facts.record
    };
    let mut primary = status("ledger-de", NodeKind::Ledger, postgres(PostgresState::Primary));
    primary.epoch_open = Some(Epoch(5));
    primary.slots = slots(&facts.topology);
    let returned = status("ledger-mt", NodeKind::Ledger, postgres(PostgresState::Stopped));
    facts.nodes.extend([fact(primary), fact(returned)]);
    facts
}

impl Change for Facts {}

/// What may go wrong with a situation.
pub(crate) trait Change: Into<Facts> {
    fn with(self, change: impl FnOnce(&mut Facts)) -> Facts {
        let mut facts = self.into();
        change(&mut facts);
        facts
    }

    fn silent(self, name: &str) -> Facts {
        self.with(|facts| {
            let fact = facts.nodes.get_mut(&node(name)).unwrap();
            *fact = Fact { status: None, age_ms: 0, error: Some("connection refused".into()) };
        })
    }

    fn status(self, name: &str, change: impl FnOnce(&mut NodeStatus)) -> Facts {
        self.with(|facts| {
            change(facts.nodes.get_mut(&node(name)).unwrap().status.as_mut().unwrap());
        })
    }

    fn record(self, change: impl FnOnce(&mut Record)) -> Facts {
        self.with(|facts| change(&mut facts.record))
    }

    fn stopped(self, name: &str) -> Facts {
        self.status(name, |status| status.postgres = postgres(PostgresState::Stopped))
    }
}

/// A person has chosen that one copy is enough.
pub(crate) fn degraded() -> Facts {
    healthy().record(|record| {
        record.promotable = false;
        record.durability = Durability::One;
        record.sync_member = None;
        record.degraded_by = DegradedBy::Person;
    })
}

pub(crate) fn plan(facts: &Facts, intent: &Intent) -> Result<Plan, Refusal> {
    let ids = PlanIds { plan: "a-plan".into(), join: JoinId::from_random(99) };
    domicile_topology::plan::plan(facts, intent, ids)
}

pub(crate) fn switchover(to: &str) -> Intent {
    Intent::Switchover { to: region(to) }
}

pub(crate) fn failover(to: &str, accept: Option<&str>) -> Intent {
    Intent::Failover {
        to: region(to),
        accept_data_loss: accept.map(str::to_owned),
        waived_readers: BTreeSet::new(),
    }
}

/// A step in few words: what is done, and where.
pub(crate) fn short(action: &Action) -> String {
    match action {
        Action::Record { change } => match change {
            RecordChange::SetDurability { durability: Durability::One, .. } => "record one".into(),
            RecordChange::SetDurability { standby, .. } => {
                format!("record two {}", standby.as_ref().unwrap())
            }
            RecordChange::NewEpoch { epoch, node, beginning, .. } => {
                format!("record epoch {epoch} {node} {beginning:?}")
            }
            other => format!("record {other:?}"),
        },
        Action::Checkpoint { node } => format!("checkpoint {node}"),
        Action::Slot { node, member } => format!("slot {} {node}", member.node),
        Action::Demote { node, .. } => format!("demote {node}"),
        Action::AwaitReplay { node, .. } => format!("await replay {node}"),
        Action::AwaitLeaseEnd { epoch } => format!("await lease end {epoch}"),
        Action::AwaitLeaseEnforced { region, .. } => format!("await lease enforced {region}"),
        Action::Promote { node, .. } => format!("promote {node}"),
        Action::Rejoin { node } => format!("rejoin {node}"),
        Action::Sync { node, standby } => format!("sync {node} {standby}"),
        Action::SyncOff { node } => format!("sync off {node}"),
        Action::OpenEpoch { node, .. } => format!("open epoch {node}"),
        Action::AwaitWriter { region, .. } => format!("await writer {region}"),
        Action::AwaitSlots { standby, .. } => format!("await slots {standby}"),
        Action::Subscriptions { node, reseed } if reseed.is_empty() => format!("follow {node}"),
        Action::Subscriptions { node, reseed } => format!("reseed {node} {}", reseed.len()),
        Action::DropSlots { reader, .. } => format!("drop slots {reader}"),
    }
}

/// The plan's steps in few words; a refusal's codes, after `refused`.
pub(crate) fn outline(result: &Result<Plan, Refusal>) -> Vec<String> {
    match result {
        Ok(plan) => plan.steps.iter().map(|step| short(&step.action)).collect(),
        Err(refusal) => {
            assert_eq!(refusal.code, refusal.missing[0].code);
            let codes = refusal.missing.iter().map(|missing| missing.code.to_string());
            std::iter::once("refused".to_owned()).chain(codes).collect()
        }
    }
}

/// Each situation leads to these steps, or to this refusal.
pub(crate) fn assert_outlines(intent: &Intent, cases: Vec<(&str, Facts, &[&str])>) {
    for (situation, facts, expected) in cases {
        let result = plan(&facts, intent);
        assert_eq!(outline(&result), expected, "{situation}: {result:#?}");
    }
}
