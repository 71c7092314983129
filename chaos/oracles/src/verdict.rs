//! What an oracle says, and all of them together.

use crate::availability::{self, Figures};
use crate::{History, Observations, effects, epochs, log, money, replicas, server_log};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Violations kept in words; the rest is counted.
const VIOLATIONS_MAX: usize = 20;

/// The oracles, by the names of their catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Oracle {
    /// Acknowledged: there exactly once, as told, on every node.
    C1,
    /// Refused: nowhere. Undecided: the same everywhere.
    C2,
    /// One effect per key.
    C3,
    /// Money is conserved, at every ledger and at the wallet.
    C4,
    /// The log is dense, extends itself and never forks.
    C5,
    /// Epochs only grow; one node answers in each.
    C6,
    /// Readers hold what is theirs, and are not behind what they told before.
    C7,
    /// How long nobody was answered.
    C9,
    /// The servers' own logs show no panic and no damage.
    C10,
}

impl Oracle {
    /// All of them.
    pub const ALL: [Self; 9] =
        [Self::C1, Self::C2, Self::C3, Self::C4, Self::C5, Self::C6, Self::C7, Self::C9, Self::C10];

    /// What it says, in a few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::C1 => "acknowledged is there, once, as told, on every node",
            Self::C2 => "refused is nowhere; undecided is the same everywhere",
            Self::C3 => "one effect per key",
            Self::C4 => "money is conserved, at every ledger and at the wallet",
            Self::C5 => "the log is dense, extends itself and never forks",
            Self::C6 => "epochs only grow, one writer in each",
            Self::C7 => "readers hold their own rows only and do not go back",
            Self::C9 => "writes are answered again in time",
            Self::C10 => "no panic, no damage, no lost slot",
        }
    }
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What one oracle found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Which.
    pub oracle: Oracle,
    /// How many things it compared. Zero proves nothing.
    pub checked: u64,
    /// How many promises were broken.
    pub broken: u64,
    /// The first of them, in words.
    pub violations: Vec<String>,
}

impl Verdict {
    /// An oracle before it has looked.
    pub fn new(oracle: Oracle) -> Self {
        Self { oracle, checked: 0, broken: 0, violations: Vec::new() }
    }

    /// One thing was compared; it says what is wrong with it, if anything.
    pub fn check(&mut self, holds: bool, wrong: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.broken += 1;
            if self.violations.len() < VIOLATIONS_MAX {
                self.violations.push(wrong());
            }
        }
    }

    /// Whether something was compared and nothing was wrong.
    pub fn holds(&self) -> bool {
        self.checked > 0 && self.broken == 0
    }
}

/// What an experiment allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest time without an acknowledgement, in milliseconds.
    pub gap_max_ms: Option<u64>,
    /// From the fault to the first acknowledgement in a new epoch, in milliseconds.
    pub new_epoch_max_ms: Option<u64>,
    /// The writer has no reason to move: no acknowledgement is of a newer epoch.
    pub same_epoch: bool,
    /// How far behind a reader that answers may say it is, by jurisdiction, in milliseconds; without one, anything.
    pub lag_max_ms: BTreeMap<String, u64>,
    /// Whether any client may be left without an acknowledgement.
    pub failed_max: Option<u64>,
    /// A panic of a database server belongs to the fault.
    pub panic_expected: bool,
    /// Slots whose loss belongs to the fault.
    pub slots_lost_max: u64,
}

/// Everything that is said of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// One per oracle.
    pub verdicts: Vec<Verdict>,
    /// What was measured.
    pub figures: Figures,
}

/// Asks every oracle.
pub fn judge(history: &History, observations: &Observations, limits: &Limits) -> Judgement {
    let figures = availability::measure(history);
    let verdicts = vec![
        effects::acknowledged_is_kept(history, observations),
        effects::undecided_is_agreed(history, observations),
        effects::one_effect_per_key(history, observations),
        money::is_conserved(observations),
        log::extends_itself(history, observations),
        epochs::only_grow(history, observations),
        replicas::stay_at_home(history, observations, &limits.lag_max_ms),
        availability::in_time(history, &figures, limits),
        server_log::is_quiet(observations, limits),
    ];
    Judgement { verdicts, figures }
}
