//! Why no plan is made: everything that is missing, at once, each with what would mend it.
//!
//! Invariant: the codes are stable; each has its section in the reference of plans.

use serde::Serialize;
use thiserror::Error;

/// A refusal: the first and most important code, and everything that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Error)]
#[error("{code}: {}", list(missing))]
pub struct Refusal {
    /// The code of the first finding.
    pub code: RefusalCode,
    /// What is missing; never empty.
    pub missing: Vec<Missing>,
}

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Its code.
    pub code: RefusalCode,
    /// What was observed, or not.
    pub what: String,
    /// What would mend it.
    pub remedy: String,
}

impl Missing {
    pub(super) fn new(code: RefusalCode, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), remedy: code.remedy().to_owned() }
    }
}

impl Refusal {
    /// The refusal of these findings; `Ok` when there are none.
    pub(super) fn unless_empty(missing: Vec<Missing>) -> Result<(), Self> {
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(Self { code: first.code, missing }),
        }
    }

    pub(super) fn one(code: RefusalCode, what: impl Into<String>) -> Self {
        Self { code, missing: vec![Missing::new(code, what)] }
    }
}

fn list(missing: &[Missing]) -> String {
    let each: Vec<&str> = missing.iter().map(|missing| missing.what.as_str()).collect();
    each.join("; ")
}

macro_rules! codes {
    ($(#[doc = $doc:literal] $name:ident, $code:literal, $remedy:literal;)*) => {
        /// What kind of thing is missing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum RefusalCode {
            $(#[doc = $doc] $name,)*
        }

        impl RefusalCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What it says.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc.trim_ascii(),)* }
            }

            /// What would mend it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    /// The region has no ledger node or no writer.
    RegionCannotWrite, "region-cannot-write",
        "Name a region of the topology that has a [[ledger]] and a [[writer]].";
    /// The writer is in that region already.
    AlreadyThere, "already-there",
        "Nothing has to be moved. If a move was interrupted, run `domicile resume`.";
    /// The topology has no such node of the kind the verb needs.
    UnknownNode, "unknown-node",
        "Name a [[ledger]] for `rejoin`, a [[reader]] for the reader verbs, as `domicile status` lists them.";
    /// The document at hand is older than the one the record was decided under.
    TopologyOutdated, "topology-outdated",
        "Use the topology of the control plane (or a newer one) and plan again.";
    /// The agent of the writer's node gives no fresh answer.
    PrimaryUnreachable, "primary-unreachable",
        "Mend the way to that node's agent. If its region is lost, use `domicile failover --to REGION`.";
    /// The writer's node does not run as a healthy primary of the record's epoch.
    PrimaryNotReady, "primary-not-ready",
        "See `domicile status` and that agent's log; run `domicile resume` if a move was interrupted. If it stays so, use `domicile failover --to REGION`.";
    /// The agent of the node that would take over gives no fresh answer.
    StandbyUnreachable, "standby-unreachable",
        "Start that node's agent or mend the way to it; without it nothing can be promoted there.";
    /// The control record does not say that this node may be promoted without loss.
    NotPromotable, "not-promotable",
        "Run `domicile restore-durability` and wait until `domicile status` says promotable.";
    /// The node is not a near, replaying, synchronous standby under the record's member.
    StandbyNotReady, "standby-not-ready",
        "See `domicile status` for its replication. If it does not recover, run `domicile restore-durability`.";
    /// A replication process exists and does not run: the primary could not stop cleanly.
    StalledProcess, "stalled-process",
        "Continue the process (`kill -CONT PID` on that host) or mend the host; a failover does not need it.";
    /// Acknowledged writes could be lost, and nobody has accepted that.
    LossNotAccepted, "loss-not-accepted",
        "Bring the old region back if you can. Else say why the loss is accepted: `--accept-data-loss REASON`.";
    /// The former primary could go on acknowledging: a third node confirms its writes.
    OldPrimaryUnfenced, "old-primary-unfenced",
        "Fail over to the sync member instead, or stop Postgres on the old primary and let its agent say so.";
    /// A reader that the log gate was to leave out is not one.
    UnknownWaivedReader, "unknown-waived-reader",
        "Waive readers by their names in the topology.";
    /// The node is the writer's own.
    NodeIsWriter, "node-is-writer",
        "Move the writer away first; only another node can follow it.";
    /// No node in another region could hold the second copy.
    NoSecondRegion, "no-second-region",
        "Bring a ledger node of another region back, or add one to the topology.";
    /// It is so already.
    NothingToDo, "nothing-to-do",
        "Nothing: the cluster is in the state you asked for.";
    /// The verb needs a reason in words.
    ReasonMissing, "reason-missing",
        "Say why; it is kept in the journal and in the report.";
    /// The reader's agent gives no fresh answer.
    ReaderUnreachable, "reader-unreachable",
        "Start that reader's agent or mend the way to it.";
    /// The reader is alive and the only required copy in its region.
    RequiredCopy, "required-copy",
        "Add another reader of the jurisdiction in that region first, or change `required_copy_regions`.";
    /// The plan failed its own check: a fault of this program.
    Unsound, "unsound",
        "Nothing was changed. Report it together with `domicile plan … --json` and `domicile status --json`.";
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_spelled_alike_everywhere() {
        for code in RefusalCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
