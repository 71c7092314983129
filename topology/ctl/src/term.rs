//! What a person reads on the terminal: lines, steps with their time, tables.
//!
//! Results go to standard output, progress goes to standard error, so that `--json` output can be piped.

use anyhow::Result;
use std::fmt::Display;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Whoever read the result has gone, as `head` does once it has its lines.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output")]
pub(crate) struct NobodyReads;

/// One line of a command's result.
pub(crate) fn say(line: impl Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(NobodyReads.into()),
        written => Ok(written?),
    }
}

/// One line for the person, not part of the result.
pub(crate) fn note(line: impl Display) -> Result<()> {
    writeln!(std::io::stderr().lock(), "{line}")?;
    Ok(())
}

/// A value of the result as indented JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<()> {
    say(serde_json::to_string_pretty(value)?)
}

/// A duration as a person says it: `340 ms`, `4.2 s`, `2 min 5 s`.
pub(crate) fn elapsed(time: Duration) -> String {
    let (ms, s) = (time.as_millis(), time.as_secs());
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s}.{} s", (ms / 100) % 10),
        _ => format!("{} min {} s", s / 60, s % 60),
    }
}

/// Whose process this is, and where.
pub(crate) fn user_and_host() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", host.trim())
}

/// A count of bytes as a person says it: `0 B`, `12.3 kB`, `4.5 MB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{}.{} kB", count / 1_000, (count / 100) % 10),
        _ => format!("{}.{} MB", count / 1_000_000, (count / 100_000) % 10),
    }
}

/// Prints each step of a longer work as it ends, with the time it took.
pub(crate) struct Steps {
    started: Instant,
    live: bool,
}

impl Steps {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), live: std::io::stderr().is_terminal() }
    }

    /// Time since the first step.
    pub(crate) fn total(&self) -> Duration {
        self.started.elapsed()
    }

    /// A heading between steps.
    pub(crate) fn heading(title: impl Display) -> Result<()> {
        note(format_args!("\n{title}"))
    }

    /// Runs one step; `work` answers with what was observed, in a few words.
    pub(crate) async fn run<T: Noted>(
        &self,
        title: impl Display,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        if self.live {
            let mut err = std::io::stderr().lock();
            write!(err, "  … {title}")?;
            err.flush()?;
        }
        let result = work.await;
        let wipe = if self.live { "\r\x1b[2K" } else { "" };
        let took = elapsed(begun.elapsed());
        match &result {
            Ok(value) => note(format_args!("{wipe}  ✓ {title}{} ({took})", value.remark()))?,
            Err(_) => note(format_args!("{wipe}  ✗ {title} ({took})"))?,
        }
        result
    }
}

/// What a step's result adds to its line.
pub(crate) trait Noted {
    /// `: some words`, or nothing.
    fn remark(&self) -> String;
}

impl Noted for () {
    fn remark(&self) -> String {
        String::new()
    }
}

impl Noted for String {
    fn remark(&self) -> String {
        if self.is_empty() { String::new() } else { format!(": {self}") }
    }
}

impl<T> Noted for (String, T) {
    fn remark(&self) -> String {
        self.0.remark()
    }
}

/// A table with aligned columns.
pub(crate) fn table(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headers.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut headers.iter().copied())];
    lines.push(widths.iter().map(|w| "─".repeat(*w)).collect::<Vec<_>>().join("──"));
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_like_a_person_says_them() {
        assert_eq!(elapsed(Duration::from_millis(340)), "340 ms");
        assert_eq!(elapsed(Duration::from_millis(4_250)), "4.2 s");
        assert_eq!(elapsed(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(bytes(12_345), "12.3 kB");
        assert_eq!(bytes(4_560_000), "4.5 MB");
    }

    #[test]
    fn a_table_aligns_its_columns() {
        let text = table(&["node", "role"], &[vec!["ledger-mt".into(), "primary".into()]]);
        assert_eq!(text, "node       role\n──────────────────\nledger-mt  primary");
    }
}
