//! What was tried so far: a line of JSON for each trial, and a page of every point.
//!
//! Invariant: lines are only added; the last one of a point counts.

use super::point::{Point, Share};
use crate::page::{STYLE, class, escape};
use crate::report::Word;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// One trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tried {
    /// Where the command was killed.
    pub point: Point,
    /// What the step does.
    pub action: String,
    /// The commit.
    pub git: String,
    /// The result.
    pub word: Word,
    /// Why it is not passed.
    pub reason: String,
    /// How the plan ended.
    pub ended: String,
    /// How often `resume` was given.
    pub resumes: u32,
    /// Operations acknowledged meanwhile.
    pub acknowledged: u64,
    /// Comparisons made by the oracles.
    pub compared: u64,
    /// How long all of it took, in milliseconds.
    pub took_ms: u64,
}

impl Tried {
    /// A trial about to begin.
    pub(super) fn new(point: &Point, git: &str) -> Self {
        Self {
            point: point.clone(),
            action: String::new(),
            git: git.to_owned(),
            word: Word::NotRun,
            reason: String::new(),
            ended: "not begun".to_owned(),
            resumes: 0,
            acknowledged: 0,
            compared: 0,
            took_ms: 0,
        }
    }

    /// In a line.
    pub fn summary(&self) -> String {
        let Self { action, ended, resumes, acknowledged, compared, took_ms, reason, .. } = self;
        let seconds = took_ms / 1_000;
        let why = if reason.is_empty() { String::new() } else { format!(" – {reason}") };
        format!(
            "{action}; {ended} after {resumes} × resume; {acknowledged} acknowledged, {compared} compared, {seconds} s{why}"
        )
    }
}

/// How many points of a share came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Killed there, converged, and the audit holds.
    pub passed: usize,
    /// A promise was broken.
    pub failed: usize,
    /// Could not be carried out.
    pub not_run: usize,
    /// Not tried.
    pub not_reached: usize,
}

impl Tally {
    /// In one word.
    pub const fn word(self) -> Word {
        if self.failed > 0 {
            Word::Failed
        } else if self.not_run + self.not_reached > 0 || self.passed == 0 {
            Word::NotRun
        } else {
            Word::Passed
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, not_run, not_reached } = self;
        write!(f, "{passed} passed, {failed} failed, {not_run} not run, {not_reached} not reached")
    }
}

/// All points and what is known of them.
#[derive(Debug)]
pub struct Table {
    folder: PathBuf,
    points: Vec<Point>,
    tried: BTreeMap<Point, Tried>,
}

impl Table {
    /// Reads what a folder holds of these points.
    pub fn open(folder: &Path, points: Vec<Point>) -> Result<Self> {
        let path = folder.join("points.jsonl");
        let text = if path.is_file() {
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?
        } else {
            String::new()
        };
        let mut tried = BTreeMap::new();
        for line in text.lines() {
            let one: Tried = serde_json::from_str(line)
                .with_context(|| format!("{}: `{line}` is no trial", path.display()))?;
            tried.insert(one.point.clone(), one);
        }
        Ok(Self { folder: folder.to_owned(), points, tried })
    }

    /// How many points there are.
    pub const fn points(&self) -> usize {
        self.points.len()
    }

    fn word(&self, point: &Point) -> Option<Word> {
        self.tried.get(point).map(|tried| tried.word)
    }

    fn of(&self, share: Share) -> impl Iterator<Item = &Point> {
        let placed = self.points.iter().enumerate();
        placed.filter(move |(place, _)| share.holds(*place)).map(|(_, point)| point)
    }

    /// The points of a share that have not passed.
    pub fn due(&self, share: Share) -> Vec<Point> {
        self.of(share).filter(|point| self.word(point) != Some(Word::Passed)).cloned().collect()
    }

    /// What a share came to.
    pub fn tally(&self, share: Share) -> Tally {
        let mut tally = Tally::default();
        for point in self.of(share) {
            match self.word(point) {
                Some(Word::Passed) => tally.passed += 1,
                Some(Word::Failed) => tally.failed += 1,
                Some(Word::NotRun) => tally.not_run += 1,
                None => tally.not_reached += 1,
            }
        }
        tally
    }

    /// Adds a trial.
    pub fn add(&mut self, tried: Tried) -> Result<()> {
        let path = self.folder.join("points.jsonl");
        let mut line = serde_json::to_vec(&tried)?;
        line.push(b'\n');
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(&line));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        self.tried.insert(tried.point.clone(), tried);
        self.write_page()
    }

    /// Where the page is.
    pub fn page(&self) -> PathBuf {
        self.folder.join("points.html")
    }

    /// Writes the page.
    pub fn write_page(&self) -> Result<()> {
        let path = self.page();
        std::fs::write(&path, self.render())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn render(&self) -> String {
        let mut out = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>Crash points</title><style>{STYLE}</style><h1>Crash points</h1>\
             <p>{}</p><table><tr><th>verb<th>step<th>killed<th>result<th>how the plan ended<th>resumes<th>acknowledged\
             <th>compared<th>took, s<th>commit</tr>",
            self.tally(Share::ALL)
        );
        for point in &self.points {
            row(&mut out, point, self.tried.get(point));
        }
        out.push_str("</table>");
        out
    }
}

fn row(out: &mut String, point: &Point, tried: Option<&Tried>) {
    let (verb, step, side) = (point.verb.name(), point.step, point.side.name());
    let written = match tried {
        None => writeln!(
            out,
            "<tr><td>{verb}<td class=n>{step}<td>{side}<td class=\"not-run\">not reached<td><td><td><td><td><td></tr>"
        ),
        Some(tried) => writeln!(
            out,
            "<tr><td>{verb}<td class=n>{step}<br><small>{}</small><td>{side}<td class=\"{}\">{}<br><small>{}</small>\
             <td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}<td><code>{}</code></tr>",
            escape(&tried.action),
            class(tried.word),
            tried.word.word(),
            escape(&tried.reason),
            escape(&tried.ended),
            tried.resumes,
            tried.acknowledged,
            tried.compared,
            tried.took_ms / 1_000,
            escape(tried.git.get(..12).unwrap_or(&tried.git)),
        ),
    };
    written.ok();
}

#[cfg(test)]
mod tests {
    use super::super::point::{Side, Verb};
    use super::*;

    fn tried(step: usize, word: Word) -> Tried {
        let point = Point { verb: Verb::Switchover, step, side: Side::Before };
        let action = "promote <b>".to_owned();
        Tried { action, word, ..Tried::new(&point, "0123456789abcdef") }
    }

    #[test]
    fn what_has_passed_is_not_due_again_and_the_last_trial_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let points: Vec<Point> = (1..=3).map(|step| tried(step, Word::Passed).point).collect();
        let mut table = Table::open(folder.path(), points.clone()).expect("a table");
        for (step, word) in [(1, Word::Passed), (2, Word::Failed)] {
            table.add(tried(step, word)).expect("written");
        }
        let mut again = Table::open(folder.path(), points.clone()).expect("a table");
        assert_eq!(again.due(Share::ALL), points[1..]);
        let tally = again.tally(Share::ALL);
        assert_eq!((tally.passed, tally.failed, tally.not_reached), (1, 1, 1));
        assert_eq!(tally.word(), Word::Failed);
        again.add(tried(2, Word::Passed)).expect("written");
        assert_eq!(again.tally(Share::ALL).word(), Word::NotRun, "one was not reached");
        let page = std::fs::read_to_string(again.page()).expect("a page");
        assert!(page.contains("not reached") && page.contains("promote &lt;b&gt;"), "{page}");
    }
}
