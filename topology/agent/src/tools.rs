//! Postgres' own programs: `initdb`, `pg_basebackup`, `pg_controldata`.
//!
//! Invariants: every run has a deadline and is killed at it; output is kept up to a limit; no secret is an argument.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domicile_core::epoch::Lsn;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::error::Error;

/// Output kept of one stream of a tool; the rest is read and dropped.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;
/// Characters of a tool's complaint that an error repeats: its last lines say why.
const MAX_COMPLAINT_CHARS: usize = 600;

/// The programs of one installation.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    bin_dir: PathBuf,
}

impl Tools {
    /// The programs in this folder.
    pub(crate) fn new(bin_dir: &Path) -> Self {
        Self { bin_dir: bin_dir.to_owned() }
    }

    /// A program of the installation, with a plain environment.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        command.env("LC_ALL", "C").env("TZ", "UTC").env_remove("PGPASSWORD").stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and returns what it wrote to its standard output.
    pub(crate) async fn run<A: AsRef<OsStr>>(
        &self,
        program: &'static str,
        args: impl IntoIterator<Item = A>,
        timeout: Duration,
    ) -> Result<String, Error> {
        let mut command = self.command(program);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| Error::step(program, error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let whole = async { tokio::join!(child.wait(), collect(stdout), collect(stderr)) };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let (status, stdout, stderr) = tokio::time::timeout(timeout, whole)
            .await
            .map_err(|_elapsed| Error::Timeout { step: program, timeout_ms })?;
        match status {
            Ok(status) if status.success() => Ok(stdout),
            Ok(status) => Err(Error::step(program, format!("{status}: {}", last_words(&stderr)))),
            Err(error) => Err(Error::step(program, error)),
        }
    }

    /// Reads the control file of a data directory.
    pub(crate) async fn control_data(&self, data_dir: &Path) -> Result<ControlData, Error> {
        let program = "pg_controldata";
        let args = [OsStr::new("-D"), data_dir.as_os_str()];
        let text = self.run(program, args, Duration::from_secs(10)).await?;
        ControlData::parse(&text).ok_or_else(|| Error::step(program, "unexpected output"))
    }
}

async fn collect(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let read = (&mut stream).take(MAX_OUTPUT_BYTES).read_to_end(&mut kept).await;
        let rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        if let Err(error) = read.map(|_| 0).and(rest) {
            tracing::debug!(%error, "a tool's output ended early");
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn last_words(text: &str) -> String {
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(MAX_COMPLAINT_CHARS);
    text.chars().skip(skip).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What the control file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlData {
    /// Equal on a node and its clones.
    pub(crate) system_identifier: u64,
    /// The last shutdown was clean, as primary or as standby.
    pub(crate) clean: bool,
    /// The latest checkpoint.
    pub(crate) checkpoint_lsn: Lsn,
    /// Its timeline.
    pub(crate) timeline: u32,
}

impl ControlData {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        let state = value("Database cluster state")?;
        Some(Self {
            system_identifier: value("Database system identifier")?.parse().ok()?,
            clean: matches!(state, "shut down" | "shut down in recovery"),
            checkpoint_lsn: Lsn::parse(value("Latest checkpoint location")?).ok()?,
            timeline: value("Latest checkpoint's TimeLineID")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_is_read() {
        let text = "pg_control version number:            1800\n\
            Database system identifier:           7571234567890123456\n\
            Database cluster state:               shut down in recovery\n\
            Latest checkpoint location:           0/3000060\n\
            Latest checkpoint's REDO location:    0/3000028\n\
            Latest checkpoint's TimeLineID:       2\n";
        let data = ControlData::parse(text).unwrap();
        assert_eq!(data.system_identifier, 7_571_234_567_890_123_456);
        assert!(data.clean);
        assert_eq!((data.checkpoint_lsn, data.timeline), (Lsn(0x0300_0060), 2));
        assert_eq!(ControlData::parse("nonsense"), None);
    }

    #[tokio::test]
    async fn a_tool_is_bounded_and_says_why_it_failed() {
        let tools = Tools::new(Path::new("/bin"));
        let slow = tools.run("sleep", ["5"], Duration::from_millis(50)).await;
        assert!(matches!(slow, Err(Error::Timeout { .. })));
        let loud = tools.run(
            "sh",
            ["-c", "yes | head -c 1000000; echo no >&2; exit 3"],
            Duration::from_secs(20),
        );
        let message = loud.await.unwrap_err().to_string();
        assert!(message.contains('3') && message.ends_with("no"), "{message}");
        assert!(matches!(tools.run("absent", ["x"], Duration::MAX).await, Err(Error::Step { .. })));
    }
}
