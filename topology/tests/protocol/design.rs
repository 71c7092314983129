//! The protocol as a state machine: what can happen next in a world, and what must never be.

use super::steps::{Act, Steps, perform, plan_in, rejoin};
use super::world::{Control, Lease, Node, Role, Run, Seen, World, region_id};
use domicile_topology::Topology;
use domicile_topology::plan::Intent;
use domicile_topology::record::Beginning;
use stateright::{Model, Property};
use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

/// A fault of the design, put in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Bug {
    CancelledWaitCounts,
    SyncOffBeforeRecord,
    PromotableBeforeConfirmed,
    PromotesWithoutPromotable,
    RejoinsWithoutRewind,
    StartsWithoutAsking,
    LeaseEndNotAwaited,
    DegradesWithoutEnforcement,
    LeavesLeaseBeforeItsKeySaysSo,
    WritersWithoutLeaseAreNotFenced,
    NewSessionsAreNotTold,
}

/// How much may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) writes: u8,
    pub(crate) faults: u8,
    pub(crate) plans: u8,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Happening {
    Write(Node),
    Replicate(Node),
    Acknowledge(Node, u8),
    /// The writer, and the agent, learn what the record says.
    Learn(Node),
    /// The writer learns of durability two before its key says that it answers without a lease.
    LearnEarly(Node),
    /// The writer alone is cut off from the control plane, and back.
    Deafen(Node),
    Hear(Node),
    /// The writer's sessions ask the server whether commits wait.
    Ask(Node),
    LeaseRunsOut(Node),
    LeaseKeyVanishes(Node),
    ReturnByItself(Node),
    Begin(Verb),
    Step,
    CallOff,
    Abandon,
    Part,
    Mend,
    Isolate(Node),
    Connect(Node),
    Crash(Node),
    Start(Node),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    Switchover,
    Failover,
    Forced,
    Failback,
    Restore,
    Degrade,
}

const VERBS: [Verb; 6] =
    [Verb::Switchover, Verb::Failover, Verb::Forced, Verb::Failback, Verb::Restore, Verb::Degrade];

impl Verb {
    fn intent(self, control: &Control) -> Intent {
        let to = region_id(1 - control.writer);
        let forced = |reason: Option<&str>| Intent::Failover {
            to: to.clone(),
            accept_data_loss: reason.map(str::to_owned),
            waived_readers: BTreeSet::new(),
        };
        match self {
            Self::Switchover => Intent::Switchover { to },
            Self::Failover => forced(None),
            Self::Forced => forced(Some("the model")),
            Self::Failback => Intent::Failback,
            Self::Restore => Intent::RestoreDurability,
            Self::Degrade => Intent::Degrade { reason: "the model".into() },
        }
    }
}

/// What the planner looks at in a world; equal ones give the same plan.
type PlanKey = (Verb, Control, Vec<(bool, Role, bool, bool, Option<bool>)>);

/// Every plan that was made, and which of them is made where.
#[derive(Default)]
struct Plans {
    made: Vec<Steps>,
    known: HashMap<PlanKey, Option<usize>>,
}

pub(crate) struct Protocol {
    pub(crate) bug: Option<Bug>,
    pub(crate) bounds: Bounds,
    topology: Topology,
    plans: Mutex<Plans>,
}

impl Protocol {
    pub(crate) fn new(bug: Option<Bug>, bounds: Bounds) -> Self {
        let topology = Topology::parse(include_str!("../../examples/local.toml")).unwrap();
        Self { bug, bounds, topology, plans: Mutex::default() }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The number of the plan that the planner makes here.
    fn plan(&self, world: &World, verb: Verb) -> Option<usize> {
        // The numbers of epochs and joinings do not matter, only which are the same.
        let confirms = world.control.confirms;
        let normal = Control {
            epoch: 2,
            confirms: confirms.map(|_| 0),
            beginning: Beginning::Switchover,
            ..world.control
        };
        let seen = |node: Node| {
            let region = &world.regions[node];
            let other = &world.regions[1 - node];
            let opened = region.open && region.epoch == world.control.epoch;
            let waits = region.sync.map(|join| join == other.join);
            (world.reaches(node), region.role, opened, Some(region.join) == confirms, waits)
        };
        let streams = (world.streams(0) || world.streams(1), Role::Stopped, false, false, None);
        let key = (verb, normal, vec![seen(0), seen(1), streams]);
        let mut plans = self.plans.lock().unwrap();
        if let Some(known) = plans.known.get(&key) {
            return *known;
        }
        let intent = verb.intent(&world.control);
        let steps = plan_in(world, &intent, &self.topology, self.bug);
        let number = steps.map(|steps| {
            let same = plans.made.iter().position(|known| *known == steps);
            same.unwrap_or_else(|| {
                plans.made.push(steps);
                plans.made.len() - 1
            })
        });
        plans.known.insert(key, number);
        number
    }

    fn steps(&self, run: Run) -> (Option<Act>, bool) {
        let plans = self.plans.lock().unwrap();
        let steps = &plans.made[run.plan];
        (steps.acts.get(run.at).copied(), run.at < steps.can_be_called_off)
    }

    fn of_writers(&self, world: &World, node: Node, actions: &mut Vec<Happening>) {
        let region = &world.regions[node];
        let closing = region.seen.is_some_and(|seen| seen.closing);
        if world.serves(node) && !closing && world.writes < self.bounds.writes {
            actions.push(Happening::Write(node));
        }
        for write in &region.waiting {
            let length = region.log.iter().position(|held| held == write).unwrap_or_default() + 1;
            let cancelled = self.has(Bug::CancelledWaitCounts) && world.serves(node);
            if world.may_acknowledge(node, length) || cancelled {
                actions.push(Happening::Acknowledge(node, *write));
            }
        }
        if world.reaches(node) && region.role == Role::Primary {
            actions.push(Happening::Learn(node));
            if self.has(Bug::LeavesLeaseBeforeItsKeySaysSo) {
                actions.push(Happening::LearnEarly(node));
            }
        }
        if region.unfenced && region.sync.is_some() {
            actions.push(Happening::Ask(node));
        }
        let cannot_renew = !world.reaches(node) || region.role != Role::Primary || region.deaf;
        if region.leased && cannot_renew {
            actions.push(Happening::LeaseRunsOut(node));
        }
        if !region.leased && world.leases[node].is_some() {
            actions.push(Happening::LeaseKeyVanishes(node));
        }
    }

    fn of_nodes(&self, world: &World, node: Node, actions: &mut Vec<Happening>) {
        let region = &world.regions[node];
        let source = &world.regions[1 - node];
        if world.streams(node) && source.log.len() > region.log.len() {
            actions.push(Happening::Replicate(node));
        }
        if region.up && region.role == Role::Stopped && region.leads {
            actions.push(Happening::ReturnByItself(node));
        }
        if !region.up {
            actions.push(Happening::Start(node));
        }
        if region.isolated {
            actions.push(Happening::Connect(node));
        }
        if region.deaf {
            actions.push(Happening::Hear(node));
        }
        if world.faults < self.bounds.faults {
            if region.up {
                actions.push(Happening::Crash(node));
            }
            if !region.deaf && world.serves(node) {
                actions.push(Happening::Deafen(node));
            }
            if !region.isolated {
                actions.push(Happening::Isolate(node));
            }
        }
    }

    fn begin(&self, world: &World, verb: Verb) -> Option<World> {
        let plan = self.plan(world, verb)?;
        let run = Run { plan, at: 0, end: 0, joined: 0 };
        Some(World { run: Some(run), plans: world.plans + 1, ..world.clone() })
    }

    fn step(&self, world: &World) -> Option<World> {
        let run = world.run?;
        match self.steps(run).0 {
            Some(act) => perform(world, run, act, self.bug),
            None => Some(World { run: None, ..world.clone() }),
        }
    }

    fn start(&self, world: &mut World, node: Node) {
        let (isolated, control) = (world.regions[node].isolated, world.control);
        let region = &mut world.regions[node];
        region.up = true;
        if !region.leads {
            region.role = if region.join > 0 { Role::Standby } else { Role::Stopped };
        } else if self.has(Bug::StartsWithoutAsking) {
            // From the data directory alone: it leads, waits for nobody, and its writer goes on as it was.
            (region.role, region.sync) = (Role::Primary, None);
            region.seen = Some(Seen { epoch: region.epoch, one: false, closing: false });
        } else {
            let named = control.writer == node && control.epoch == region.epoch;
            let fenced = region.sync.is_some();
            if (!isolated && named) || (isolated && fenced) {
                region.role = Role::Primary;
            }
        }
    }
}

/// The writer, and the agent beside it, act on what the record says.
fn learn(world: &mut World, node: Node) {
    let control = world.control;
    let region = &mut world.regions[node];
    if control.writer == node && control.epoch == region.epoch {
        if region.deaf {
            return;
        }
        let one = control.confirms.is_none();
        region.seen = Some(Seen { epoch: region.epoch, one, closing: control.closing });
        region.leased = true;
        world.leases[node] = Some(Lease { epoch: region.epoch, enforcing: one });
    } else {
        (region.role, region.open, region.unfenced) = (Role::Stopped, false, false);
        region.waiting.clear();
        // A writer that hears nothing keeps what it has, and its lease runs out.
        if !region.deaf {
            (region.seen, region.leased) = (None, false);
            world.leases[node] = None;
        }
    }
}

fn call_off(world: &mut World) -> Option<()> {
    let node = world.control.writer;
    if world.regions[node].role == Role::Stopped {
        (world.reaches(node)).then_some(())?;
        let region = &mut world.regions[node];
        (region.role, region.leads, region.open) = (Role::Primary, true, true);
    }
    world.control.closing = false;
    (world.run, world.called_off) = (None, true);
    Some(())
}

impl Model for Protocol {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        let by_position = self.has(Bug::RejoinsWithoutRewind);
        let worlds = [World::healthy(), World::alone(), World::restored()];
        worlds.map(|world| World { by_position, ..world }).to_vec()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Happening>) {
        for node in [0, 1] {
            self.of_writers(world, node, actions);
            self.of_nodes(world, node, actions);
        }
        if world.parted {
            actions.push(Happening::Mend);
        } else if world.faults < self.bounds.faults {
            actions.push(Happening::Part);
        }
        match world.run {
            Some(run) => {
                actions.extend([Happening::Step, Happening::Abandon]);
                if self.steps(run).1 {
                    actions.push(Happening::CallOff);
                }
            }
            None if world.plans < self.bounds.plans => {
                actions.extend(VERBS.map(Happening::Begin));
            }
            None => {}
        }
    }

    fn next_state(&self, world: &World, happening: Happening) -> Option<World> {
        let mut next = world.clone();
        match happening {
            Happening::Write(node) => {
                next.regions[node].log.push(world.writes);
                next.regions[node].waiting.push(world.writes);
                next.writes += 1;
            }
            Happening::Replicate(node) => {
                let row = world.regions[1 - node].log[world.regions[node].log.len()];
                next.regions[node].log.push(row);
            }
            Happening::Acknowledge(node, write) => {
                let region = &mut next.regions[node];
                region.waiting.retain(|waiting| *waiting != write);
                let epoch = region.epoch;
                next.acknowledged.push(write);
                next.acknowledged.sort_unstable();
                next.late = world.regions.iter().any(|other| other.open && other.epoch > epoch);
            }
            Happening::Learn(node) => learn(&mut next, node),
            Happening::LearnEarly(node) => {
                let seen = next.regions[node].seen.as_mut()?;
                seen.one = world.control.confirms.is_none();
            }
            Happening::Deafen(node) => {
                (next.regions[node].deaf, next.faults) = (true, world.faults + 1);
            }
            Happening::Hear(node) => next.regions[node].deaf = false,
            Happening::Ask(node) => next.regions[node].unfenced = false,
            Happening::LeaseRunsOut(node) => next.regions[node].leased = false,
            Happening::LeaseKeyVanishes(node) => next.leases[node] = None,
            Happening::ReturnByItself(node) => rejoin(&mut next, node, self.bug)?,
            Happening::Begin(verb) => return self.begin(world, verb),
            Happening::Step => return self.step(world),
            Happening::CallOff => call_off(&mut next)?,
            Happening::Abandon => next.run = None,
            Happening::Part => (next.parted, next.faults) = (true, world.faults + 1),
            Happening::Mend => next.parted = false,
            Happening::Isolate(node) => {
                (next.regions[node].isolated, next.faults) = (true, world.faults + 1);
            }
            Happening::Connect(node) => next.regions[node].isolated = false,
            Happening::Crash(node) => {
                next.faults += 1;
                let region = &mut next.regions[node];
                (region.up, region.role, region.leased) = (false, Role::Stopped, false);
                (region.deaf, region.unfenced) = (false, false);
                region.waiting.clear();
                region.seen = None;
            }
            Happening::Start(node) => self.start(&mut next, node),
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("every acknowledged write is on the writer", |_, world| {
                let writer = &world.regions[world.control.writer];
                // What force loses is accepted when the new writer is promoted.
                let is_settled = world.control.beginning != Beginning::Forced
                    || writer.epoch == world.control.epoch;
                !is_settled || world.acknowledged.iter().all(|write| writer.log.contains(write))
            }),
            Property::<Self>::always("at most one node acknowledges", |_, world| {
                let may = |node: Node| world.may_acknowledge(node, world.regions[node].log.len());
                !(may(0) && may(1))
            }),
            Property::<Self>::always(
                "nobody acknowledges after a later epoch opened",
                |_, world| !world.late,
            ),
            Property::<Self>::sometimes("a failover and a failback", |_, world| {
                world.moves == [Beginning::Failover, Beginning::Switchover]
                    && world.serves(0)
                    && world.control.promotable
                    && world.acknowledged.len() == usize::from(world.writes)
                    && world.writes > 1
            }),
            Property::<Self>::sometimes("a forced failover", |_, world| {
                world.moves.contains(&Beginning::Forced) && world.serves(1)
            }),
            Property::<Self>::sometimes("a degraded writer acknowledges", |_, world| {
                world.moves.is_empty()
                    && world.regions[0].sync.is_none()
                    && !world.acknowledged.is_empty()
            }),
            Property::<Self>::sometimes(
                "degraded although the writer hears nothing",
                |_, world| {
                    world.regions[0].sync.is_none() && world.regions[0].unfenced && world.serves(0)
                },
            ),
            Property::<Self>::sometimes("a switchover called off, then made", |_, world| {
                world.called_off && world.moves == [Beginning::Switchover] && world.serves(1)
            }),
        ]
    }
}
