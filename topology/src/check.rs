//! From text to topology: syntax, then the shape of each entry, then the rules between entries.
//!
//! Invariants: every finding of a stage is reported, not only the first; a stage runs only when the one
//! before it found no error, so that one mistake is not reported again as its consequences.

use crate::diagnostic::{Diagnostic, Severity};
use crate::document::Checked;
use crate::limits::{MAX_DIAGNOSTICS, MAX_DOCUMENT_BYTES};
use crate::{read, rules};
use std::collections::BTreeMap;
use toml::de::DeTable;

/// Collects findings, and turns byte offsets into lines.
pub(crate) struct Report {
    line_starts: Vec<usize>,
    diagnostics: Vec<Diagnostic>,
}

/// The lines of a document's entries, by section, number within the section, and key.
#[derive(Default)]
pub(crate) struct Places(BTreeMap<(&'static str, usize), Lines>);

/// The lines of one entry: its first one and one per key.
pub(crate) struct Lines {
    pub(crate) first: usize,
    pub(crate) keys: BTreeMap<String, usize>,
}

impl Report {
    fn new(text: &str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(offset, _)| offset + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self { line_starts, diagnostics: Vec::new() }
    }

    /// The line of a byte offset, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(crate) fn error(&mut self, line: usize, message: String, remedy: impl Into<String>) {
        self.push(Severity::Error, line, message, remedy.into());
    }

    pub(crate) fn warn(&mut self, line: usize, message: String, remedy: impl Into<String>) {
        self.push(Severity::Warning, line, message, remedy.into());
    }

    fn push(&mut self, severity: Severity, line: usize, message: String, remedy: String) {
        self.diagnostics.push(Diagnostic { line, severity, message, remedy });
    }

    pub(crate) fn has_error(&self) -> bool {
        self.diagnostics.iter().any(|found| found.severity == Severity::Error)
    }

    /// The findings, errors among them first to survive the cut, then ordered by line.
    fn finish(mut self) -> Vec<Diagnostic> {
        let found = self.diagnostics.len();
        if found > MAX_DIAGNOSTICS {
            self.diagnostics.sort_by_key(|d| (d.severity, d.line));
            self.diagnostics.truncate(MAX_DIAGNOSTICS);
        }
        self.diagnostics.sort_by_key(|d| (d.line, d.severity));
        if let Some(left_out) = found.checked_sub(MAX_DIAGNOSTICS).filter(|count| *count > 0) {
            let line = self.diagnostics.last().map_or(1, |last| last.line);
            self.error(
                line,
                format!("{left_out} further findings"),
                "Correct the ones above first.",
            );
        }
        self.diagnostics
    }
}

impl Places {
    pub(crate) fn insert(&mut self, section: &'static str, index: usize, lines: Lines) {
        self.0.insert((section, index), lines);
    }

    /// The line of a key, or of its entry when the key is not written there.
    pub(crate) fn line(&self, section: &'static str, index: usize, key: &str) -> usize {
        self.0
            .get(&(section, index))
            .map_or(1, |lines| lines.keys.get(key).copied().unwrap_or(lines.first))
    }

    /// Whether the entry writes the key.
    pub(crate) fn has(&self, section: &'static str, index: usize, key: &str) -> bool {
        self.0.get(&(section, index)).is_some_and(|lines| lines.keys.contains_key(key))
    }
}

/// Reads and checks a document.
pub(crate) fn check(text: &str) -> Checked {
    let mut report = Report::new(text);
    let topology = read_and_check(text, &mut report).filter(|_| !report.has_error());
    Checked { topology, diagnostics: report.finish() }
}

fn read_and_check(text: &str, report: &mut Report) -> Option<crate::Topology> {
    if text.len() > MAX_DOCUMENT_BYTES {
        report.error(
            1,
            format!("the document has {} bytes", text.len()),
            format!("Keep it within {MAX_DOCUMENT_BYTES} bytes."),
        );
        return None;
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = report.line(error.span().map_or(0, |span| span.start));
        // The parser goes on within the line; what it then says is a consequence.
        if report.diagnostics.iter().any(|found| found.line == line) {
            continue;
        }
        let message = error.message().replace('\n', ", ");
        report.error(line, format!("not valid TOML: {message}"), "Correct the syntax.");
    }
    if report.has_error() {
        return None;
    }
    let (topology, places) = read::document(document.get_ref(), report)?;
    if !report.has_error() {
        rules::check(&topology, &places, report);
    }
    Some(topology)
}
