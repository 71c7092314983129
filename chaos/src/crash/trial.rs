//! One point: load on, the command killed there, its plan gone on with, and the audit.
//!
//! Invariants: a region that was killed comes back on every way out; whatever could not be carried out is NOT RUN.

use super::audit::{self, Stand};
use super::point::{Point, Verb};
use super::table::Tried;
use crate::fault::{self, Fault, Injected};
use crate::load::{Load, Traffic};
use crate::observe::{LogPositions, observe};
use crate::recorder::Recorder;
use crate::report::Word;
use crate::run::INTERRUPTED;
use crate::stop::{Done, Stop, failed, not_run};
use crate::suite::Options;
use crate::system::{System, said};
use crate::watch::Watching;
use crate::whole::whole;
use anyhow::{Context, Result, anyhow};
use domicile_core::ids::RegionId;
use domicile_oracles::Limits;
use domicile_oracles::history::Mark;
use rustix::process::Signal;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Acknowledgements wanted before the command, and again after everything.
const ACKNOWLEDGED: u64 = 10;
/// How long they may take.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_mins(2);
/// How long going on with the plan may take; the dead executor's lock alone ends after ten seconds.
const OVER_WITHIN: Duration = Duration::from_mins(4);
/// How long the system may take to be whole.
const WHOLE_WITHIN: Duration = Duration::from_mins(4);
/// Pause before `resume` is given again.
const RESUME_EVERY: Duration = Duration::from_millis(500);
/// Pause between two looks at the epoch that answers.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What players ask for meanwhile: enough to be lost, little enough to disturb nothing.
fn light() -> Traffic {
    Traffic {
        players: 2,
        plays_per_s: 4,
        round_every_ms: 3_000,
        read_every_ms: 1_000,
        ..Traffic::default()
    }
}

/// Tries a point; an error only when its own records cannot be written.
pub(super) async fn run(
    system: &System,
    point: &Point,
    number: usize,
    git: &str,
    options: &Options,
) -> Result<Tried> {
    let begun = Instant::now();
    let mut tried = Tried::new(point, git);
    let ended = match prepare(system, point.verb).await {
        Ok(()) => {
            let folder = options.out.join(point.slug());
            let name = format!("k{}-{}", std::process::id(), number + 1);
            recorded(system, &mut tried, &folder, &name, options.seed).await?
        }
        Err(stop) => {
            Err(not_run(stop.into_error().context("the system is not ready for this point")))
        }
    };
    (tried.word, tried.reason) = match ended {
        Ok(()) => (Word::Passed, String::new()),
        Err(Stop::NotRun(error)) => (Word::NotRun, format!("{error:#}")),
        Err(Stop::Failed(error)) => (Word::Failed, format!("{error:#}")),
    };
    tried.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(tried)
}

/// The system whole, and the writer where the verb begins.
pub(super) async fn prepare(system: &System, verb: Verb) -> Done {
    whole(system, WHOLE_WITHIN).await?;
    let stand = audit::one_writer(system).await?;
    let is_home = stand.region == system.topology.failover.preferred_region.as_str();
    let mover = match (verb, is_home) {
        (Verb::Failback, true) => Verb::Switchover,
        (Verb::Failback, false) | (_, true) => return Ok(()),
        (_, false) => Verb::Failback,
    };
    must(system, mover).await?;
    whole(system, WHOLE_WITHIN).await
}

/// Runs a verb to its end.
async fn must(system: &System, verb: Verb) -> Done {
    let mut arguments = verb.arguments(system).map_err(not_run)?;
    arguments.push("--yes".to_owned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    system.must(&arguments).await.map(drop).map_err(not_run)
}

/// The trial with its records, in a folder that holds nothing else.
async fn recorded(
    system: &System,
    tried: &mut Tried,
    folder: &Path,
    name: &str,
    seed: u64,
) -> Result<Done> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).context("cannot remove an earlier trial's records")?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let recorder = Arc::new(Recorder::create(&folder.join("history.jsonl"))?);
    let logs = LogPositions::now(system);
    let watching = Watching::start(system, &recorder);
    let load = match Load::start(system, &recorder, &light(), name, seed).await {
        Ok(load) => load,
        Err(error) => {
            watching.finish().await?;
            return Ok(Err(not_run(error.context("the load could not begin"))));
        }
    };
    let trial = Trial { system, recorder: &recorder, injected: Mutex::new(None) };
    let mut done = tokio::select! {
        done = trial.carry_out(tried) => done,
        _ = tokio::signal::ctrl_c() => Err(not_run(anyhow!(INTERRUPTED))),
    };
    done = done.and(trial.heal().await);
    recorder.mark(Mark::LoadStopped, "no new operation begins")?;
    let finished = load.finish().await.context("the load").map_err(not_run);
    watching.finish().await?;
    tried.acknowledged = recorder.acknowledged();
    done = done.and(finished);
    if matches!(done, Err(Stop::NotRun(_))) {
        return Ok(done);
    }
    let observations = observe(system, name, &logs).await?;
    std::fs::write(folder.join("observations.json"), serde_json::to_vec(&observations)?)
        .context("cannot write what was observed")?;
    let limits = Limits { lag_max_ms: system.lag_limits_ms(), ..Limits::default() };
    let judged = audit::consult(&recorder.history()?, &observations, &limits);
    tried.compared = *judged.as_ref().unwrap_or(&0);
    let judged = judged.map(drop);
    // What was lost matters more than what did not become whole.
    Ok(if matches!(judged, Err(Stop::Failed(_))) { judged } else { done.and(judged) })
}

/// A trial under way.
struct Trial<'a> {
    system: &'a System,
    recorder: &'a Recorder,
    injected: Mutex<Option<Injected>>,
}

impl Trial<'_> {
    /// Everything, until the system is whole again and answers, with one writer where it has to be.
    async fn carry_out(&self, tried: &mut Tried) -> Done {
        self.answered("before the command").await.map_err(|stop| not_run(stop.into_error()))?;
        let verb = tried.point.verb;
        if verb == Verb::RestoreDurability {
            must(self.system, Verb::Degrade).await?;
        }
        let before = audit::one_writer(self.system).await?;
        let target = self.system.region("standby").map_err(not_run)?;
        let mut arguments = verb.arguments(self.system).map_err(not_run)?;
        arguments.push("--yes".to_owned());
        if verb == Verb::Failover {
            self.kill_the_writers_region().await.map_err(not_run)?;
        }
        let steps = verb.steps(self.system).await.map_err(not_run)?;
        let action = tried.point.step.checked_sub(1).and_then(|index| steps.get(index));
        let lacking = || anyhow!("this time the plan has {} steps", steps.len());
        tried.action = action.cloned().with_context(lacking).map_err(not_run)?;
        let moved = self.recorder.highest_epoch();
        let is_over = AtomicBool::new(false);
        let command = async {
            let ended = self.killed_and_gone_on_with(tried, &arguments).await;
            is_over.store(true, Ordering::Relaxed);
            ended
        };
        let (ended, healed) = tokio::join!(command, self.heal_later(moved, &is_over));
        let ended = ended?;
        healed?;
        self.settle(verb).await?;
        let after = audit::one_writer(self.system).await?;
        audit::moved_or_not(&before, &after, &allowed(verb, &ended, &before, &target))
    }

    /// Players are answered.
    async fn answered(&self, when: &str) -> Done {
        if self.recorder.acknowledged_more(ACKNOWLEDGED, ACKNOWLEDGED_WITHIN).await {
            return Ok(());
        }
        let seconds = ACKNOWLEDGED_WITHIN.as_secs();
        Err(failed(anyhow!(
            "{ACKNOWLEDGED} operations were not acknowledged within {seconds} s {when}"
        )))
    }

    async fn kill_the_writers_region(&self) -> Result<()> {
        let region = self.system.region("primary")?.to_string();
        let fault = Fault::KillRegion { region, etcd: false };
        self.recorder.mark(Mark::Fault, &format!("{fault:?}"))?;
        let injected = fault::inject(self.system, &fault).await?;
        *self.injected.lock().unwrap_or_else(PoisonError::into_inner) = Some(injected);
        Ok(())
    }

    /// The killed region comes back once another one answers, or once the plan is over.
    async fn heal_later(&self, epoch: u64, is_over: &AtomicBool) -> Done {
        while self.recorder.highest_epoch() <= epoch && !is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.heal().await
    }

    async fn heal(&self) -> Done {
        let injected = self.injected.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(injected) = injected else { return Ok(()) };
        let what = injected.what.clone();
        injected.heal(self.system).await.map_err(not_run)?;
        self.recorder.mark(Mark::Healed, &what).map_err(not_run)
    }

    /// The command dies at its point; then `resume` is given until no plan is under way. How the plan ended.
    async fn killed_and_gone_on_with(
        &self,
        tried: &mut Tried,
        arguments: &[String],
    ) -> Done<String> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let place = tried.point.place();
        let shown = format!("domicile {}, killed at {place}", arguments.join(" "));
        self.recorder.mark(Mark::Action, &shown).map_err(not_run)?;
        let output = self.system.cli_dying_at(&arguments, &place).await.map_err(not_run)?;
        if output.status.signal() != Some(Signal::ABORT.as_raw()) {
            let error = anyhow!("it did not die at {place}: {}: {}", output.status, said(&output));
            return Err(not_run(error));
        }
        let begun = Instant::now();
        loop {
            let output = self.system.cli(&["resume", "--json"]).await.map_err(failed)?;
            tried.resumes += 1;
            let ended = match ended(&output) {
                None if self.is_idle().await? => Some("gone on with by an agent".to_owned()),
                ended => ended,
            };
            if let Some(ended) = ended {
                self.recorder.mark(Mark::ActionDone, &shown).map_err(not_run)?;
                tried.ended.clone_from(&ended);
                return Ok(ended);
            }
            if begun.elapsed() >= OVER_WITHIN {
                let seconds = OVER_WITHIN.as_secs();
                return Err(failed(anyhow!(
                    "the plan is not over within {seconds} s: {}",
                    said(&output)
                )));
            }
            tokio::time::sleep(RESUME_EVERY).await;
        }
    }

    /// Whether no plan is under way.
    async fn is_idle(&self) -> Done<bool> {
        let status = self.system.status().await.map_err(failed)?;
        Ok(status.get("record").is_some_and(Value::is_object)
            && status.get("plan").is_some_and(Value::is_null))
    }

    /// The system becomes whole, and players are answered.
    async fn settle(&self, verb: Verb) -> Done {
        if verb == Verb::Degrade {
            must(self.system, Verb::RestoreDurability).await?;
        }
        whole(self.system, WHOLE_WITHIN).await?;
        self.recorder.mark(Mark::Redundant, "every copy is there").map_err(not_run)?;
        self.answered("after everything").await
    }
}

/// Where the writer may be after a plan that ended so.
fn allowed(verb: Verb, ended: &str, before: &Stand, target: &RegionId) -> Vec<String> {
    let stays = matches!(verb, Verb::Degrade | Verb::RestoreDurability) || ended == "called-off";
    match (stays, ended) {
        (true, _) => vec![before.region.clone()],
        (false, "completed") => vec![target.to_string()],
        (false, _) => vec![before.region.clone(), target.to_string()],
    }
}

/// How `resume` says that the plan ended; nothing when it has not.
fn ended(output: &Output) -> Option<String> {
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    answer.pointer("/ended/kind").and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    #[test]
    fn only_an_outcome_is_an_end() {
        let say = |text: &str| Output {
            status: ExitStatus::default(),
            stdout: text.as_bytes().to_vec(),
            stderr: Vec::new(),
        };
        let completed = r#"{"plan": null, "ended": {"kind": "completed"}}"#;
        assert_eq!(ended(&say(completed)).as_deref(), Some("completed"));
        let stopped = r#"{"plan": null, "ended": {"outcome": "stopped", "reason": "held"}}"#;
        assert_eq!(ended(&say(stopped)), None);
        assert_eq!(ended(&say("")), None);
    }

    #[test]
    fn a_completed_move_has_moved_and_one_called_off_has_not() {
        let target: RegionId = "de-1".parse().expect("a region");
        let before = Stand { epoch: 3, region: "mt-1".to_owned() };
        let allowed = |verb, ended| allowed(verb, ended, &before, &target);
        assert_eq!(allowed(Verb::Switchover, "completed"), ["de-1"]);
        assert_eq!(allowed(Verb::Switchover, "called-off"), ["mt-1"]);
        assert_eq!(allowed(Verb::Degrade, "completed"), ["mt-1"]);
        assert_eq!(allowed(Verb::Failover, "superseded"), ["mt-1", "de-1"]);
    }
}
