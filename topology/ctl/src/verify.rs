//! `domicile verify`: a bundle and, if given, a bet's opening, checked offline against pinned keys.
//!
//! Reads the files named and nothing else; there is no network here. The checks are the domain's own, the same as the
//! web page's.

use crate::cli::VerifyArgs;
use crate::drill;
use crate::layout;
use crate::term;
use anyhow::{Context, Result, bail};
use domicile_core::bundle::{Bundle, Opening};
use domicile_core::limits::BUNDLE_MAX_BYTES;
use domicile_core::note::VerifierKey;
use domicile_core::verify::{Report, Status, Verdict, verify_bundle};
use serde_json::json;
use std::io::Read;
use std::path::Path;

/// Every step holds.
const VERIFIED: u8 = 0;
/// A step failed: the bundle proves nothing, or the opposite.
const FAILED: u8 = 1;
/// The round has not ended yet; nothing is wrong.
const NOT_REVEALED: u8 = 2;
/// A file cannot be read as what it should be.
const UNREADABLE: u8 = 3;

/// The command.
pub(crate) fn run(args: &VerifyArgs) -> Result<u8> {
    if let Some(folder) = &args.report {
        return drill_report(folder, &pinned(args)?, args.json);
    }
    let report = match check(args) {
        Ok(report) => report,
        Err(error) => {
            term::note(format_args!("domicile: {error:#}"))?;
            return Ok(UNREADABLE);
        }
    };
    if args.json {
        term::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(match report.verdict {
        Verdict::Verified => VERIFIED,
        Verdict::Failed => FAILED,
        Verdict::NotRevealed => NOT_REVEALED,
    })
}

/// The signature over a drill's report; whether the drill passed is the report's own matter.
fn drill_report(folder: &Path, keys: &[VerifierKey], json: bool) -> Result<u8> {
    let checked = drill::verify(folder, keys);
    let (line, verified) = match &checked {
        Ok(line) => (line.clone(), true),
        Err(error) => (format!("NOT verified: {error:#}"), false),
    };
    if json {
        term::json(&json!({ "verified": verified, "report": line }))?;
    } else {
        let mark = if verified { "✓ signature and both files\n" } else { "" };
        term::say(format_args!("{mark}{line}"))?;
    }
    Ok(if verified { VERIFIED } else { FAILED })
}

fn check(args: &VerifyArgs) -> Result<Report> {
    let file = args.file.as_ref().context("no bundle is named")?;
    let bundle =
        Bundle::parse(&read(file)?).with_context(|| format!("{} is no bundle", file.display()))?;
    let opening = match &args.opening {
        Some(path) => Some(
            Opening::parse(&read(path)?)
                .with_context(|| format!("{} is no opening", path.display()))?,
        ),
        None => None,
    };
    Ok(verify_bundle(&bundle, opening.as_ref(), &pinned(args)?))
}

/// The keys that are trusted: named one by one, or those of a topology document.
fn pinned(args: &VerifyArgs) -> Result<Vec<VerifierKey>> {
    let mut keys = Vec::new();
    for text in &args.keys {
        keys.push(
            VerifierKey::parse(text).with_context(|| format!("--key {text} is no verifier key"))?,
        );
    }
    if let Some(path) = &args.topology {
        let topology = layout::parse_topology(path)?;
        let logs = topology.log_keys.iter().map(|key| &key.vkey);
        for vkey in logs.chain(topology.receipt_keys.iter().map(|key| &key.vkey)) {
            keys.push(
                VerifierKey::parse(vkey).with_context(|| format!("{vkey} is no verifier key"))?,
            );
        }
        if keys.is_empty() {
            bail!(
                "{} holds no public keys; `domicile up` writes the document that does",
                path.display()
            );
        }
    }
    Ok(keys)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let limit = u64::try_from(BUNDLE_MAX_BYTES)?;
    let place = || format!("cannot read {}", path.display());
    let file = std::fs::File::open(path).with_context(place)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).with_context(place)?;
    if bytes.len() > BUNDLE_MAX_BYTES {
        bail!("{} exceeds {BUNDLE_MAX_BYTES} bytes", path.display());
    }
    Ok(bytes)
}

fn show(report: &Report) -> Result<()> {
    for step in &report.steps {
        let tick = match step.status {
            Status::Passed => "✓",
            Status::Failed => "✗",
            Status::NotRevealed => "…",
            Status::NotApplicable | Status::NotChecked => "·",
        };
        term::say(format_args!("{tick} {}", step.title))?;
        if !step.detail.is_empty() {
            term::say(format_args!("    {}", step.detail))?;
        }
    }
    term::say(match report.verdict {
        Verdict::Verified => "verified",
        Verdict::Failed => "NOT verified",
        Verdict::NotRevealed => "not revealed yet: the round has not ended",
    })
}
