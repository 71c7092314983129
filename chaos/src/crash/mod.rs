//! Crash points: every plan killed before and after each of its steps, on real processes, gone on with, and judged.
//!
//! Invariants: a point counts as passed only if the CLI was seen to die there and the audit holds; what was not tried is
//! said not to have been; after a point that did not pass, the next one begins on a new system.
//! Deliberately absent: killing agents in the middle of what they do; experiments kill whole regions.

mod audit;
mod point;
mod table;
mod trial;

pub use point::{Point, Share, Side, Verb};
pub use table::{Table, Tally, Tried};

use crate::experiment::Stage;
use crate::report::{Versions, Word};
use crate::run::INTERRUPTED;
use crate::stop::Stop;
use crate::suite::{self, Current, Options};
use crate::system::System;
use crate::term::say;
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// Tries the points of a share that have not passed yet, for as long as there is time.
pub async fn run(options: &Options, share: Share) -> Result<Tally> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let begun = Instant::now();
    let first = suite::set(Stage::Manual, 0, options).await?;
    let all = match listed(&first.system).await {
        Ok(all) => all,
        Err(error) => {
            first.end(true).await?;
            return Err(error.context("the plans' steps cannot be listed"));
        }
    };
    let mut table = Table::open(&options.out, all)?;
    let due = table.due(share);
    let known = table.tally(share).passed;
    say(format_args!(
        "{} points, {} in this share, {known} of them passed already",
        table.points(),
        due.len() + known
    ));
    let mut current = Some(first);
    for (number, point) in due.iter().enumerate() {
        if begun.elapsed() >= Duration::from_secs(options.within_s) {
            say("no time is left for another point");
            break;
        }
        let Some(up) = next(&mut current, number, options).await? else {
            say("the system is not this program's to replace: nothing further is tried on it");
            break;
        };
        say(format_args!("{point}"));
        let git = Versions::look(&up.system).await.git;
        let tried = trial::run(&up.system, point, number, &git, options).await?;
        let (word, interrupted) = (tried.word, tried.reason == INTERRUPTED);
        say(format_args!("    {}: {}", word.word(), tried.summary()));
        table.add(tried)?;
        if word == Word::Passed {
            current = Some(up);
        } else {
            up.end(true).await?;
        }
        if interrupted {
            break;
        }
    }
    if let Some(last) = current {
        last.end(false).await?;
    }
    table.write_page()?;
    let tally = table.tally(share);
    say(format_args!("\n{tally}\nreport: {}", table.page().display()));
    Ok(tally)
}

/// The points, once the system is whole and its writer is at home.
async fn listed(system: &System) -> Result<Vec<Point>> {
    trial::prepare(system, Verb::Switchover).await.map_err(Stop::into_error)?;
    point::enumerate(system).await
}

/// The system that is up, or a new one in place of one that a point has spoilt.
async fn next(
    current: &mut Option<Current>,
    number: usize,
    options: &Options,
) -> Result<Option<Current>> {
    if let Some(up) = current.take() {
        return Ok(Some(up));
    }
    if options.state.is_some() {
        return Ok(None);
    }
    suite::set(Stage::Manual, number, options).await.map(Some)
}
