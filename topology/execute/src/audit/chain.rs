//! The lines, their chain, and the check of both.

use crate::entry::Entry;
use domicile_core::hex;
use domicile_topology::plan::Plan;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::BufRead;
use thiserror::Error;

/// What the first line says of the line before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The longest line, bytes: above what the control plane takes for one value.
const MAX_LINE_BYTES: usize = 2 * 1024 * 1024;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// SHA-256 of the line before, without its line break; [`GENESIS`] in the first.
    pub previous: String,
    /// The plan's id.
    pub plan: String,
    /// 0 for the plan itself, else the number of the journal entry.
    pub number: u32,
    /// The plan, in line 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<Plan>,
    /// The entry, in every other line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
}

/// A file that was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Its lines.
    pub lines: u64,
    /// The hash of the last line; [`GENESIS`] if there is none. A report that signs this fixes the whole file.
    pub head: String,
    /// The number of the last line of each plan.
    pub plans: BTreeMap<String, u32>,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("the audit file cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not one of an audit file.
    #[error("line {line}: {cause}")]
    Malformed {
        /// Which.
        line: u64,
        /// Why.
        cause: String,
    },
    /// A line does not follow the one before it.
    #[error(
        "line {line} does not follow the line before it: something was changed, left out or added"
    )]
    Broken {
        /// Which.
        line: u64,
    },
    /// An entry is missing, or there twice.
    #[error("line {line}: entry {found} of plan {plan} where {expected} belongs")]
    Number {
        /// Which.
        line: u64,
        /// Whose entry.
        plan: String,
        /// Its number.
        found: u32,
        /// The number that follows.
        expected: u32,
    },
}

/// Checks a whole file: every line, its place in the chain, and that no entry of a plan is missing.
pub fn verify(mut reader: impl BufRead) -> Result<Verified, Fault> {
    let mut verified = Verified { head: GENESIS.to_owned(), ..Verified::default() };
    let mut bytes = Vec::new();
    while read_line(&mut reader, &mut bytes)? {
        let number = verified.lines.saturating_add(1);
        let malformed = |cause: String| Fault::Malformed { line: number, cause };
        let Some((b'\n', text)) = bytes.split_last() else {
            return Err(malformed("it is cut short, or too long".to_owned()));
        };
        let line: Line =
            serde_json::from_slice(text).map_err(|error| malformed(error.to_string()))?;
        if line.begins.is_some() == line.entry.is_some() {
            return Err(malformed("it must hold a plan or an entry".to_owned()));
        }
        verified.follow(&line, text, number)?;
    }
    Ok(verified)
}

/// The hash of the last line of a file that holds this plan, its entries in order, and nothing else.
pub fn alone(plan: &Plan, entries: &[Entry]) -> Result<String, serde_json::Error> {
    let id = || plan.id.clone();
    let begins = |previous| Line {
        previous,
        plan: id(),
        number: 0,
        begins: Some(plan.clone()),
        entry: None,
    };
    let mut head = hash(&serde_json::to_vec(&begins(GENESIS.to_owned()))?);
    for (number, entry) in (1..).zip(entries) {
        let entry = Some(entry.clone());
        let line = Line { previous: head, plan: id(), number, begins: None, entry };
        head = hash(&serde_json::to_vec(&line)?);
    }
    Ok(head)
}

impl Verified {
    fn follow(&mut self, line: &Line, text: &[u8], number: u64) -> Result<(), Fault> {
        if line.previous != self.head {
            return Err(Fault::Broken { line: number });
        }
        let expected = self.next(&line.plan);
        if line.number != expected || line.begins.is_some() != (line.number == 0) {
            let (plan, found) = (line.plan.clone(), line.number);
            return Err(Fault::Number { line: number, plan, found, expected });
        }
        self.plans.insert(line.plan.clone(), line.number);
        self.head = hash(text);
        self.lines = number;
        Ok(())
    }

    /// The number that this plan's next line has.
    pub(crate) fn next(&self, plan: &str) -> u32 {
        self.plans.get(plan).map_or(0, |last| last.saturating_add(1))
    }
}

/// The hash of a line without its line break.
pub(crate) fn hash(text: &[u8]) -> String {
    hex::encode(&Sha256::digest(text))
}

/// One line with its break, at most so long; false at the end.
fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> Result<bool, std::io::Error> {
    use std::io::Read as _;
    bytes.clear();
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    Ok(reader.by_ref().take(limit).read_until(b'\n', bytes)? > 0)
}
