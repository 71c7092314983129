//! What can go wrong with the control plane, and what it means for the change that was asked for.

use crate::Versioned;
use crate::config::limits::{MAX_ENDPOINTS, MAX_VALUE_BYTES};
use domicile_core::error::Code;
use domicile_topology::Record;
use domicile_topology::address::InvalidAddress;
use domicile_topology::document::SuccessionRefused;
use domicile_topology::record::RecordFault;
use std::path::PathBuf;
use thiserror::Error;

/// An error of the control plane's client.
#[derive(Debug, Error)]
pub enum Error {
    /// No endpoint answered; nothing was changed.
    #[error("etcd {operation}: no endpoint answered; the last one said: {cause}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// The last endpoint's failure.
        cause: String,
    },
    /// The change was sent and its answer lost: read the record to learn whether it was made.
    #[error("etcd {operation}: perhaps executed, the answer was lost: {cause}")]
    OutcomeUnknown {
        /// What was asked.
        operation: &'static str,
        /// How the answer was lost.
        cause: String,
    },
    /// etcd refused; asking again will not help.
    #[error("etcd {operation}: refused: {cause}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// etcd's reason.
        cause: String,
    },
    /// etcd does not let the role of this certificate do it; nothing was changed.
    #[error("{code}: etcd {operation}: refused for the role in this certificate; {needed}", code = Code::RoleInsufficient)]
    RoleInsufficient {
        /// What was asked.
        operation: &'static str,
        /// Which roles may.
        needed: String,
    },
    /// Somebody else changed the record first; nothing was changed.
    #[error("the control record was changed by somebody else")]
    RecordConflict {
        /// What stands there now.
        current: Option<Box<Versioned<Record>>>,
    },
    /// Somebody else published a topology first; nothing was changed.
    #[error("the topology was changed by somebody else")]
    TopologyConflict,
    /// The record, or the change of it, breaks a rule.
    #[error("the control record is refused: {0}")]
    Record(#[from] RecordFault),
    /// The topology may not follow the published one.
    #[error("the topology is refused: {0}")]
    Succession(#[from] SuccessionRefused),
    /// A stored or offered value cannot be read.
    #[error("the value of {key} cannot be read: {cause}")]
    Malformed {
        /// Which key.
        key: String,
        /// Why.
        cause: String,
    },
    /// A value is larger than the client stores.
    #[error("the value of {key} has {bytes} bytes; the limit is {MAX_VALUE_BYTES}")]
    TooLarge {
        /// Which key.
        key: String,
        /// Its size.
        bytes: usize,
    },
    /// The lease has ended: whatever hung on it is gone.
    #[error("the lease has ended")]
    LeaseGone,
    /// Somebody else runs a plan.
    #[error("the plan lock is held by {owner}")]
    LockHeld {
        /// Who.
        owner: String,
    },
    /// The plan lock ended, or somebody else has it now: nothing was changed.
    #[error("the plan lock is lost")]
    LockLost,
    /// A plan or an entry of that name exists, or another plan is under way: nothing was changed.
    #[error("{key} exists already")]
    PlanConflict {
        /// Which key.
        key: String,
    },
    /// A certificate or key file cannot be used.
    #[error("{path}: {cause}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// An endpoint's text is not a URL.
    #[error("a control endpoint is wrong: {0}")]
    Endpoint(#[source] InvalidAddress),
    /// None, or too many.
    #[error("{0} control endpoints; from 1 to {MAX_ENDPOINTS} are possible")]
    EndpointCount(usize),
}
