//! An experiment as a file: what is asked of the system, what is done to it, and what must hold.

use crate::fault::Fault;
use crate::load::Traffic;
use anyhow::{Context, Result, bail};
use domicile_oracles::{Limits, Oracle};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The experiments that come with the program.
const SHIPPED: [&str; 19] = [
    include_str!("../experiments/switchover.toml"),
    include_str!("../experiments/failover-manual.toml"),
    include_str!("../experiments/failover-automatic.toml"),
    include_str!("../experiments/region-frozen.toml"),
    include_str!("../experiments/postgres-frozen.toml"),
    include_str!("../experiments/walsender-frozen.toml"),
    include_str!("../experiments/reader-dead.toml"),
    include_str!("../experiments/reader-frozen.toml"),
    include_str!("../experiments/reader-unreachable.toml"),
    include_str!("../experiments/slot-not-ready.toml"),
    include_str!("../experiments/round-trip.toml"),
    include_str!("../experiments/one-way-cut.toml"),
    include_str!("../experiments/region-isolated.toml"),
    include_str!("../experiments/wan-switchover.toml"),
    include_str!("../experiments/wallet-storm.toml"),
    include_str!("../experiments/writer-killed.toml"),
    include_str!("../experiments/postgres-killed.toml"),
    include_str!("../experiments/control-plane-dead.toml"),
    include_str!("../experiments/control-plane-frozen.toml"),
];

/// On which kind of system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Loopback, failover by command only.
    Manual,
    /// Loopback, the promotable standby's agent fails over by itself.
    Automatic,
    /// Each region a host in a network namespace of its own; failover by command only.
    Namespaces,
}

impl Stage {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Automatic => "automatic",
            Self::Namespaces => "namespaces",
        }
    }
}

/// What is done next. `{primary}`, `{standby}` and their `-ledger` and `-writer` nodes are those at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Injects a fault, and looks that it happened.
    Inject {
        /// Which.
        fault: Fault,
    },
    /// Takes every fault away.
    Heal,
    /// Gives the operator's CLI a command.
    Command {
        /// Its arguments.
        arguments: Vec<String>,
        /// Whether the next step begins while the command is still busy, such as waiting for a dead reader.
        #[serde(default)]
        aside: bool,
    },
    /// Waits until commands given aside have ended, all well.
    Commands,
    /// Waits until so many further operations were acknowledged.
    Acknowledged {
        /// How many.
        more: u64,
        /// In milliseconds.
        within_ms: u64,
    },
    /// Waits until a newer epoch than at the beginning answers.
    NewEpoch {
        /// In milliseconds.
        within_ms: u64,
    },
    /// Waits until every copy is there again and a standby may be promoted.
    Redundant {
        /// In milliseconds.
        within_ms: u64,
    },
    /// Kills a writer process of the region that has the writer, and starts it again; at moments that the seed chooses.
    KillWriters {
        /// How often.
        times: u32,
        /// The longest pause before each one, in milliseconds.
        pause_max_ms: u64,
    },
    /// Leaves everything as it is for a while.
    Hold {
        /// In milliseconds.
        hold_ms: u64,
    },
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// What it shows, in one sentence.
    pub title: String,
    /// Where it is run.
    pub stage: Stage,
    /// The suites it belongs to.
    #[serde(default)]
    pub suites: Vec<String>,
    /// What the clients do.
    #[serde(default)]
    pub traffic: Traffic,
    /// Operations that must be acknowledged before anything is done.
    #[serde(default = "warm_up")]
    pub warm_up: u64,
    /// How often the steps are done, each time from a whole system.
    #[serde(default = "once")]
    pub repeat: u32,
    /// What is done.
    pub steps: Vec<Step>,
    /// What must hold afterwards. All of them, unless fewer are named.
    #[serde(default = "all")]
    pub oracles: Vec<Oracle>,
    /// What is allowed.
    #[serde(default)]
    pub limits: Limits,
}

fn warm_up() -> u64 {
    60
}

fn once() -> u32 {
    1
}

fn all() -> Vec<Oracle> {
    Oracle::ALL.to_vec()
}

impl Experiment {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self> {
        let experiment: Self = toml::from_str(text).context("this is no experiment")?;
        let slug = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if experiment.name.is_empty() || !experiment.name.chars().all(slug) {
            bail!("`{}` is no name: lower-case letters, digits and dashes", experiment.name);
        }
        if experiment.steps.is_empty() || experiment.oracles.is_empty() {
            bail!("`{}` does nothing, or judges nothing", experiment.name);
        }
        Ok(experiment)
    }

    /// Those that come with the program.
    pub fn shipped() -> Result<Vec<Self>> {
        SHIPPED.into_iter().map(Self::parse).collect()
    }

    /// The one of that name, or in that file.
    pub fn find(name: &str) -> Result<Self> {
        if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
            let text =
                std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
            return Self::parse(&text);
        }
        let shipped = Self::shipped()?;
        let names: Vec<String> = shipped.iter().map(|experiment| experiment.name.clone()).collect();
        let found = shipped.into_iter().find(|experiment| experiment.name == name);
        found.with_context(|| {
            format!("there is no experiment `{name}`; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_shipped_experiment_is_read_and_has_a_name_of_its_own() {
        let shipped = Experiment::shipped().expect("experiments");
        let names: BTreeSet<&str> = shipped.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names.len(), SHIPPED.len());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        let files = std::fs::read_dir(folder).expect("the folder").count();
        assert_eq!(files, SHIPPED.len(), "a file that is not shipped is never run");
    }

    #[test]
    fn mistakes_in_a_file_are_refused() {
        let good = "name = \"a\"\ntitle = \"t\"\nstage = \"manual\"\n[[steps]]\ndo = \"heal\"\n";
        assert!(Experiment::parse(good).is_ok());
        for (from, to) in
            [("\"a\"", "\"A b\""), ("heal", "haul"), ("manual", "cloud"), ("title", "tilte")]
        {
            assert!(Experiment::parse(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
