//! The control plane's client: the control record and the topology document in etcd.
//!
//! Invariants: the record changes by compare-and-set only, and only in ways it allows; a topology never
//! goes back; what was last known is on disk, so that a service starts and goes on while etcd is away;
//! how old that knowledge is can always be asked.
//! Deliberately absent: deciding anything. That is the planner's, and of the agents it instructs.

mod cache;
mod client;
mod config;
mod enforce;
mod error;
pub mod etcd;
mod follow;
mod leases;
mod patience;
mod pins;
pub mod plans;
pub mod roles;
mod watch;

pub use client::{ControlClient, Published};
pub use config::{ControlConfig, TlsPaths, limits};
pub use enforce::Enforced;
pub use error::Error;
pub use etcd::{LeaseId, Revision};
pub use leases::{Leases, Renewal};
pub use patience::patiently;
pub use pins::Pins;
pub use plans::{Entered, PlanLock, Plans, RecordStep, StoredEntry, StoredPlan, Superseded};
pub use watch::{Known, Watch};

pub use domicile_topology::{Record, Topology};

/// A value with the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// What a compare-and-set names.
    pub revision: Revision,
}
