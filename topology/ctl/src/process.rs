//! The processes of a local topology: started detached and unprivileged, recognised by pid *and* start time.
//!
//! Invariants: no process that this state folder did not start is ever signalled (a recycled pid has another start
//! time); when we are root, no child is; a child outlives this command and its terminal (own session).

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often a wait looks again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A process we started, as remembered in `up.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Started {
    /// The process id.
    pub(crate) pid: i32,
    /// Clock ticks after boot at which it started: tells it from a later process with the same id.
    pub(crate) start_ticks: u64,
}

/// The user that children run as when we are root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunAs {
    name: String,
    uid: u32,
    gid: u32,
}

impl RunAs {
    /// Nobody else unless we are root; then `postgres` if there is such a user, else `nobody`.
    pub(crate) fn choose() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = crate::files::read(Path::new("/etc/passwd"))?;
        let found = ["postgres", "nobody"].iter().find_map(|name| Self::find(&passwd, name));
        found.map(Some).ok_or_else(|| {
            anyhow!("we are root and there is neither a user `postgres` nor `nobody` to run the nodes as")
        })
    }

    fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (found, _, uid, gid) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (found == name).then_some(())?;
            Some(Self { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    }

    /// Gives the folder and everything in it to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        let meta = fs::symlink_metadata(path)
            .with_context(|| format!("cannot look at {}", path.display()))?;
        if (meta.uid(), meta.gid()) != (self.uid, self.gid) && !meta.is_symlink() {
            chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give {} to {}", path.display(), self.name))?;
        }
        if meta.is_dir() {
            for entry in fs::read_dir(path)? {
                self.own(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Fails, with the remedy, where this user cannot cross one of the folders above.
    pub(crate) fn can_reach(&self, path: &Path) -> Result<()> {
        for folder in path.ancestors().filter(|folder| folder.is_dir()) {
            let meta = fs::metadata(folder)?;
            let crossable = meta.mode() & 0o001 != 0 || meta.uid() == self.uid;
            if !crossable {
                bail!(
                    "the user `{}`, which the nodes run as, cannot enter {}; choose another folder with --state, \
                     such as /var/lib/domicile",
                    self.name,
                    folder.display()
                );
            }
        }
        Ok(())
    }
}

/// What to start.
pub(crate) struct Program {
    /// The executable.
    pub(crate) path: PathBuf,
    /// Its arguments; never a secret.
    pub(crate) args: Vec<String>,
    /// Its working folder; its output goes to `log` there.
    pub(crate) folder: PathBuf,
}

/// Starts the program in its own session; it lives on when this command ends.
pub(crate) fn start(program: &Program, run_as: Option<&RunAs>) -> Result<Started> {
    let what = || format!("cannot start {}", program.path.display());
    let path = program.folder.join("log");
    let log =
        OpenOptions::new().create(true).append(true).mode(0o640).open(&path).with_context(what)?;
    if let Some(user) = run_as {
        user.own(&path)?;
    }
    let mut command = Command::new("setsid");
    command
        .arg(&program.path)
        .args(&program.args)
        .current_dir(&program.folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(log.try_clone().with_context(what)?)
        .stderr(log);
    if let Some(user) = run_as {
        command.uid(user.uid).gid(user.gid);
    }
    let child = command.spawn().with_context(what)?;
    let pid = i32::try_from(child.id()).with_context(what)?;
    let start_ticks = observe(pid).map(|seen| seen.start_ticks).with_context(what)?;
    Ok(Started { pid, start_ticks })
}

struct Seen {
    start_ticks: u64,
    ended: bool,
}

impl Seen {
    /// Reads the text of `/proc/<pid>/stat`; the name in it may hold blanks and brackets, so fields count from its
    /// last bracket. The state is that of the first thread alone: until the last one has ended, which takes its time
    /// on a busy machine, a killed process keeps its sockets, and nobody else can listen there.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let threads: u32 = fields.get(17)?.parse().ok()?;
        Some(Self {
            ended: matches!(*fields.first()?, "Z" | "X") && threads <= 1,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

fn observe(pid: i32) -> Option<Seen> {
    Seen::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

impl Started {
    /// Recognises a running process by its pid alone, for pids that another program keeps (`postmaster.pid`).
    pub(crate) fn adopt(pid: i32) -> Option<Self> {
        observe(pid)
            .filter(|seen| !seen.ended)
            .map(|seen| Self { pid, start_ticks: seen.start_ticks })
    }

    /// Whether exactly this process still runs.
    pub(crate) fn alive(self) -> bool {
        observe(self.pid).is_some_and(|seen| seen.start_ticks == self.start_ticks && !seen.ended)
    }

    /// Whether it runs this file as it is now, and not one that stood there before.
    pub(crate) fn runs(self, program: &Path) -> bool {
        let running = fs::read_link(format!("/proc/{}/exe", self.pid));
        running.is_ok_and(|running| program.canonicalize().is_ok_and(|now| now == running))
    }

    /// Sends the signal if exactly this process still runs.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        if !self.alive() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid).context("not a process id")?;
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// Waits until the process has gone; false when it has not within the time.
    pub(crate) async fn gone_within(self, limit: Duration) -> bool {
        let begun = Instant::now();
        while self.alive() {
            if begun.elapsed() >= limit {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{self, Look};

    #[test]
    fn a_killed_process_has_ended_when_its_last_thread_has() {
        let seen = |state: char, threads: u32| {
            let text = format!(
                "71 (a (b) c) {state} 1 71 71 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0"
            );
            let seen = Seen::parse(&text).unwrap();
            assert_eq!(seen.start_ticks, 4_711);
            seen.ended
        };
        assert!(!seen('S', 1));
        assert!(!seen('Z', 3), "two of its threads still hold its sockets");
        assert!(seen('Z', 1));
        assert!(seen('X', 0));
    }

    #[tokio::test]
    async fn a_process_is_known_by_its_start_time_and_can_be_ended() {
        let dir = tempfile::tempdir().unwrap();
        let program = Program {
            path: "/bin/sleep".into(),
            args: vec!["60".into()],
            folder: dir.path().to_owned(),
        };
        let started = start(&program, None).unwrap();
        assert!(started.alive());
        let recycled = Started { start_ticks: started.start_ticks + 1, ..started };
        assert!(!recycled.alive(), "another start time is another process");
        recycled.signal(Signal::KILL).unwrap();
        assert!(started.alive(), "a process that is not ours is not signalled");
        started.signal(Signal::KILL).unwrap();
        assert!(started.gone_within(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn a_process_whose_program_was_replaced_runs_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, newer) = (dir.path().join("program"), dir.path().join("program.new"));
        fs::copy("/bin/sleep", &path).unwrap();
        fs::copy("/bin/sleep", &newer).unwrap();
        let (args, folder) = (vec!["60".into()], dir.path().to_owned());
        let program = Program { path: path.clone(), args, folder };
        let started = start(&program, None).unwrap();
        let runs = || async {
            if started.runs(&path) { Look::Done(()) } else { Look::NotYet("another".into()) }
        };
        wait::until("the program", Duration::from_secs(5), runs).await.unwrap();
        fs::rename(newer, &path).unwrap();
        assert!(!started.runs(&path));
        started.signal(Signal::KILL).unwrap();
        assert!(started.gone_within(Duration::from_secs(5)).await);
    }

    #[test]
    fn users_are_found_by_exact_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\n";
        let user = RunAs::find(passwd, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert_eq!(RunAs::find(passwd, "nobody"), None);
    }
}
