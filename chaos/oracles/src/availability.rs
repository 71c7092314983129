//! C9: how long nobody was answered, measured where the clients are.

use crate::history::{History, Mark, Operation, Outcome, Standing};
use crate::verdict::{Limits, Oracle, Verdict};
use serde::{Deserialize, Serialize};

/// What was measured. Times are the clients'.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Operations begun.
    pub operations: u64,
    /// Of them acknowledged.
    pub acknowledged: u64,
    /// Of them refused for good.
    pub refused: u64,
    /// Of them undecided for their client to the end.
    pub unknown: u64,
    /// Attempts that were answered with a refusal or not at all, and sent again.
    pub retried: u64,
    /// Longest time between two acknowledgements while load was on, in milliseconds.
    pub gap_ms: u64,
    /// From the fault (or the command, without one) to the first acknowledgement in a new epoch, in milliseconds.
    pub new_epoch_ms: Option<u64>,
    /// From the fault to when every copy was there again, in milliseconds.
    pub redundant_ms: Option<u64>,
    /// Half of the acknowledged operations took at most this from when they were due, in milliseconds.
    pub latency_p50_ms: u64,
    /// 99 % took at most this.
    pub latency_p99_ms: u64,
    /// All took at most this.
    pub latency_max_ms: u64,
}

const NS_PER_MS: u64 = 1_000_000;

/// When an operation was first acknowledged, and by which epoch.
fn acknowledged(operation: &Operation) -> Option<(u64, Option<u64>)> {
    operation.acknowledgements().next().map(|(_, at, told)| (at, told.epoch))
}

/// Takes the figures.
pub fn measure(history: &History) -> Figures {
    let mut figures = Figures::default();
    let mut acks: Vec<(u64, Option<u64>)> = Vec::new();
    let mut latencies = Vec::new();
    for operation in &history.operations {
        figures.operations += 1;
        match operation.standing() {
            Standing::Acknowledged(_) => figures.acknowledged += 1,
            Standing::Refused => figures.refused += 1,
            Standing::Unknown => figures.unknown += 1,
        }
        let failed = operation.attempts.iter().filter(|attempt| {
            matches!(attempt.ended, Some((_, Outcome::Refused(_) | Outcome::Unknown(_))))
        });
        figures.retried += u64::try_from(failed.count()).unwrap_or(u64::MAX);
        if let Some((at, epoch)) = acknowledged(operation) {
            acks.push((at, epoch));
            latencies.push(at.saturating_sub(operation.due_ns) / NS_PER_MS);
        }
    }
    acks.sort_unstable();
    latencies.sort_unstable();
    let part = |per_hundred: usize| {
        let place = (latencies.len() * per_hundred / 100).min(latencies.len().saturating_sub(1));
        latencies.get(place).copied().unwrap_or_default()
    };
    (figures.latency_p50_ms, figures.latency_p99_ms) = (part(50), part(99));
    figures.latency_max_ms = latencies.last().copied().unwrap_or_default();
    figures.gap_ms = longest_gap(&acks, history.marked(Mark::LoadStopped)) / NS_PER_MS;
    let begun = history.marked(Mark::Fault).or_else(|| history.marked(Mark::Action));
    if let Some(begun) = begun {
        figures.new_epoch_ms = first_in_new_epoch(&acks, begun).map(|at| (at - begun) / NS_PER_MS);
        let redundant = history.marked(Mark::Redundant);
        figures.redundant_ms = redundant.map(|at| at.saturating_sub(begun) / NS_PER_MS);
    }
    figures
}

/// The end of the load counts as an acknowledgement: a system that never answers again has a gap, not an end.
fn longest_gap(acks: &[(u64, Option<u64>)], stopped: Option<u64>) -> u64 {
    let within = acks.iter().map(|(at, _)| *at).filter(|at| stopped.is_none_or(|end| *at <= end));
    let times: Vec<u64> = within.chain(stopped).collect();
    times
        .windows(2)
        .map(|pair| pair.last().zip(pair.first()).map_or(0, |(b, a)| b - a))
        .max()
        .unwrap_or(0)
}

fn first_in_new_epoch(acks: &[(u64, Option<u64>)], begun: u64) -> Option<u64> {
    let before =
        acks.iter().filter(|(at, _)| *at <= begun).filter_map(|(_, epoch)| *epoch).max()?;
    acks.iter()
        .find(|(at, epoch)| *at > begun && epoch.is_some_and(|e| e > before))
        .map(|(at, _)| *at)
}

/// C9: the figures against what the experiment allows.
pub fn in_time(history: &History, figures: &Figures, limits: &Limits) -> Verdict {
    let mut verdict = Verdict::new(Oracle::C9);
    verdict.check(figures.acknowledged > 0, || "nothing was acknowledged".to_owned());
    if let Some(most) = limits.gap_max_ms {
        verdict.check(figures.gap_ms <= most, || {
            format!("{} ms without an acknowledgement, at most {most} allowed", figures.gap_ms)
        });
    }
    if let Some(most) = limits.new_epoch_max_ms {
        verdict.check(figures.new_epoch_ms.is_some_and(|ms| ms <= most), || {
            match figures.new_epoch_ms {
                Some(ms) => format!(
                    "{ms} ms to the first acknowledgement in the new epoch, at most {most} allowed"
                ),
                None => "no acknowledgement in a new epoch".to_owned(),
            }
        });
    }
    if limits.same_epoch {
        verdict.check(figures.new_epoch_ms.is_none(), || {
            let after_ms = figures.new_epoch_ms.unwrap_or_default();
            format!("a new epoch answered {after_ms} ms after the fault, and there was no reason for one")
        });
    }
    if let Some(most) = limits.failed_max {
        let failed = figures.unknown + figures.refused;
        verdict.check(failed <= most, || {
            format!("{failed} operations were never acknowledged, at most {most} allowed")
        });
    }
    if let Some(healed) = history.marked(Mark::Healed) {
        let after = history.operations.iter().filter_map(acknowledged).any(|(at, _)| at > healed);
        verdict.check(after, || "nothing was acknowledged after the fault was healed".to_owned());
    }
    verdict
}
