//! Enters plans and drills into the operations log once they have ended, and inspectors' tokens before they are given out.
//!
//! Of what has ended it is best effort, because the writer may be what was moved: the record is first kept in the state folder, and a person is
//! told how to enter it later. Invariant: nothing here changes how a command ends, or keeps it for longer than
//! [`WITHIN`].

use crate::cli::InspectorArgs;
use crate::credentials::Writer;
use crate::files::{self, MODE_FOLDER_SECRET, MODE_SECRET};
use crate::layout::Layout;
use crate::{person, term};
use anyhow::{Context, Result};
use domicile_core::hex;
use domicile_core::operation::REASON_MAX_CHARS;
use domicile_execute::Outcome;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command that has ended waits for its entry.
const WITHIN: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest text of a record.
const TEXT_MAX_CHARS: usize = 100;

/// What is entered.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    kind: &'static str,
    id: String,
    verb: String,
    outcome: String,
    sha256: String,
    reason: String,
}

/// It, with who conducted it.
#[derive(Debug, Serialize)]
struct Conducted<'a> {
    actor: String,
    #[serde(flatten)]
    record: &'a Record,
}

impl Record {
    /// A plan that has ended; `asked` is why a person wanted it, `sha256` the head of its audit file's chain.
    pub(crate) fn plan(
        id: &str,
        verb: &str,
        (outcome, asked): (&Outcome, Option<&str>),
        sha256: &str,
    ) -> Self {
        let word = outcome.word();
        let reason = outcome.reason().or(asked);
        let reason = reason.map_or_else(|| format!("{verb} {word}"), ToOwned::to_owned);
        Self::new("plan", id, verb, word, sha256, &reason)
    }

    /// A drill; `sha256` is that of its signed report.
    pub(crate) fn drill(id: &str, verb: &str, passed: bool, sha256: &str) -> Self {
        let outcome = if passed { "passed" } else { "not-passed" };
        Self::new("drill", id, verb, outcome, sha256, &format!("drill {verb} {outcome}"))
    }

    /// An inspector's token, known by its digest.
    pub(crate) fn inspector(args: &InspectorArgs, token: &str) -> Self {
        let InspectorArgs { jurisdiction, subject, minutes, reason } = args;
        let (subject, life) = (format!("{jurisdiction}/{subject}"), format!("{minutes} minutes"));
        let sha256 = hex::encode(&Sha256::digest(token));
        Self::new("inspector-token", &subject, "token inspector", &life, &sha256, reason)
    }

    fn new(
        kind: &'static str,
        id: &str,
        verb: &str,
        outcome: &str,
        sha256: &str,
        reason: &str,
    ) -> Self {
        let short = |text: &str| text.chars().take(TEXT_MAX_CHARS).collect::<String>();
        Self {
            kind,
            id: short(id),
            verb: short(verb),
            outcome: outcome.to_owned(),
            sha256: sha256.to_owned(),
            reason: fitting(reason),
        }
    }
}

/// As much of a text as one line of the log holds, where what is not printable ASCII is written `\uXXXX`.
fn fitting(reason: &str) -> String {
    let mut left = REASON_MAX_CHARS;
    let fits = |character: &char| {
        let ascii = matches!(character, ' '..='~');
        let written = if ascii { 1 } else { 6 * character.len_utf16() };
        left.checked_sub(written).inspect(|rest| left = *rest).is_some()
    };
    reason.chars().take_while(fits).collect()
}

/// Keeps the record, and enters it if the writer takes it soon.
pub(crate) async fn record(layout: &Layout, record: &Record) {
    let entered = async {
        let path = keep(layout, record)?;
        let sent = tokio::time::timeout(WITHIN, insist(layout, &path)).await;
        let sent = sent.unwrap_or_else(|_late| Err(anyhow::anyhow!("the writer does not take it")));
        sent.with_context(|| {
            format!("enter it later: domicile operations submit {}", path.display())
        })
    };
    if let Err(error) = entered.await {
        let _told = term::note(format_args!("· not in the operations log: {error:#}"));
    }
}

/// Enters a record of what is not done unless the log has it.
pub(crate) async fn first(layout: &Layout, record: &Record) -> Result<()> {
    let writer = Writer::current(layout).await?;
    let sent = writer.post("/internal/v1/operations", &conducted(layout, record)).await;
    let _entered: Value = sent.context("the operations log does not take the entry")?;
    Ok(())
}

/// `domicile operations submit`.
pub(super) async fn file(layout: &Layout, path: &Path) -> Result<u8> {
    send(layout, path).await?;
    let who = person::of(layout)?.uri();
    term::say(format_args!("entered into the operations log by {who}"))?;
    Ok(0)
}

fn keep(layout: &Layout, record: &Record) -> Result<PathBuf> {
    let folder = layout.unsubmitted();
    files::folder(&folder, MODE_FOLDER_SECRET)?;
    let path = folder.join(format!("{}-{}.json", record.kind, record.id.replace(['/', '.'], "-")));
    files::write(&path, &serde_json::to_vec_pretty(&conducted(layout, record))?, MODE_SECRET)?;
    Ok(path)
}

fn conducted<'a>(layout: &Layout, record: &'a Record) -> Conducted<'a> {
    Conducted { actor: person::named(layout).chars().take(TEXT_MAX_CHARS).collect(), record }
}

async fn insist(layout: &Layout, path: &Path) -> Result<()> {
    loop {
        match send(layout, path).await {
            Ok(()) => return Ok(()),
            // A refusal stays one; a writer that is about to serve does not.
            Err(error) if format!("{error:#}").contains("role-insufficient") => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn send(layout: &Layout, path: &Path) -> Result<()> {
    let record: Value = serde_json::from_str(&files::read(path)?)
        .with_context(|| format!("{} holds no record", path.display()))?;
    let writer = Writer::current(layout).await?;
    let _entered: Value = writer.post("/internal/v1/operations", &record).await?;
    // Entered once, whoever sends it again; but it need not be.
    std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_plan_says_why_it_was_asked_for_and_another_why_it_ended() {
        let said =
            |outcome: &Outcome, asked| Record::plan("p", "degrade", (outcome, asked), "").reason;
        let done = Outcome::Completed;
        assert_eq!(said(&done, Some("the link is cut")), "the link is cut");
        assert_eq!(said(&done, None), "degrade completed");
        let called_off = Outcome::CalledOff { reason: "it did not drain".to_owned() };
        assert_eq!(said(&called_off, Some("the link is cut")), "it did not drain");
    }

    #[test]
    fn a_long_reason_is_cut_to_what_the_log_takes() {
        assert_eq!(fitting(&"a".repeat(600)).len(), REASON_MAX_CHARS);
        let umlauts = "\u{fc}".repeat(600);
        let line = domicile_core::operation::line(&fitting(&umlauts)).unwrap();
        assert_eq!(line.as_str().len(), 85 * 6);
    }
}
