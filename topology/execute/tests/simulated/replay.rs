//! What the protocol's model does, done by the executor: verbs and cuts in random order, drawn anew from each seed, on the model
//! and on the simulated world side by side. After each, both must say the same of the record and of the two nodes.
//!
//! The model makes a plan's steps one by one, with what writers and agents do by themselves in between as soon as they can;
//! the executor runs the planner's plan for the world it sees. Deliberately absent: crashes of nodes, which the simulated
//! world does not have, and a return without being asked, which is the agents'.

use crate::cluster::{node, region};
use crate::model::design::{Bounds, Happening, Protocol, Verb};
use crate::model::world::World;
use crate::scenario::{Stage, Start, in_virtual_time, start};
use domicile_core::epoch::Epoch;
use domicile_execute::Outcome;
use domicile_topology::document::Durability;
use domicile_topology::plan::Intent;
use domicile_topology::record::{Beginning, Writes};
use stateright::Model as _;
use std::collections::BTreeSet;

const SEEDS: u64 = 300;
const MOVES: usize = 8;
/// More than any plan's steps and what happens between them.
const MAX_HAPPENINGS: usize = 400;
const NODES: [&str; 2] = ["ledger-mt", "ledger-de"];
const REGIONS: [&str; 2] = ["mt-1", "de-1"];
/// The epoch that the simulated world starts in, before the model's first.
const EPOCHS_BEFORE: u64 = 3;

/// One thing done to both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    Verb(Verb),
    Cut(usize),
    Mend(usize),
}

const MOVES_TO_DRAW: [Move; 10] = [
    Move::Verb(Verb::Switchover),
    Move::Verb(Verb::Failover),
    Move::Verb(Verb::Forced),
    Move::Verb(Verb::Failback),
    Move::Verb(Verb::Restore),
    Move::Verb(Verb::Degrade),
    Move::Cut(0),
    Move::Cut(1),
    Move::Mend(0),
    Move::Mend(1),
];

/// What is compared.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    epoch: u64,
    writer: usize,
    two: bool,
    promotable: bool,
    closing: bool,
    beginning: Beginning,
    /// The record's node is primary, its epoch open.
    leads: bool,
    /// The other one streams from it.
    streams: bool,
}

fn of_model(world: &World) -> Seen {
    let control = world.control;
    let region = &world.regions[control.writer];
    let leads = region.role == crate::model::world::Role::Primary
        && region.open
        && region.epoch == control.epoch;
    Seen {
        epoch: control.epoch.into(),
        writer: control.writer,
        two: control.confirms.is_some(),
        promotable: control.promotable,
        closing: control.closing,
        beginning: control.beginning,
        leads,
        streams: world.streams(1 - control.writer),
    }
}

fn of_simulation(stage: &Stage) -> Seen {
    let mut cluster = stage.cluster.lock().unwrap();
    cluster.tick();
    let record = cluster.record().clone();
    let writer = NODES.iter().position(|name| *name == record.writer_node.as_str()).unwrap();
    let other = node(NODES[1 - writer]);
    let ledger = &cluster.ledgers[&record.writer_node];
    let epoch = record.epoch.0 - EPOCHS_BEFORE;
    Seen {
        epoch,
        writer,
        two: record.durability == Durability::Two,
        promotable: record.promotable,
        closing: record.writes == Writes::Closing,
        beginning: if epoch == 1 { Beginning::First } else { record.beginning },
        leads: ledger.runs && ledger.is_primary && ledger.epoch_open == Some(Epoch(record.epoch.0)),
        streams: cluster.streams(&other, &record.writer_node),
    }
}

/// Whether writers, agents and streams do this by themselves, as soon as they can.
fn happens_by_itself(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Replicate(_)
            | Happening::Learn(_)
            | Happening::Ask(_)
            | Happening::LeaseRunsOut(_)
            | Happening::LeaseKeyVanishes(_)
    )
}

/// Everything that happens by itself, and the plan under way to its end. `None` where the plan cannot end.
fn settle(model: &Protocol, mut world: World) -> Option<World> {
    for _ in 0..MAX_HAPPENINGS {
        let mut happenings = Vec::new();
        model.actions(&world, &mut happenings);
        happenings.retain(happens_by_itself);
        if world.run.is_some() {
            happenings.push(Happening::Step);
        }
        let next = happenings.into_iter().find_map(|next| model.next_state(&world, next));
        match next {
            Some(next) => world = next,
            None => return world.run.is_none().then_some(world),
        }
    }
    panic!("the model does not come to rest");
}

fn intent(verb: Verb, world: &World) -> Intent {
    let to = region(REGIONS[1 - world.control.writer]);
    let failover = |reason: Option<&str>| Intent::Failover {
        to: to.clone(),
        accept_data_loss: reason.map(str::to_owned),
        waived_readers: BTreeSet::new(),
    };
    match verb {
        Verb::Switchover => Intent::Switchover { to },
        Verb::Failover => failover(None),
        Verb::Forced => failover(Some("the model")),
        Verb::Failback => Intent::Failback,
        Verb::Restore => Intent::RestoreDurability,
        Verb::Degrade => Intent::Degrade { reason: "the model".into() },
    }
}

/// The model after the move; `None` where it does not apply, or its plan could not end.
fn in_model(model: &Protocol, world: &World, made: Move) -> Option<World> {
    let cut = |at: usize| world.regions[at].isolated;
    let all = match made {
        Move::Verb(verb) => vec![Happening::Begin(verb)],
        // The simulated world's cut is from everybody, the other node included.
        Move::Cut(at) if !cut(0) && !cut(1) => vec![Happening::Isolate(at), Happening::Part],
        Move::Mend(at) if cut(at) => vec![Happening::Connect(at), Happening::Mend],
        Move::Cut(_) | Move::Mend(_) => return None,
    };
    let mut next = world.clone();
    for happening in all {
        next = model.next_state(&next, happening)?;
    }
    settle(model, next)
}

/// Draws moves and makes them in both; says how many verbs were carried out.
async fn replay(model: &Protocol, seed: u64) -> usize {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut world = settle(model, World::healthy()).unwrap();
    let stage = Stage::new(start(Start::Healthy), &[]);
    let (mut done, mut trace) = (0, Vec::new());
    for number in 0..MOVES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let made = MOVES_TO_DRAW[usize::try_from(random % 10).unwrap()];
        let next = in_model(model, &world, made);
        trace.push((made, next.is_some()));
        match (made, &next) {
            (Move::Verb(verb), next) => {
                let plan = stage.try_plan(&intent(verb, &world), &format!("plan-{number}")).await;
                // The model does not tell a person's one copy from a failover's.
                let is_degraded = verb == Verb::Degrade && world.control.confirms.is_none();
                if let (Ok(plan), Some(_)) = (&plan, next) {
                    let finished = stage.insist(plan, None).await;
                    assert_eq!(finished.outcome, Outcome::Completed, "{seed}: {trace:?}");
                    done += 1;
                } else {
                    let agree = plan.is_err() == next.is_none();
                    assert!(agree || is_degraded, "{seed}: {trace:?}: {plan:?}");
                    continue;
                }
            }
            (_, None) => continue,
            (Move::Cut(at), Some(_)) => stage.cluster.lock().unwrap().isolate(REGIONS[at]),
            (Move::Mend(at), Some(_)) => stage.cluster.lock().unwrap().heal(REGIONS[at]),
        }
        world = next.unwrap();
        // Leases run out, and what is late arrives.
        tokio::time::sleep(std::time::Duration::from_mins(5)).await;
        assert_eq!(of_simulation(&stage), of_model(&world), "{seed}: {trace:?}");
    }
    done
}

#[test]
fn the_executor_does_what_the_model_does() {
    let bounds = Bounds { writes: 0, faults: u8::MAX, plans: u8::MAX };
    let model = Protocol::new(None, bounds);
    let done: usize = (1..=SEEDS).map(|seed| in_virtual_time(replay(&model, seed))).sum();
    assert!(done > 500, "{done} verbs only were carried out");
}
