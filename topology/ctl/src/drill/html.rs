//! The report as a page that stands by itself: no script, no network, prints well.
//!
//! Invariant: everything that comes from outside this program is escaped.

use super::report::{ControlLeader, Event, Load, Move, Phase, PhaseFigure, Report};
use crate::moves::words;
use std::fmt::Display;

const STYLE: &str = include_str!("report.css");

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let verdict = if report.passed { ("passed", "Passed") } else { ("failed", "Not passed") };
    let mut parts = vec![
        format!("<h1>{} drill of {}</h1>", text(&report.drill), text(&report.cluster)),
        format!("<p class=\"verdict {}\">{}</p>", verdict.0, verdict.1),
        facts(report),
        findings(report),
        phase_figures(report),
        preflight(report),
    ];
    parts.extend(report.moves.iter().map(one_move));
    parts.extend(report.loads.iter().map(load));
    parts.push(timeline(&report.timeline));
    parts.push(list("Follow-up", &report.follow_up, "Nothing."));
    parts.push(
        "<p class=\"note\">This page, report.json beside it, and the signature over both in report.note belong \
         together; <code>domicile verify FOLDER --key VKEY</code> checks them.</p>"
            .to_owned(),
    );
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><style>{STYLE}</style>\
         </head><body>\n{}\n</body></html>\n",
        text(&report.id),
        parts.join("\n")
    )
}

fn facts(report: &Report) -> String {
    table(
        "Drill",
        &[],
        &[
            row(["Report", &report.id]),
            row(["Mode", &report.mode]),
            row(["Conducted by", &report.conducted_by]),
            row(["Began", &report.began_at]),
            row(["Ended", &report.ended_at]),
            row(["Topology", &format!("generation {}", report.topology_generation)]),
            row(["SHA-256 of the topology", &report.topology_sha256]),
            row(["Program", &report.program]),
            row(["Leader of the control plane when a region dies", &report.etcd_leader]),
        ],
    )
}

fn findings(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .findings
        .iter()
        .map(|finding| {
            let passed = mark(finding.passed);
            row([&finding.objective, &finding.wanted, &finding.measured, passed])
        })
        .collect();
    table("Objectives", &["objective", "wanted", "measured", ""], &rows)
}

fn phase_figures(report: &Report) -> String {
    if report.phases.is_empty() {
        return String::new();
    }
    let figure = |figure: &PhaseFigure| {
        row([
            &figure.name,
            &figure.count.to_string(),
            &figure.took_median_ms.to_string(),
            &figure.took_worst_ms.to_string(),
            &figure.ended_median_ms.to_string(),
            &figure.ended_worst_ms.to_string(),
        ])
    };
    let rows: Vec<Vec<String>> = report.phases.iter().map(figure).collect();
    let headers = [
        "phase ends with",
        "failovers",
        "took, median ms",
        "worst",
        "after the kill, median ms",
        "worst",
    ];
    table("Failovers, from the kill on", &headers, &rows)
}

fn phases(moved: &Move) -> String {
    if moved.phases.is_empty() {
        return String::new();
    }
    let phase =
        |phase: &Phase| row([&phase.name, &phase.ended_ms.to_string(), &phase.took_ms.to_string()]);
    let rows: Vec<Vec<String>> = moved.phases.iter().map(phase).collect();
    table("Phases", &["phase ends with", "after the kill, ms", "took, ms"], &rows)
}

fn preflight(report: &Report) -> String {
    let checks = &report.preflight.checks;
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            let needed = if check.needed { "needed" } else { "" };
            let weight = check.weight.to_string();
            row([&check.what, weight.as_str(), needed, &check.seen, mark(check.passed)])
        })
        .collect();
    let title = format!("Preflight: readiness {} of 100", report.preflight.score);
    table(&title, &["check", "weight", "", "seen", ""], &rows)
}

fn one_move(moved: &Move) -> String {
    let ms = |value: Option<u64>| {
        value.map_or_else(|| "not measured".to_owned(), |value| format!("{value} ms"))
    };
    let standing = |record: &Option<domicile_topology::record::Record>| {
        record.as_ref().map_or_else(
            || "unknown".to_owned(),
            |record| {
                format!(
                    "epoch {} in {} ({})",
                    record.epoch, record.writer_region, record.writer_node
                )
            },
        )
    };
    let mut rows = vec![
        row(["Outcome", moved.outcome.as_str()]),
        row(["Broken on purpose", moved.fault.as_deref().unwrap_or("nothing")]),
        row(["Writer before", &standing(&moved.before)]),
        row(["Writer after", &standing(&moved.after)]),
        row(["Write pause as clients saw it", &ms(moved.write_pause_ms)]),
        row(["First write of the new epoch after", &ms(moved.first_write_ms)]),
    ];
    if let Some(plan) = &moved.plan {
        let expected = &plan.expected;
        rows.push(row(["Plan", &plan.id]));
        rows.push(row(["Last hash of the audit file", moved.audit_head.as_deref().unwrap_or("–")]));
        rows.push(row(["Expected pause", &format!("{} ms", expected.write_pause_ms)]));
        rows.push(row(["Expected loss", &words::loss(expected.lost_writes)]));
        rows.push(row(["Suspended jurisdictions", &words::list(&expected.suspended)]));
        rows.push(row(["Readers to reseed", &words::list(&expected.reseeded_readers)]));
    }
    if let Some(ControlLeader { node, region }) = &moved.etcd_leader {
        rows.push(row(["Leader of the control plane before it", &format!("{node} in {region}")]));
    }
    let title = format!("Cycle {}: {}", moved.cycle, moved.verb);
    [table(&title, &[], &rows), phases(moved), steps(moved), logs(moved)].join("\n")
}

fn steps(moved: &Move) -> String {
    let rows: Vec<Vec<String>> = if moved.steps.is_empty() {
        let planned = moved.plan.iter().flat_map(|plan| plan.steps.iter().enumerate());
        planned
            .map(|(index, step)| {
                row([
                    (index + 1).to_string().as_str(),
                    &words::action(&step.action),
                    "",
                    "",
                    "",
                    "",
                ])
            })
            .collect()
    } else {
        let run = |step: &super::report::StepRun| {
            let held = step.residency.iter().flat_map(|held| &held.violations);
            let violations: Vec<&str> = held.map(String::as_str).collect();
            let residency = match (step.residency.is_empty(), violations.is_empty()) {
                (true, _) => "not observed".to_owned(),
                (false, true) => "holds".to_owned(),
                (false, false) => violations.join("; "),
            };
            row([
                &step.number.to_string(),
                &step.what,
                &step.began_ms.to_string(),
                &step.ended_ms.saturating_sub(step.began_ms).to_string(),
                &step.outcome,
                &residency,
            ])
        };
        moved.steps.iter().map(run).collect()
    };
    table("Steps", &["", "step", "began, ms", "took, ms", "outcome", "residency"], &rows)
}

fn logs(moved: &Move) -> String {
    let size = |note: &Option<String>| {
        let line = note.as_ref().and_then(|note| note.lines().nth(1));
        line.unwrap_or("–").to_owned()
    };
    let rows: Vec<Vec<String>> = moved
        .logs
        .iter()
        .map(|log| {
            row([
                log.jurisdiction.as_str(),
                log.reader.as_str(),
                &size(&log.before),
                &size(&log.after),
                log.fault.as_deref().unwrap_or("✓ extends"),
            ])
        })
        .collect();
    let headers =
        ["log", "reader", "leaves before", "leaves after", "consistency, checked offline"];
    table("Logs", &headers, &rows)
}

fn load(load: &Load) -> String {
    let money = |(currency, micro): (&String, &u64)| format!("{micro} micro-{currency}");
    let stakes: Vec<String> = load.stake_micro.iter().map(money).collect();
    let failed = load.failed_attempts.iter().map(|(code, count)| format!("{count} × {code}"));
    let failed: Vec<String> = failed.collect();
    let lost: Vec<String> = load
        .lost
        .iter()
        .map(|lost| {
            format!(
                "{} {} ({} micro-{}): {}",
                lost.jurisdiction, lost.round, lost.stake_micro, lost.currency, lost.why
            )
        })
        .collect();
    let none =
        |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join("; ") };
    let rows = [
        row(["Players", &load.players.to_string()]),
        row(["Writes acknowledged", &load.acknowledged.to_string()]),
        row(["Stakes acknowledged", &none(&stakes)]),
        row(["Proofs fetched afterwards and verified offline", &load.proven.to_string()]),
        row(["Acknowledged rounds lost", &none(&lost)]),
        row(["Writes held and then taken", &load.held.to_string()]),
        row(["Attempts that failed, sent again with the same key", &none(&failed)]),
        row(["Of those in planned moves", &load.failed_in_planned_moves.to_string()]),
        row(["Writes never answered", &load.given_up.to_string()]),
        row([
            "Median and slowest write",
            &format!("{} ms, {} ms", load.median_ms, load.slowest_ms),
        ]),
    ];
    table(&format!("Cycle {}: what clients saw", load.cycle), &[], &rows)
}

fn timeline(events: &[Event]) -> String {
    let rows: Vec<Vec<String>> =
        events.iter().map(|event| row([event.at_ms.to_string().as_str(), &event.what])).collect();
    table("Timeline", &["ms", "event"], &rows)
}

fn list(title: &str, items: &[String], none: &str) -> String {
    if items.is_empty() {
        return format!("<h2>{title}</h2><p>{none}</p>");
    }
    let items: Vec<String> = items.iter().map(|item| format!("<li>{}</li>", text(item))).collect();
    format!("<h2>{title}</h2><ul>{}</ul>", items.concat())
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn table(title: &str, headers: &[&str], rows: &[Vec<String>]) -> String {
    let line = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> =
            cells.map(|cell| format!("<{tag}>{}</{tag}>", text(cell))).collect();
        format!("<tr>{}</tr>", cells.concat())
    };
    let mut lines = Vec::new();
    lines.extend((!headers.is_empty()).then(|| line("th", &mut headers.iter().copied())));
    lines.extend(rows.iter().map(|row| line("td", &mut row.iter().map(String::as_str))));
    format!("<h2>{}</h2><table>{}</table>", text(title), lines.join("\n"))
}

const fn mark(passed: bool) -> &'static str {
    if passed { "✓" } else { "✗" }
}

fn text(value: impl Display) -> String {
    let mut escaped = String::new();
    for c in value.to_string().chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::example;

    #[test]
    fn the_page_says_the_verdict_and_nothing_from_outside_is_markup() {
        let mut report = example();
        report.conducted_by = "<script>alert(1)</script>".to_owned();
        let page = page(&report);
        assert!(page.contains("Not passed") && page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script"));
        for what in [
            "readiness 90 of 100",
            "Cycle 1: switchover",
            "✓ extends",
            "Promoted",
            "holds",
            "<td>promotion</td><td>310</td><td>120</td>",
            "etcd-mt in mt-1",
        ] {
            assert!(page.contains(what), "{what} is missing in {page}");
        }
    }
}
