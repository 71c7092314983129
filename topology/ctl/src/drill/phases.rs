//! Where a failover's time goes: from the kill to the first acknowledged write, by what the journal and the players say.
//!
//! Pure. Steps that this program ran are timed by its own monotonic clock. Those that an agent ran are placed by the
//! agent's wall clock, as its journal has it, and last as long as that agent's monotonic clock says.

use super::report::{Phase, PhaseFigure, StepRun};
use domicile_execute::{Entry, Happened};
use domicile_topology::plan::{Action, Plan, RecordChange};
use std::collections::BTreeMap;

/// The dead primary has been noticed, and a second observer agrees.
const DETECTED: &str = "detection";
/// A plan is made and the record names the new epoch: from here on the old one is fenced.
const DECIDED: &str = "decision";
/// The standby is primary.
const PROMOTED: &str = "promotion";
/// The epoch is open: the new writer may log in.
const OPENED: &str = "epoch open";
/// The new writer has proven its logs and says that it serves.
const GATED: &str = "log gate";
/// A player's write came through a router and was acknowledged.
const WRITTEN: &str = "first acknowledged write";

/// The phases of a failover; times are on the drill's clock. `noticed_ms`: when somebody knew.
pub(super) fn of(
    plan: &Plan,
    steps: &[StepRun],
    killed_ms: u64,
    noticed_ms: Option<u64>,
    first_write_ms: Option<u64>,
) -> Vec<Phase> {
    let done = |is: fn(&Action) -> bool| {
        let place = plan.steps.iter().position(|step| is(&step.action))?;
        let run = steps.iter().find(|run| run.number == place + 1)?;
        (run.outcome == "done").then(|| run.ended_ms.saturating_sub(killed_ms))
    };
    let ended = [
        (DETECTED, noticed_ms.map(|at| at.saturating_sub(killed_ms))),
        (
            DECIDED,
            done(|action| {
                matches!(action, Action::Record { change: RecordChange::NewEpoch { .. } })
            }),
        ),
        (PROMOTED, done(|action| matches!(action, Action::Promote { .. }))),
        (OPENED, done(|action| matches!(action, Action::OpenEpoch { .. }))),
        (GATED, done(|action| matches!(action, Action::AwaitWriter { .. }))),
        // Already counted from the kill.
        (WRITTEN, first_write_ms),
    ];
    let known = ended.into_iter().filter_map(|(name, at)| Some((name, at?)));
    let mut phases: Vec<Phase> = known
        .map(|(name, ended_ms)| Phase { name: name.to_owned(), ended_ms, took_ms: 0 })
        .collect();
    // The writer is looked at every few milliseconds; a player may be served between two looks.
    phases.sort_by_key(|phase| phase.ended_ms);
    let mut before_ms = 0;
    for phase in &mut phases {
        phase.took_ms = phase.ended_ms.saturating_sub(before_ms);
        before_ms = phase.ended_ms;
    }
    phases
}

/// The steps of a plan that an agent ran, on the drill's clock, which began at this wall time; and when it knew.
pub(super) fn by_journal(
    plan: &Plan,
    entries: &[Entry],
    began_unix_ms: u64,
    words: impl Fn(&Action) -> String,
) -> (Vec<StepRun>, Option<u64>) {
    let (mut steps, mut noticed_ms) = (Vec::new(), None);
    for entry in entries {
        let at_ms = entry.at_unix_ms.saturating_sub(began_unix_ms);
        let (number, took_ms, outcome) = match &entry.happened {
            Happened::PrimaryDead { before_ms, .. } => {
                noticed_ms = Some(at_ms.saturating_sub(*before_ms));
                continue;
            }
            Happened::Done { step, took_ms, .. } => (*step, *took_ms, "done".to_owned()),
            Happened::Failed { step, took_ms, reason } => {
                (*step, *took_ms, format!("failed ({reason})"))
            }
            _ => continue,
        };
        let step = number.checked_sub(1).and_then(|place| plan.steps.get(place));
        steps.push(StepRun {
            number,
            what: step.map(|step| words(&step.action)).unwrap_or_default(),
            began_ms: at_ms.saturating_sub(took_ms),
            ended_ms: at_ms,
            outcome,
            residency: Vec::new(),
        });
    }
    (steps, noticed_ms)
}

/// Median and worst of each phase over all failovers, by when they ended.
pub(super) fn figures<'a>(failovers: impl Iterator<Item = &'a [Phase]>) -> Vec<PhaseFigure> {
    let mut all: BTreeMap<String, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for phase in failovers.flatten() {
        let (took, ended) = all.entry(phase.name.clone()).or_default();
        took.push(phase.took_ms);
        ended.push(phase.ended_ms);
    }
    let figure = |(name, (mut took, mut ended)): (String, (Vec<u64>, Vec<u64>))| {
        let count = took.len();
        let (took_median_ms, took_worst_ms) = median_and_worst(&mut took);
        let (ended_median_ms, ended_worst_ms) = median_and_worst(&mut ended);
        PhaseFigure { name, count, took_median_ms, took_worst_ms, ended_median_ms, ended_worst_ms }
    };
    let mut figures: Vec<PhaseFigure> = all.into_iter().map(figure).collect();
    figures.sort_by_key(|figure| figure.ended_median_ms);
    figures
}

fn median_and_worst(times: &mut [u64]) -> (u64, u64) {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    (median, times.last().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_core::epoch::Epoch;
    use domicile_execute::Learnt;
    use domicile_topology::plan::{Step, Undo};

    fn plan() -> Plan {
        let step = |action| Step { action, timeout_ms: 1, on_failure: Undo::Stop };
        let (node, epoch) = ("ledger-de".parse().unwrap(), Epoch(5));
        let mut plan = crate::drill::example().moves.remove(0).plan.unwrap();
        plan.steps = vec![
            step(Action::Promote { node, epoch }),
            step(Action::AwaitWriter { region: "de-1".parse().unwrap(), epoch }),
        ];
        plan
    }

    fn entry(at_unix_ms: u64, happened: Happened) -> Entry {
        Entry { at_unix_ms, by: "agent ledger-de".to_owned(), happened }
    }

    #[test]
    fn an_agents_journal_tells_when_it_knew_and_what_each_step_took() {
        let done = |step, took_ms| Happened::Done { step, learnt: Learnt::Nothing, took_ms };
        let entries = [
            entry(10_700, Happened::PrimaryDead { silence_ms: 600, before_ms: 50 }),
            entry(10_800, done(1, 90)),
            entry(10_950, done(2, 150)),
        ];
        let plan = plan();
        let (steps, noticed) = by_journal(&plan, &entries, 10_000, |_| "a step".to_owned());
        assert_eq!(noticed, Some(650));
        assert_eq!((steps[0].began_ms, steps[0].ended_ms), (710, 800));
        let phases = of(&plan, &steps, 100, noticed, Some(870));
        let told: Vec<(&str, u64, u64)> =
            phases.iter().map(|p| (p.name.as_str(), p.ended_ms, p.took_ms)).collect();
        assert_eq!(
            told,
            [(DETECTED, 550, 550), (PROMOTED, 700, 150), (GATED, 850, 150), (WRITTEN, 870, 20)]
        );
    }

    #[test]
    fn figures_are_the_median_and_the_worst_of_each_phase() {
        let phase = |ended_ms, took_ms| Phase { name: PROMOTED.to_owned(), ended_ms, took_ms };
        let all = [[phase(900, 100)], [phase(500, 300)], [phase(700, 200)]];
        let figures = figures(all.iter().map(<[Phase; 1]>::as_slice));
        assert_eq!(figures.len(), 1);
        let PhaseFigure {
            count,
            took_median_ms,
            took_worst_ms,
            ended_median_ms,
            ended_worst_ms,
            ..
        } = figures[0].clone();
        assert_eq!(
            (count, took_median_ms, took_worst_ms, ended_median_ms, ended_worst_ms),
            (3, 200, 300, 700, 900)
        );
    }
}
