//! From what clients saw to the figures a drill is judged by. Pure.

use super::probe::Sample;
use super::report::{Finding, Load, Move, Objectives};
use std::ops::Range;

/// The objectives of every drill; DESIGN says why they can be met.
pub(crate) const OBJECTIVES: Objectives = Objectives {
    switchover_pause_median_ms: 500,
    switchover_pause_worst_ms: 2_000,
    failover_rto_ms: 3_000,
    rpo_rounds: 0,
    failed_in_switchover: 0,
};

/// A write that takes longer than this was held, milliseconds.
const HELD_ABOVE_MS: u64 = 250;

/// The longest time without an acknowledgement that touches the window.
pub(crate) fn write_pause_ms(samples: &[Sample], window: &Range<u64>) -> Option<u64> {
    let mut times: Vec<u64> =
        samples.iter().filter(|s| s.acknowledged.is_some()).map(|s| s.answered_ms).collect();
    times.sort_unstable();
    let gaps = times.windows(2).filter_map(|pair| match pair {
        [from, to] if *to >= window.start && *from <= window.end => Some(to - from),
        _ => None,
    });
    gaps.max()
}

/// From this moment to the first acknowledgement of the epoch or a later one.
pub(crate) fn first_write_ms(samples: &[Sample], since_ms: u64, epoch: u64) -> Option<u64> {
    let of_epoch = |sample: &&Sample| sample.acknowledged.is_some_and(|(of, _)| of >= epoch);
    let first = samples.iter().filter(of_epoch).map(|sample| sample.answered_ms).min()?;
    Some(first.saturating_sub(since_ms))
}

/// Counts what clients saw; `planned` are the windows of planned moves.
pub(crate) fn count(load: &mut Load, samples: &[Sample], planned: &[Range<u64>]) {
    let mut latencies = Vec::new();
    for sample in samples {
        let latency_ms = sample.answered_ms.saturating_sub(sample.sent_ms);
        for (at_ms, code) in &sample.failures {
            *load.failed_attempts.entry(code.clone()).or_default() += 1;
            load.failed_in_planned_moves +=
                u64::from(planned.iter().any(|window| window.contains(at_ms)));
        }
        if sample.acknowledged.is_none() {
            load.given_up += 1;
            continue;
        }
        load.acknowledged += 1;
        load.held += u64::from(latency_ms > HELD_ABOVE_MS);
        latencies.push(latency_ms);
    }
    latencies.sort_unstable();
    load.slowest_ms = latencies.last().copied().unwrap_or_default();
    load.median_ms = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
}

/// Judges the whole drill.
pub(crate) fn findings(
    objectives: &Objectives,
    moves: &[Move],
    loads: &[Load],
    broke_off: Option<&str>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut finding = |objective: &str, wanted: String, measured: String, passed: bool| {
        // Wanted in milliseconds: about time.
        let is_timing = wanted.ends_with(" ms");
        findings.push(Finding {
            objective: objective.to_owned(),
            wanted,
            measured,
            passed,
            is_timing,
        });
    };
    let seen = broke_off.unwrap_or("yes").to_owned();
    finding("the drill came to its end", "yes".to_owned(), seen, broke_off.is_none());
    let ended = moves.iter().filter(|moved| moved.done).count();
    finding("every move ended", moves.len().to_string(), ended.to_string(), ended == moves.len());
    let planned = || moves.iter().filter(|moved| moved.is_planned());
    if planned().next().is_some() {
        let mut pauses: Vec<u64> = planned().filter_map(|moved| moved.write_pause_ms).collect();
        pauses.sort_unstable();
        let (median, worst) = (pauses.get(pauses.len() / 2), pauses.last());
        for (what, measured, wanted) in [
            ("median write pause of planned moves", median, objectives.switchover_pause_median_ms),
            ("longest write pause of planned moves", worst, objectives.switchover_pause_worst_ms),
        ] {
            let passed = measured.is_some_and(|pause| *pause <= wanted);
            finding(what, format!("≤ {wanted} ms"), ms(measured.copied()), passed);
        }
        let failed: u64 = loads.iter().map(|load| load.failed_in_planned_moves).sum();
        let wanted = objectives.failed_in_switchover;
        let what = "requests failed in planned moves";
        finding(what, format!("≤ {wanted}"), failed.to_string(), failed <= wanted);
    }
    let failovers: Vec<&Move> = moves.iter().filter(|moved| moved.verb == "failover").collect();
    if !failovers.is_empty() {
        let all_known = failovers.iter().all(|moved| moved.first_write_ms.is_some());
        let worst =
            failovers.iter().filter_map(|moved| moved.first_write_ms).max().filter(|_| all_known);
        let wanted = objectives.failover_rto_ms;
        let passed = worst.is_some_and(|worst| worst <= wanted);
        finding(
            "longest recovery time (RTO) of failovers",
            format!("≤ {wanted} ms"),
            ms(worst),
            passed,
        );
    }
    evidence(objectives, moves, loads, &mut finding);
    findings
}

fn evidence(
    objectives: &Objectives,
    moves: &[Move],
    loads: &[Load],
    finding: &mut impl FnMut(&str, String, String, bool),
) {
    let lost: u64 =
        loads.iter().map(|load| u64::try_from(load.lost.len()).unwrap_or(u64::MAX)).sum();
    let stake: u64 = loads.iter().flat_map(|load| &load.lost).map(|lost| lost.stake_micro).sum();
    let proven: u64 = loads.iter().map(|load| load.proven).sum();
    let wanted = objectives.rpo_rounds;
    let measured = format!("{lost} rounds, {stake} micro-units; {proven} proven");
    finding(
        "acknowledged rounds lost (RPO)",
        format!("≤ {wanted} rounds"),
        measured,
        lost <= wanted && proven > 0,
    );
    let given_up: u64 = loads.iter().map(|load| load.given_up).sum();
    finding("writes never answered", "0".to_owned(), given_up.to_string(), given_up == 0);
    let logs = || moves.iter().flat_map(|moved| &moved.logs);
    let unproven = logs().filter(|log| log.fault.is_some()).count();
    let measured = format!("{unproven} of {} not", logs().count());
    let passed = unproven == 0 && logs().next().is_some();
    finding("every log extends what each reader served before", "all".to_owned(), measured, passed);
    let held = || moves.iter().flat_map(|m| &m.steps).flat_map(|step| &step.residency);
    let violations = held().filter(|held| !held.violations.is_empty()).count();
    let measured = format!("{violations} violations in {} observations", held().count());
    finding("residency after every step", "0 violations".to_owned(), measured, violations == 0);
}

impl Move {
    /// Whether both regions were alive and clients should have noticed nothing but latency.
    pub(crate) fn is_planned(&self) -> bool {
        matches!(self.verb.as_str(), "switchover" | "failback")
    }
}

fn ms(value: Option<u64>) -> String {
    value.map_or_else(|| "not measured".to_owned(), |value| format!("{value} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_the_longest_gap_that_touches_the_window() {
        let samples: Vec<Sample> = [(0, 1), (10, 1), (310, 2), (320, 2), (5_000, 2)]
            .map(|(at, epoch)| Sample::acknowledged(at, at, epoch))
            .to_vec();
        assert_eq!(write_pause_ms(&samples, &(100..200)), Some(300));
        assert_eq!(write_pause_ms(&samples, &(0..400)), Some(4_680));
        assert_eq!(write_pause_ms(&samples[..1], &(0..400)), None);
        assert_eq!(first_write_ms(&samples, 100, 2), Some(210));
        assert_eq!(first_write_ms(&samples, 100, 3), None);
    }

    #[test]
    fn failures_count_against_planned_moves_only_within_them() {
        let mut sample = Sample::acknowledged(100, 600, 1);
        sample.failures = vec![(150, "no-answer".into()), (450, "no-answer".into())];
        let mut load = Load::default();
        count(&mut load, &[sample, Sample::acknowledged(0, 5, 1)], &vec![400..500; 1]);
        assert_eq!((load.acknowledged, load.held, load.failed_in_planned_moves), (2, 1, 1));
        assert_eq!(load.failed_attempts["no-answer"], 2);
        assert_eq!((load.slowest_ms, load.median_ms), (500, 500));
    }

    #[test]
    fn a_drill_without_proof_of_anything_has_not_passed() {
        let findings = findings(&OBJECTIVES, &[], &[], None);
        assert!(findings.iter().any(|finding| !finding.passed));
    }
}
