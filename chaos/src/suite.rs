//! Several experiments, one after the other, each stage brought up once.
//!
//! Invariant: after a run that did not pass, the next one begins on a new system: what is left of a broken one proves nothing.

use crate::experiment::{Experiment, Stage};
use crate::report::{Ending, Report, Versions, Word};
use crate::run::{self, INTERRUPTED};
use crate::system::{Programs, System};
use crate::term::say;
use crate::{page, stage};
use anyhow::{Context, Result, bail};
use domicile_oracles::{History, Limits, Observations, judge};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// What chance there is comes from this.
    pub seed: u64,
    /// A system that is up already.
    pub state: Option<PathBuf>,
    /// Where everything is written.
    pub out: PathBuf,
    /// No further experiment begins after this.
    pub within_s: u64,
}

/// The system that is up now.
pub(crate) struct Current {
    stage: Stage,
    /// It.
    pub(crate) system: System,
    /// Whether it was brought up here, and is ours to end.
    pub(crate) ours: bool,
}

impl Current {
    /// Ends it if it is ours; its folder may be kept.
    pub(crate) async fn end(self, keep: bool) -> Result<()> {
        if !self.ours {
            return Ok(());
        }
        if keep {
            say(format_args!("    the system's folder is kept: {}", self.system.state.display()));
            self.system.must(&["down"]).await?;
            return Ok(());
        }
        self.system.down().await
    }
}

/// Runs them all; the worst result.
pub async fn run(name: &str, mut experiments: Vec<Experiment>, options: &Options) -> Result<Word> {
    if experiments.is_empty() {
        bail!("no experiment belongs to `{name}`");
    }
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    experiments.sort_by_key(|experiment| experiment.stage);
    let begun = Instant::now();
    let mut current: Option<Current> = None;
    let mut reports = Vec::new();
    for (number, experiment) in experiments.iter().enumerate() {
        say(format_args!("{}: {}", experiment.name, experiment.title));
        let report = if begun.elapsed() >= Duration::from_secs(options.within_s) {
            skipped(experiment, options, "no time was left")
        } else {
            one(&mut current, experiment, number, options).await?
        };
        let (word, reason) = report.result();
        say(format_args!(
            "    {}{}{reason}",
            word.word(),
            if reason.is_empty() { "" } else { ": " }
        ));
        let interrupted = report.ending == Ending::NotRun(INTERRUPTED.to_owned());
        if word != Word::Passed
            && let Some(broken) = current.take()
        {
            broken.end(true).await?;
        }
        reports.push(report);
        if interrupted {
            break;
        }
    }
    if let Some(last) = current {
        last.end(false).await?;
    }
    finish(name, &reports, &options.out)
}

fn skipped(experiment: &Experiment, options: &Options, reason: &str) -> Report {
    let mut report = Report::new(experiment, options.seed, Versions::default());
    report.ending = Ending::NotRun(reason.to_owned());
    report
}

/// One experiment, on the system that is up if it is of its stage.
async fn one(
    current: &mut Option<Current>,
    experiment: &Experiment,
    number: usize,
    options: &Options,
) -> Result<Report> {
    if current.as_ref().is_some_and(|up| up.stage != experiment.stage)
        && let Some(other) = current.take()
    {
        other.end(false).await?;
    }
    let up = match current.take() {
        Some(up) => up,
        None => match set(experiment.stage, number, options).await {
            Ok(up) => up,
            Err(error) => return Ok(skipped(experiment, options, &format!("{error:#}"))),
        },
    };
    let folder = options.out.join(format!("{:02}-{}", number + 1, experiment.name));
    let run = format!("c{}-{}", std::process::id(), number + 1);
    let report = run::run(&up.system, experiment, options.seed, &run, &folder).await;
    *current = Some(up);
    report
}

/// The system that was named, or a new one.
pub(crate) async fn set(stage: Stage, number: usize, options: &Options) -> Result<Current> {
    let programs = Programs::find()?;
    if let Some(folder) = &options.state {
        let system = System::open(programs, folder)?;
        return Ok(Current { stage, system, ours: false });
    }
    let begun = Instant::now();
    // Not the temporary folder of this user: the nodes run as another one.
    let folder = PathBuf::from(format!("/var/tmp/domicile-chaos-{}-{number}", std::process::id()));
    let system = stage::set(programs, stage, &folder).await?;
    say(format_args!(
        "    the stage `{}` is up ({} ms)",
        stage.name(),
        begun.elapsed().as_millis()
    ));
    Ok(Current { stage, system, ours: true })
}

/// The table, the JSON and the page.
fn finish(name: &str, reports: &[Report], out: &Path) -> Result<Word> {
    let json = serde_json::to_vec_pretty(reports)?;
    std::fs::write(out.join("suite.json"), json).context("cannot write suite.json")?;
    let html = page::render(&format!("Chaos: {name}"), reports);
    std::fs::write(out.join("suite.html"), html).context("cannot write suite.html")?;
    say(format_args!(
        "\n{:<22} {:<8} {:>6} {:>6} {:>8} {:>10} {:>10} {:>6}",
        "experiment", "result", "acked", "other", "gap ms", "epoch ms", "whole ms", "s"
    ));
    for report in reports {
        let figures = report.judgement.as_ref().map(|j| j.figures.clone()).unwrap_or_default();
        let optional = |ms: Option<u64>| ms.map_or_else(|| "–".to_owned(), |ms| ms.to_string());
        say(format_args!(
            "{:<22} {:<8} {:>6} {:>6} {:>8} {:>10} {:>10} {:>6}",
            report.experiment,
            report.result().0.word(),
            figures.acknowledged,
            figures.refused + figures.unknown,
            figures.gap_ms,
            optional(figures.new_epoch_ms),
            optional(figures.redundant_ms),
            report.took_ms / 1_000
        ));
    }
    say(format_args!("\nreport: {}", out.join("suite.html").display()));
    Ok(reports.iter().map(|report| report.result().0).max().unwrap_or(Word::NotRun))
}

/// Judges the runs of a folder again and writes their page.
pub fn report(out: &Path) -> Result<Word> {
    let entries =
        std::fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join("report.json").is_file());
    folders.sort();
    let mut reports = Vec::new();
    for folder in folders {
        let mut report = Report::read(&folder)?;
        if report.judgement.is_some() {
            let (history, observations) =
                recorded(&folder.join("history.jsonl"), &folder.join("observations.json"))?;
            report.judgement = Some(judge(&history, &observations, &report.limits));
        }
        reports.push(report);
    }
    if reports.is_empty() {
        bail!("{} holds no run", out.display());
    }
    finish("runs", &reports, out)
}

fn recorded(history: &Path, observations: &Path) -> Result<(History, Observations)> {
    let text = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let history = History::parse(&text(history)?)?;
    let observations =
        serde_json::from_str(&text(observations)?).context("these are no observations")?;
    Ok((history, observations))
}

/// Judges one history.
pub fn check(history: &Path, observations: &Path) -> Result<Word> {
    let (history, observations) = recorded(history, observations)?;
    let mut word = Word::Passed;
    for verdict in judge(&history, &observations, &Limits::default()).verdicts {
        let own = if verdict.broken > 0 {
            Word::Failed
        } else if verdict.checked == 0 {
            Word::NotRun
        } else {
            Word::Passed
        };
        say(format_args!(
            "{:<4} {:<8} {:>7} compared  {}",
            verdict.oracle.to_string(),
            own.word(),
            verdict.checked,
            verdict.oracle.title()
        ));
        for violation in &verdict.violations {
            say(format_args!("       {violation}"));
        }
        word = word.max(own);
    }
    Ok(word)
}
