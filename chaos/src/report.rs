//! What is kept of a run: for programs as JSON, for people as one HTML page of a suite.

use crate::experiment::Experiment;
use crate::system::System;
use anyhow::{Context, Result};
use domicile_oracles::verdict::Judgement;
use domicile_oracles::{Limits, Oracle};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tokio::process::Command;

/// Whether the steps were carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// To the end.
    Completed,
    /// The system did not do what it has to.
    Failed(String),
    /// They could not be: nothing is proven.
    NotRun(String),
}

/// The result in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Everything was carried out and every oracle holds.
    Passed,
    /// Something was not carried out, or an oracle had nothing to look at.
    NotRun,
    /// A promise was broken.
    Failed,
}

impl Word {
    /// As it is printed.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::NotRun => "NOT RUN",
            Self::Failed => "FAILED",
        }
    }
}

/// One thing that was done or waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When it began, since the run began, in milliseconds.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What.
    pub what: String,
    /// More of it.
    pub detail: String,
}

/// What ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The commit of the working folder, `unknown` outside of one.
    pub git: String,
    /// The CLI's version.
    pub domicile: String,
    /// The database's version.
    pub postgres: String,
    /// The control plane's version.
    pub etcd: String,
    /// The kernel's version.
    pub kernel: String,
    /// How much of the last ten seconds something waited for a CPU, as the kernel says it.
    pub cpu_pressure: String,
}

async fn first_line(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await;
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

impl Versions {
    /// Asks everything for its version.
    pub async fn look(system: &System) -> Self {
        let etcd = std::env::var_os("DOMICILE_ETCD").unwrap_or_else(|| "etcd".into());
        let pressure = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
        let average =
            pressure.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="));
        Self {
            git: first_line("git", &["rev-parse", "HEAD"]).await,
            domicile: first_line(&system.programs.domicile, &["--version"]).await,
            postgres: first_line(system.programs.postgres_bin.join("postgres"), &["--version"])
                .await,
            etcd: first_line(etcd, &["--version"]).await,
            kernel: first_line("uname", &["-r"]).await,
            cpu_pressure: average.unwrap_or("unknown").to_owned(),
        }
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The experiment.
    pub experiment: String,
    /// What it shows.
    pub title: String,
    /// Where it ran.
    pub stage: String,
    /// Its seed.
    pub seed: u64,
    /// What ran.
    pub versions: Versions,
    /// Whether the steps were carried out.
    pub ending: Ending,
    /// How long all of it took, in milliseconds.
    pub took_ms: u64,
    /// Plays that were due and not sent.
    pub shed: u64,
    /// What was done.
    pub timeline: Vec<Event>,
    /// The oracles that count here.
    pub oracles: Vec<Oracle>,
    /// What was allowed.
    pub limits: Limits,
    /// What they said; nothing when the run was not carried out.
    pub judgement: Option<Judgement>,
}

impl Report {
    /// A report to be filled.
    pub fn new(experiment: &Experiment, seed: u64, versions: Versions) -> Self {
        Self {
            experiment: experiment.name.clone(),
            title: experiment.title.clone(),
            stage: experiment.stage.name().to_owned(),
            seed,
            versions,
            ending: Ending::NotRun("it has not ended".to_owned()),
            took_ms: 0,
            shed: 0,
            timeline: Vec::new(),
            oracles: experiment.oracles.clone(),
            limits: experiment.limits.clone(),
            judgement: None,
        }
    }

    /// In one word, and why.
    pub fn result(&self) -> (Word, String) {
        let verdicts = self.judgement.iter().flat_map(|judgement| &judgement.verdicts);
        let counted: Vec<_> = verdicts.filter(|v| self.oracles.contains(&v.oracle)).collect();
        let broken = counted.iter().find(|verdict| verdict.broken > 0);
        if let Some(verdict) = broken {
            let first = verdict.violations.first().map(String::as_str).unwrap_or_default();
            return (Word::Failed, format!("{}: {first}", verdict.oracle));
        }
        match &self.ending {
            Ending::Failed(reason) => return (Word::Failed, reason.clone()),
            Ending::NotRun(reason) => return (Word::NotRun, reason.clone()),
            Ending::Completed => {}
        }
        let silent = self
            .oracles
            .iter()
            .find(|oracle| !counted.iter().any(|v| v.oracle == **oracle && v.holds()));
        match silent {
            Some(oracle) => (Word::NotRun, format!("{oracle} had nothing to look at")),
            None => (Word::Passed, String::new()),
        }
    }

    /// Writes it beside the history.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join("report.json");
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads it back.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("report.json");
        let text =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))
    }
}
