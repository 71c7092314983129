//! One experiment on a running system, from the warm-up to the verdict.
//!
//! Invariants: nothing is injected unless writes are in flight and the standby is synchronous; whatever was injected is
//! taken away on every way out; an experiment that could not be carried out is NOT RUN, never passed.

use crate::experiment::{Experiment, Step};
use crate::fault::{self, Fault, Injected};
use crate::load::{Load, Wallet};
use crate::observe::{LogPositions, observe};
use crate::recorder::Recorder;
use crate::report::{Ending, Event, Report, Versions};
use crate::seed::Seed;
use crate::stop::{Done, Stop, failed, not_run};
use crate::system::{System, UNKNOWN_COMMAND, said};
use crate::term::say;
use crate::whole::whole;
use crate::{database, money, watch};
use anyhow::{Context, Result, anyhow};
use domicile_oracles::history::Mark;
use domicile_oracles::judge;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long the warm-up may take.
const WARM_WITHIN: Duration = Duration::from_mins(1);
/// How long a write may be waited for before a fault is injected.
const IN_FLIGHT_WITHIN: Duration = Duration::from_secs(3);
/// How long the system may take to be whole again after everything was healed.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);

/// Why a run ended that a person interrupted.
pub const INTERRUPTED: &str = "interrupted";

/// A command that has been given.
struct Aside {
    shown: String,
    begun: Instant,
    task: JoinHandle<Result<Output>>,
}

/// A run under way.
struct Run<'a> {
    system: &'a System,
    experiment: &'a Experiment,
    recorder: Arc<Recorder>,
    timeline: Vec<Event>,
    injected: Vec<Injected>,
    /// The steps of this round, roles filled in.
    steps: Vec<Step>,
    epoch_before: u64,
    aside: Vec<Aside>,
    seed: Seed,
}

/// Runs an experiment; everything recorded goes to the folder.
pub async fn run(
    system: &System,
    experiment: &Experiment,
    seed: u64,
    name: &str,
    folder: &Path,
) -> Result<Report> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let recorder = Arc::new(Recorder::create(&folder.join("history.jsonl"))?);
    let logs = LogPositions::now(system);
    let mut report = Report::new(experiment, seed, Versions::look(system).await);
    report.limits.lag_max_ms = system.lag_limits_ms();
    let begun = Instant::now();
    let mut run = Run {
        system,
        experiment,
        recorder: Arc::clone(&recorder),
        timeline: Vec::new(),
        injected: Vec::new(),
        steps: Vec::new(),
        epoch_before: 0,
        aside: Vec::new(),
        seed: Seed::new(seed, "run"),
    };
    let mut wallet = None;
    let watching = watch::Watching::start(system, &recorder);
    let load = Load::start(system, &recorder, &experiment.traffic, name, seed).await;
    let mut stop = match load {
        Ok(mut load) => {
            wallet = load.wallet.take();
            let stop = tokio::select! {
                done = run.all_rounds() => done.err(),
                _ = tokio::signal::ctrl_c() => Some(not_run(anyhow!(INTERRUPTED))),
            };
            recorder.mark(Mark::LoadStopped, "no new operation begins")?;
            let healed = run.heal().await.err();
            let calm = calm(wallet.as_ref()).await.err();
            let mut stop = stop.or(healed).or(calm);
            if stop.is_none() {
                stop = whole(system, WHOLE_WITHIN).await.err();
            }
            report.shed = load.shed();
            let finished = load.finish().await.context("the load").map_err(not_run).err();
            stop.or(finished)
        }
        Err(error) => Some(not_run(error.context("the load could not begin"))),
    };
    watching.finish().await?;
    report.timeline = run.timeline;
    if !matches!(stop, Some(Stop::NotRun(_))) {
        let mut observations = observe(system, name, &logs).await?;
        money::observe(system, name, wallet.as_ref(), &mut observations).await;
        if let Some(books) = &observations.money.wallet {
            match money::settle(system, name, &books.entries, folder).await {
                Ok(said) => say(format_args!("    {said}")),
                Err(broken) => stop = stop.or(Some(broken)),
            }
        }
        let json = serde_json::to_vec(&observations)?;
        std::fs::write(folder.join("observations.json"), json)
            .context("cannot write what was observed")?;
        let judgement = judge(&recorder.history()?, &observations, &report.limits);
        report.judgement = Some(judgement);
    }
    report.ending = match stop.take() {
        Some(Stop::NotRun(error)) => Ending::NotRun(format!("{error:#}")),
        Some(Stop::Failed(error)) => Ending::Failed(format!("{error:#}")),
        None => Ending::Completed,
    };
    report.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.write(folder)?;
    Ok(report)
}

/// Ends the bad weather at the wallet.
async fn calm(wallet: Option<&Wallet>) -> Done {
    let Some(wallet) = wallet else { return Ok(()) };
    wallet.weather(0, 0).await.map_err(not_run)
}

impl Run<'_> {
    /// Writes down what was done; a person sees it at once.
    fn note(&mut self, what: &str, begun: Instant, detail: &str) {
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let at_ms = (self.recorder.now_ns() / 1_000_000).saturating_sub(took_ms);
        say(format_args!(
            "    {:>7} ms  {what} ({took_ms} ms){}{detail}",
            at_ms,
            if detail.is_empty() { "" } else { ": " }
        ));
        self.timeline.push(Event {
            at_ms,
            took_ms,
            what: what.to_owned(),
            detail: detail.to_owned(),
        });
    }

    async fn all_rounds(&mut self) -> Done {
        for round in 1..=self.experiment.repeat {
            if self.experiment.repeat > 1 {
                say(format_args!("    round {round} of {}", self.experiment.repeat));
            }
            self.warm_up().await.map_err(not_run)?;
            for step in self.steps.clone() {
                self.step(&step).await?;
            }
            self.commands().await?;
        }
        Ok(())
    }

    /// Load is on, its answers come, the standby confirms: only then a fault means something.
    async fn warm_up(&mut self) -> Result<()> {
        let begun = Instant::now();
        if !self.recorder.acknowledged_more(self.experiment.warm_up, WARM_WITHIN).await {
            let had = self.recorder.acknowledged();
            return Err(anyhow!(
                "only {had} operations were acknowledged within {} s",
                WARM_WITHIN.as_secs()
            ));
        }
        whole(self.system, WARM_WITHIN).await.map_err(Stop::into_error)?;
        let writer = self.system.record()?.writer_node;
        let sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
        let synchronous = database::number(self.system, &writer, sync).await?;
        if synchronous != 1 {
            return Err(anyhow!("{synchronous} standbys are synchronous at {writer}, and not one"));
        }
        self.epoch_before = self.system.record()?.epoch.0;
        self.steps = self.filled()?;
        self.note("load is on, the standby is synchronous", begun, "");
        let waiting = Instant::now();
        while self.recorder.in_flight() == 0 {
            if waiting.elapsed() >= IN_FLIGHT_WITHIN {
                return Err(anyhow!("no write is in flight"));
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The steps with the nodes that have the roles now.
    fn filled(&self) -> Result<Vec<Step>> {
        let text = serde_json::to_string(&self.experiment.steps)?;
        // JSON's own braces stand apart from roles, which have no quotes inside.
        let mut filled = text;
        for role in ["primary", "standby"] {
            for part in ["", "-ledger", "-writer"] {
                let name = format!("{{{role}{part}}}");
                if filled.contains(&name) {
                    filled = filled.replace(&name, &self.system.fill(&name)?);
                }
            }
        }
        serde_json::from_str(&filled).context("a step names an unknown role")
    }

    async fn step(&mut self, step: &Step) -> Done {
        let begun = Instant::now();
        match step {
            Step::Inject { fault } => {
                let marked = self.recorder.mark(Mark::Fault, &format!("{fault:?}"));
                marked.map_err(not_run)?;
                let injected = fault::inject(self.system, fault).await.map_err(not_run)?;
                self.note(&injected.what, begun, "");
                self.injected.push(injected);
                Ok(())
            }
            Step::Heal => self.heal().await,
            Step::Command { arguments, aside } => {
                self.command(arguments)?;
                if *aside { Ok(()) } else { self.commands().await }
            }
            Step::Commands => self.commands().await,
            Step::Acknowledged { more, within_ms } => {
                let within = Duration::from_millis(*within_ms);
                let reached = self.recorder.acknowledged_more(*more, within).await;
                self.reached(reached, &format!("{more} more acknowledged"), begun)
            }
            Step::NewEpoch { within_ms } => {
                let within = Duration::from_millis(*within_ms);
                while self.recorder.highest_epoch() <= self.epoch_before && begun.elapsed() < within
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let epoch = self.recorder.highest_epoch();
                self.reached(epoch > self.epoch_before, "a new epoch answers", begun)
            }
            Step::Redundant { within_ms } => {
                whole(self.system, Duration::from_millis(*within_ms)).await?;
                self.recorder.mark(Mark::Redundant, "every copy is there").map_err(not_run)?;
                self.note("every copy is there, a standby may be promoted", begun, "");
                Ok(())
            }
            Step::KillWriters { times, pause_max_ms } => {
                for _ in 0..*times {
                    self.kill_a_writer(*pause_max_ms).await?;
                }
                Ok(())
            }
            Step::Hold { hold_ms } => {
                tokio::time::sleep(Duration::from_millis(*hold_ms)).await;
                self.note("left as it is", begun, "");
                Ok(())
            }
        }
    }

    async fn kill_a_writer(&mut self, pause_max_ms: u64) -> Done {
        let pause = self.seed.below(pause_max_ms.max(1));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let region = self.system.region("primary").map_err(not_run)?;
        let mut units = self.system.units_in(&region);
        units.retain(|unit| unit.contains("/writer"));
        let unit = self.seed.choose(&units).context("the region has no writer").map_err(not_run)?;
        let fault = Fault::KillUnit { unit: unit.clone() };
        Box::pin(self.step(&Step::Inject { fault })).await?;
        self.heal().await
    }

    fn reached(&mut self, reached: bool, what: &str, begun: Instant) -> Done {
        if reached {
            self.note(what, begun, "");
            return Ok(());
        }
        self.note(&format!("NOT REACHED: {what}"), begun, "");
        Err(failed(anyhow!("not within {} ms: {what}", begun.elapsed().as_millis())))
    }

    /// Gives the operator's CLI a command.
    fn command(&mut self, arguments: &[String]) -> Done {
        let begun = Instant::now();
        let shown = format!("domicile {}", arguments.join(" "));
        self.recorder.mark(Mark::Action, &shown).map_err(not_run)?;
        let (system, arguments) = (self.system.clone(), arguments.to_owned());
        let task = tokio::spawn(async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            system.cli(&arguments).await
        });
        self.aside.push(Aside { shown, begun, task });
        Ok(())
    }

    /// Waits for every command given so far; each must have ended well.
    async fn commands(&mut self) -> Done {
        for Aside { shown, begun, task } in std::mem::take(&mut self.aside) {
            let output = task.await.context("a command gave up").map_err(not_run)?;
            let output = output.map_err(failed)?;
            self.recorder.mark(Mark::ActionDone, &shown).map_err(not_run)?;
            let ended = ended(&shown, &output);
            if ended.is_ok() {
                self.note(&shown, begun, "");
            } else {
                self.note(&format!("FAILED: {shown}"), begun, &said(&output));
            }
            ended?;
        }
        Ok(())
    }

    /// Takes every fault away, the last one first.
    async fn heal(&mut self) -> Done {
        while let Some(injected) = self.injected.pop() {
            let (begun, what) = (Instant::now(), injected.what.clone());
            injected.heal(self.system).await.map_err(not_run)?;
            self.recorder.mark(Mark::Healed, &what).map_err(not_run)?;
            self.note("healed", begun, &what);
        }
        Ok(())
    }
}

/// What a command's end means: one that the CLI does not know was not carried out.
fn ended(shown: &str, output: &Output) -> Done {
    if output.status.success() {
        return Ok(());
    }
    let error = anyhow!("`{shown}` failed: {}", said(output));
    let unknown = output.status.code() == Some(UNKNOWN_COMMAND);
    Err(if unknown { not_run(error) } else { failed(error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    #[test]
    fn a_command_that_does_not_exist_proves_nothing() {
        let output = |code: i32| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        assert!(ended("switchover", &output(0)).is_ok());
        assert!(matches!(ended("switchover", &output(1)), Err(Stop::Failed(_))));
        assert!(matches!(ended("swichover", &output(UNKNOWN_COMMAND)), Err(Stop::NotRun(_))));
    }
}
