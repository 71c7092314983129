//! The steps of plans as the planner emits them, and what each does to the world.
//!
//! A plan is made by the real planner from facts that the world's state gives; steps that serve speed or readers have
//! no effect here and are left out. A change of the record happens only if the real record allows it.

use super::design::Bug;
use super::world::{Control, Node, Role, Run, World, member_of, node_id, node_of, region_id};
use domicile_core::epoch::{Epoch, Lsn};
use domicile_topology::document::Durability;
use domicile_topology::lease::WriterLease;
use domicile_topology::observed::{
    NodeKind, NodeStatus, PostgresState, PostgresStatus, StandbyStatus,
};
use domicile_topology::plan::{Action, Fact, Facts, Intent, PlanIds, RecordChange, Undo, plan};
use domicile_topology::record::Beginning;
use domicile_topology::{JoinId, Topology};
use std::collections::BTreeMap;

/// A step of a plan, with what the world knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    Close,
    Open,
    ClearPromotable,
    SetPromotable,
    /// Durability two, with the member that the sync step observed.
    Two,
    One,
    /// The node becomes the writer; after a switchover the other confirms.
    NewEpoch(Node, Beginning),
    Demote(Node),
    AwaitReplay(Node),
    AwaitLeaseEnd,
    AwaitLeaseEnforced(Node),
    Promote(Node),
    Rejoin(Node),
    Sync(Node),
    /// The second half of a sync step: the standby has confirmed what was written when the wait began.
    Confirmed(Node),
    SyncOff(Node),
    OpenEpoch(Node),
}

/// A plan's steps; those before the last `can_be_called_off` can be undone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Steps {
    pub(crate) acts: Vec<Act>,
    pub(crate) can_be_called_off: usize,
}

/// The plan that the planner makes in this world, if it makes one.
pub(crate) fn plan_in(
    world: &World,
    intent: &Intent,
    topology: &Topology,
    bug: Option<Bug>,
) -> Option<Steps> {
    let ids = PlanIds { plan: "model".into(), join: JoinId::from_random(0) };
    let mut facts = facts(world, topology);
    if bug == Some(Bug::PromotesWithoutPromotable) {
        let other = 1 - world.control.writer;
        facts.record.promotable = true;
        facts.record.durability = Durability::Two;
        facts.record.sync_member = Some(member_of(other, world.regions[other].join));
    }
    let plan = plan(&facts, intent, ids).ok()?;
    let mut steps = Steps { acts: Vec::new(), can_be_called_off: 0 };
    for step in &plan.steps {
        steps.acts.extend(acts(&step.action));
        if step.on_failure == Undo::CallOff {
            steps.can_be_called_off = steps.acts.len();
        }
    }
    let drop = |acts: &mut Vec<Act>, dropped: fn(&Act) -> bool| acts.retain(|act| !dropped(act));
    match bug {
        Some(Bug::PromotableBeforeConfirmed) => {
            drop(&mut steps.acts, |act| matches!(act, Act::Confirmed(_)));
        }
        Some(Bug::LeaseEndNotAwaited) => drop(&mut steps.acts, |act| *act == Act::AwaitLeaseEnd),
        Some(Bug::DegradesWithoutEnforcement) => {
            drop(&mut steps.acts, |act| matches!(act, Act::AwaitLeaseEnforced(_)));
        }
        Some(Bug::SyncOffBeforeRecord) => {
            steps.acts.sort_by_key(|act| !matches!(act, Act::SyncOff(_)));
        }
        _ => {}
    }
    Some(steps)
}

fn acts(action: &Action) -> Vec<Act> {
    let act = match action {
        Action::Record { change } => match change {
            RecordChange::CloseWrites => Act::Close,
            RecordChange::OpenWrites => Act::Open,
            // The log gate is no part of this model.
            RecordChange::WaiveReader { .. } => return Vec::new(),
            RecordChange::ClearPromotable => Act::ClearPromotable,
            RecordChange::SetPromotable => Act::SetPromotable,
            RecordChange::SetDurability { durability: Durability::Two, .. } => Act::Two,
            RecordChange::SetDurability { durability: Durability::One, .. } => Act::One,
            RecordChange::NewEpoch { node, beginning, .. } => {
                Act::NewEpoch(node_of(node), *beginning)
            }
        },
        Action::Demote { node, .. } => Act::Demote(node_of(node)),
        Action::AwaitReplay { node, .. } => Act::AwaitReplay(node_of(node)),
        Action::AwaitLeaseEnd { .. } => Act::AwaitLeaseEnd,
        Action::AwaitLeaseEnforced { region, .. } => {
            Act::AwaitLeaseEnforced(usize::from(*region != region_id(0)))
        }
        Action::Promote { node, .. } => Act::Promote(node_of(node)),
        Action::Rejoin { node } => Act::Rejoin(node_of(node)),
        Action::Sync { node, .. } => {
            return vec![Act::Sync(node_of(node)), Act::Confirmed(node_of(node))];
        }
        Action::SyncOff { node } => Act::SyncOff(node_of(node)),
        Action::OpenEpoch { node, .. } => Act::OpenEpoch(node_of(node)),
        Action::Checkpoint { .. }
        | Action::Slot { .. }
        | Action::AwaitWriter { .. }
        | Action::AwaitSlots { .. }
        | Action::Subscriptions { .. }
        | Action::DropSlots { .. } => return Vec::new(),
    };
    vec![act]
}

/// What observers of this world would report. Readers do not answer; no plan here depends on them.
fn facts(world: &World, topology: &Topology) -> Facts {
    let fact = |node: Node| {
        let status = world.reaches(node).then(|| status(world, node));
        (node_id(node), Fact { status, age_ms: 0, error: None })
    };
    let lease = |node: Node| {
        world.leases[node].map(|lease| WriterLease {
            node: node_id(node),
            region: region_id(node),
            epoch: Epoch(lease.epoch.into()),
            enforcing: lease.enforcing,
        })
    };
    Facts {
        topology: topology.clone(),
        record: world.control.record(),
        record_revision: 1,
        nodes: [0, 1].map(fact).into_iter().collect(),
        leases: [0, 1].into_iter().filter_map(lease).collect(),
    }
}

fn status(world: &World, node: Node) -> NodeStatus {
    let region = &world.regions[node];
    let other = &world.regions[1 - node];
    let is_standby = region.role == Role::Standby;
    let position = Some(Lsn(u64::try_from(region.log.len()).unwrap()));
    let streams = world.streams(1 - node).then(|| StandbyStatus {
        name: String::new(),
        member: Some(member_of(1 - node, other.join)),
        state: "streaming".into(),
        sync_state: if region.sync == Some(other.join) { "sync" } else { "async" }.into(),
        flush_lsn: None,
        lag_bytes: Some(0),
        lag_ms: None,
    });
    NodeStatus {
        node: node_id(node),
        region: region_id(node),
        kind: NodeKind::Ledger,
        postgres: PostgresStatus {
            state: match region.role {
                Role::Stopped => PostgresState::Stopped,
                Role::Primary => PostgresState::Primary,
                Role::Standby => PostgresState::Standby,
            },
            version: None,
            system_identifier: None,
            timeline: None,
            lsn: position,
            replay_lsn: position,
            receiving: is_standby.then(|| world.streams(node)),
            member: is_standby.then(|| member_of(node, region.join)),
            source: is_standby.then(|| node_id(1 - node)),
            silence_ms: None,
            writer_sessions: None,
            sync_member: region.sync.map(|join| member_of(1 - node, join)),
            sync_waiters: None,
            restarts: 0,
            refusal: None,
            stalled: Vec::new(),
        },
        replication: streams.into_iter().collect(),
        slots: Vec::new(),
        subscriptions: Vec::new(),
        epoch_open: region.open.then(|| Epoch(region.epoch.into())),
        probe: None,
        log: BTreeMap::new(),
        schema_version: None,
    }
}

/// The world after the step, if it can be done now.
pub(crate) fn perform(world: &World, run: Run, act: Act, bug: Option<Bug>) -> Option<World> {
    let mut next = world.clone();
    let mut control = world.control;
    let mut now = Run { at: run.at + 1, ..run };
    match act {
        Act::Close => control.closing = true,
        Act::Open => control.closing = false,
        Act::ClearPromotable => control.promotable = false,
        Act::SetPromotable => control.promotable = true,
        Act::Two => control.confirms = Some(run.joined),
        Act::One => control.confirms = None,
        Act::NewEpoch(node, beginning) => control = new_epoch(&mut next, node, beginning),
        Act::Demote(node) => now.end = demote(&mut next, node)?,
        Act::AwaitReplay(node) => {
            (world.regions[node].log.len() >= run.end).then_some(())?;
        }
        Act::AwaitLeaseEnd => {
            let mut older = world.leases.iter().flatten().filter(|l| l.epoch < control.epoch);
            older.next().is_none().then_some(())?;
        }
        Act::AwaitLeaseEnforced(node) => {
            let holds =
                |lease: super::world::Lease| lease.enforcing && lease.epoch == control.epoch;
            world.leases[node].is_none_or(holds).then_some(())?;
        }
        Act::Promote(node) => promote(&mut next, node)?,
        Act::Rejoin(node) => rejoin(&mut next, node, bug)?,
        Act::Sync(node) => {
            let is_primary = world.reaches(node) && world.regions[node].role == Role::Primary;
            (is_primary && world.streams(1 - node)).then_some(())?;
            now.joined = world.regions[1 - node].join;
            next.regions[node].sync = Some(now.joined);
        }
        Act::Confirmed(node) => {
            let length = world.regions[node].log.len();
            world.confirmed(node, length).then_some(())?;
        }
        Act::SyncOff(node) => {
            let relies = control.confirms.is_some() && bug != Some(Bug::SyncOffBeforeRecord);
            (world.reaches(node) && !relies).then_some(())?;
            sync_off(&mut next, node, bug);
        }
        Act::OpenEpoch(node) => {
            let region = &world.regions[node];
            let is_primary = world.reaches(node) && region.role == Role::Primary;
            let is_named = region.epoch == control.epoch && control.writer == node;
            (is_primary && is_named && world.confirmed(node, region.log.len())).then_some(())?;
            next.regions[node].open = true;
        }
    }
    if control != world.control {
        let is_allowed = world.control.record().allows(&control.record()).is_ok()
            || bug == Some(Bug::PromotesWithoutPromotable);
        is_allowed.then_some(())?;
        next.control = control;
    }
    next.run = Some(now);
    Some(next)
}

/// Who does not answer under a lease loses its sessions first; what it opens then is told that commits wait for nobody.
fn sync_off(world: &mut World, node: Node, bug: Option<Bug>) {
    let is_leased = world.leases[node]
        .is_some_and(|lease| lease.enforcing && lease.epoch == world.control.epoch);
    let region = &mut world.regions[node];
    let without = [
        Bug::WritersWithoutLeaseAreNotFenced,
        Bug::DegradesWithoutEnforcement,
        Bug::SyncOffBeforeRecord,
    ];
    if !is_leased && !bug.is_some_and(|bug| without.contains(&bug)) {
        region.waiting.clear();
        region.unfenced = bug != Some(Bug::NewSessionsAreNotTold);
    }
    region.sync = None;
}

fn new_epoch(world: &mut World, node: Node, beginning: Beginning) -> Control {
    world.moves.push(beginning);
    let demoted = world.regions[1 - node].join;
    Control {
        epoch: world.control.epoch + 1,
        writer: node,
        confirms: (beginning == Beginning::Switchover).then_some(demoted),
        promotable: false,
        closing: false,
        beginning,
    }
}

/// Drains and stops the primary; how much it had written.
fn demote(world: &mut World, node: Node) -> Option<usize> {
    let (reaches, control) = (world.reaches(node), world.control);
    let region = &mut world.regions[node];
    // Of a writer that says nothing the sessions are ended.
    let closed =
        region.deaf || region.seen.is_none_or(|seen| seen.closing) && region.waiting.is_empty();
    let may = region.role == Role::Primary && control.writer == node && control.closing;
    (reaches && may && closed).then_some(())?;
    world.joins += 1;
    (region.role, region.leads, region.open) = (Role::Stopped, false, false);
    (region.join, region.unfenced) = (world.joins, false);
    region.waiting.clear();
    if !region.deaf {
        region.seen = None;
    }
    Some(region.log.len())
}

/// The agent's own check comes first: the record names it, and its own joining is what the record was about.
fn promote(world: &mut World, node: Node) -> Option<()> {
    let control = world.control;
    let may = world.reaches(node) && world.regions[node].role == Role::Standby;
    (may && control.writer == node).then_some(())?;
    let region = &mut world.regions[node];
    (region.role, region.leads, region.open) = (Role::Primary, true, false);
    (region.epoch, region.sync, region.seen) = (control.epoch, control.confirms, None);
    region.unfenced = false;
    if control.beginning == Beginning::Forced {
        // The accepted loss: what the former writer acknowledged alone until now.
        let log = region.log.clone();
        world.acknowledged.retain(|write| log.contains(write));
    }
    Some(())
}

/// A node starts as it is if its history is the writer's; else what only it has is taken away first.
pub(crate) fn rejoin(world: &mut World, node: Node, bug: Option<Bug>) -> Option<()> {
    let control = world.control;
    (world.reaches(node) && control.writer != node).then_some(())?;
    let source = world.regions[1 - node].clone();
    let is_ahead = !source.log.starts_with(&world.regions[node].log);
    if world.regions[node].leads || is_ahead {
        (world.linked() && source.role == Role::Primary).then_some(())?;
        world.joins += 1;
        let region = &mut world.regions[node];
        region.join = world.joins;
        if bug != Some(Bug::RejoinsWithoutRewind) {
            let common = region.log.iter().zip(&source.log).take_while(|(own, its)| own == its);
            let length = common.count();
            region.log.truncate(length);
        }
    }
    let region = &mut world.regions[node];
    (region.role, region.leads, region.open) = (Role::Standby, false, false);
    region.waiting.clear();
    (region.seen, region.unfenced) = (None, false);
    Some(())
}
