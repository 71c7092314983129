//! The keeper of one Postgres: the only process that touches its files and its superuser.
//!
//! It makes, clones, starts, stops, migrates and watches the node, starts it again after a crash, follows the control
//! record, moves the node in and out of the writer's place, and does what an executor asks over mutual TLS. Where the
//! policy says so it fails over by itself. It runs beside Postgres as an unprivileged user.
//! Invariants: a ledger node is primary only while the control record names it; every operation may be repeated;
//! nothing here cancels a session that waits for the second region.
//! Deliberately absent: changing the control record other than by a plan that the executor runs.

mod access;
pub mod agent;
mod apart;
pub mod api;
pub mod automatic;
mod beat;
mod certificates;
mod clone;
mod comeback;
pub mod config;
pub mod control;
mod database;
pub mod decide;
mod demote;
pub mod entering;
mod epoch;
pub mod error;
mod follow;
mod history;
mod init;
mod judgement;
mod lifecycle;
mod memory;
mod migrate;
mod observe;
mod orphans;
pub mod pinning;
mod postmaster;
mod probe;
mod process;
mod promote;
mod rejoin;
mod rewind;
mod sessions;
pub mod settings;
mod slots;
mod stream;
mod submit;
mod subscriptions;
pub mod supervise;
mod sync;
mod tools;
mod transfer;
mod wait;
mod watch;
mod watchdog;
mod witness;

use std::sync::Arc;

use domicile_service::drain::Drain;
use domicile_service::health::Readiness;
use domicile_service::tasks::spawn_vital;

use crate::agent::Agent;

/// Starts what goes on by itself: supervision, following the record, the beat and its hearing, the write probe, the watch.
pub fn attend(agent: &Arc<Agent>, drain: &Drain, readiness: &Readiness) {
    let check = readiness.check("postgres");
    spawn_vital("supervise", drain, supervise::run(Arc::clone(agent), drain.clone()));
    spawn_vital("follow", drain, follow::run(Arc::clone(agent)));
    spawn_vital("beat", drain, beat::run(Arc::clone(agent)));
    spawn_vital("stream", drain, stream::run(Arc::clone(agent)));
    spawn_vital("probe", drain, probe::run(Arc::clone(agent)));
    spawn_vital("watch", drain, watch::run(Arc::clone(agent), check));
}
