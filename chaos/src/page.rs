//! The page of a suite: everything in one file, without scripts and without anything fetched.

use crate::report::{Ending, Report, Word};
use std::fmt::Write as _;

pub(crate) const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}td,th{text-align:left;padding:.3rem .7rem;\
border-bottom:1px solid #d8dee4;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}\
.passed{color:#1a7f37}.failed{color:#b3261e;font-weight:600}.not-run{color:#9a6700;font-weight:600}\
h2{margin-top:2.5rem}code{font-size:.9em}@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}\
td,th{border-color:#30363d}.passed{color:#3fb950}.failed{color:#ff7b72}.not-run{color:#d29922}}";

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(crate) fn class(word: Word) -> &'static str {
    match word {
        Word::Passed => "passed",
        Word::NotRun => "not-run",
        Word::Failed => "failed",
    }
}

fn optional(number: Option<u64>) -> String {
    number.map_or_else(|| "–".to_owned(), |number| number.to_string())
}

/// All runs on one page.
pub fn render(title: &str, reports: &[Report]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escape(title)
    );
    if let Some(first) = reports.first() {
        let v = &first.versions;
        let parts = [&v.git, &v.domicile, &v.postgres, &v.etcd, &v.kernel].map(|part| escape(part));
        writeln!(
            out,
            "<p>Commit <code>{}</code> · {} · {} · {} · Linux {}</p>",
            parts[0], parts[1], parts[2], parts[3], parts[4]
        )
        .ok();
    }
    out.push_str(
        "<table><tr><th>experiment<th>result<th>acknowledged<th>not acknowledged<th>longest gap, ms<th>new epoch, ms\
         <th>redundant, ms<th>p99, ms<th>took, s</tr>",
    );
    for report in reports {
        let (word, reason) = report.result();
        let figures = report
            .judgement
            .as_ref()
            .map(|judgement| judgement.figures.clone())
            .unwrap_or_default();
        writeln!(
            out,
            "<tr><td><a href=\"#{name}\">{name}</a><td class=\"{}\">{}<br><small>{}</small><td class=n>{}<td class=n>{}\
             <td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}</tr>",
            class(word), word.word(), escape(&reason), figures.acknowledged, figures.refused + figures.unknown,
            figures.gap_ms, optional(figures.new_epoch_ms), optional(figures.redundant_ms), figures.latency_p99_ms,
            report.took_ms / 1_000, name = escape(&report.experiment),
        )
        .ok();
    }
    out.push_str("</table>");
    for report in reports {
        section(&mut out, report);
    }
    out
}

fn section(out: &mut String, report: &Report) {
    let (word, reason) = report.result();
    let name = escape(&report.experiment);
    writeln!(
        out,
        "<h2 id=\"{name}\">{name}: <span class=\"{}\">{}</span></h2><p>{}</p><p>Stage {}, seed {}, {} plays due and not sent, \
         CPU pressure {} %.</p>",
        class(word), word.word(), escape(&report.title), escape(&report.stage), report.seed, report.shed,
        escape(&report.versions.cpu_pressure),
    )
    .ok();
    if let Ending::Failed(text) | Ending::NotRun(text) = &report.ending {
        writeln!(out, "<p class=\"{}\">{}</p>", class(word), escape(text)).ok();
    } else if !reason.is_empty() {
        writeln!(out, "<p class=\"{}\">{}</p>", class(word), escape(&reason)).ok();
    }
    out.push_str("<h3>What was done</h3><table><tr><th>at, ms<th>took, ms<th>what</tr>");
    for event in &report.timeline {
        let detail = if event.detail.is_empty() {
            String::new()
        } else {
            format!("<br><small>{}</small>", escape(&event.detail))
        };
        writeln!(
            out,
            "<tr><td class=n>{}<td class=n>{}<td>{}{detail}</tr>",
            event.at_ms,
            event.took_ms,
            escape(&event.what)
        )
        .ok();
    }
    out.push_str(
        "</table><h3>What the oracles say</h3><table><tr><th>oracle<th>compared<th>broken<th></tr>",
    );
    for verdict in report.judgement.iter().flat_map(|judgement| &judgement.verdicts) {
        let counts = report.oracles.contains(&verdict.oracle);
        let class = if verdict.holds() {
            "passed"
        } else if counts {
            "failed"
        } else {
            "not-run"
        };
        let words: Vec<String> = verdict.violations.iter().map(|text| escape(text)).collect();
        writeln!(
            out,
            "<tr><td>{}<td class=n>{}<td class=\"n {class}\">{}<td>{}<br><small>{}</small></tr>",
            verdict.oracle,
            verdict.checked,
            verdict.broken,
            verdict.oracle.title(),
            words.join("<br>"),
        )
        .ok();
    }
    out.push_str("</table>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;
    use crate::report::Versions;

    #[test]
    fn a_page_shows_what_happened_and_lets_no_markup_in() {
        let experiment = Experiment::find("switchover").expect("an experiment");
        let mut report = Report::new(&experiment, 7, Versions::default());
        report.ending = Ending::NotRun("<b>no</b> standby".to_owned());
        let page = render("Suite", &[report]);
        assert!(
            page.contains("NOT RUN") && page.contains("&lt;b&gt;no&lt;/b&gt; standby"),
            "{page}"
        );
        assert!(!page.contains("<script"));
    }
}
