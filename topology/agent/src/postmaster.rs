//! Starting, stopping and finding the node's Postgres.
//!
//! Invariants: what runs is judged by `postmaster.pid` and `/proc` alone, so that a Postgres the previous agent left
//! behind is adopted like a child of this one; the agent's end does not end Postgres by itself; a start first clears
//! away what a killed postmaster left over. Deliberately absent: whether to start, and as what.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use domicile_topology::agent_api::StopMode;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::decide::Disk;
use crate::error::Error;
use crate::process::{self, Living};
use crate::tools::Tools;

/// How often a starting or stopping server is looked at.
const POLL: Duration = Duration::from_millis(4);
/// A fast shutdown that takes longer becomes an immediate one.
pub(crate) const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// A clean stop that takes longer is given up: replication connections to the dead are over by then.
const CLEAN_STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// A clean stop that takes longer is helped along.
const HELP_AFTER: Duration = Duration::from_millis(300);
/// A primary that another has replaced gets this long to stop cleanly.
pub(crate) const YIELD_TIMEOUT: Duration = Duration::from_secs(2);
/// After an immediate shutdown Postgres kills its own children within 5 s.
pub(crate) const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Until a started server takes connections; recovery goes on beyond it, the call does not.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(50);

/// What runs on the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Nothing.
    Down,
    /// A server that does not take connections (yet, or any more).
    Busy(Living),
    /// A server that takes connections.
    Up(Living),
}

/// The node's Postgres server.
#[derive(Debug, Clone)]
pub(crate) struct Postmaster {
    tools: Tools,
    data_dir: PathBuf,
    config_file: PathBuf,
    start_log: PathBuf,
}

impl Postmaster {
    /// The server of this data directory, configured by this file.
    pub(crate) fn new(tools: Tools, data_dir: &Path, config_file: &Path, start_log: &Path) -> Self {
        Self {
            tools,
            data_dir: data_dir.to_owned(),
            config_file: config_file.to_owned(),
            start_log: start_log.to_owned(),
        }
    }

    /// What the data directory is.
    pub(crate) fn disk(&self) -> Disk {
        if !self.data_dir.join("PG_VERSION").exists() {
            Disk::Absent
        } else if self.standby_signal().exists() {
            Disk::Standby
        } else {
            Disk::Primary
        }
    }

    /// What runs.
    pub(crate) fn presence(&self) -> Presence {
        let text = std::fs::read_to_string(self.pid_file()).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.trim().parse().ok());
        let Some(living) = pid.and_then(|pid| process::living(pid, &self.data_dir)) else {
            return Presence::Down;
        };
        // Line 8 of the file, the seventh after the process id, is the server's own word on itself.
        match lines.nth(6).map(str::trim) {
            Some("ready" | "standby") => Presence::Up(living),
            _ => Presence::Busy(living),
        }
    }

    /// Starts the server, or adopts the one that runs, and waits until it takes connections. True if started now.
    pub(crate) async fn start(&self) -> Result<bool, Error> {
        let deadline = Instant::now() + START_TIMEOUT;
        let started = self.presence() == Presence::Down;
        let exited = if started { Some(self.launch()?) } else { None };
        loop {
            match self.presence() {
                Presence::Up(_) => return Ok(started),
                Presence::Down
                    if exited.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) =>
                {
                    return Err(Error::step("start postgres", self.start_complaint()));
                }
                Presence::Down | Presence::Busy(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(timeout("start postgres", START_TIMEOUT));
            }
            sleep(POLL).await;
        }
    }

    fn launch(&self) -> Result<tokio::task::JoinHandle<()>, Error> {
        self.clear_leftovers();
        let failed = |error: io::Error| Error::step("start postgres", error);
        let mut options = OpenOptions::new();
        let log = options.write(true).create(true).truncate(true).mode(0o600).open(&self.start_log);
        let log = log.map_err(failed)?;
        let mut command = self.tools.command("postgres");
        command.arg("-D").arg(&self.data_dir);
        command.arg("-c").arg(format!("config_file={}", self.config_file.display()));
        command.stdout(log.try_clone().map_err(failed)?).stderr(Stdio::from(log)).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        // Waiting for the child keeps it from becoming a zombie that looks alive.
        Ok(tokio::spawn(async move {
            match child.wait().await {
                Ok(status) if status.success() => tracing::info!("postgres ended"),
                Ok(status) => tracing::warn!(%status, "postgres ended"),
                Err(error) => tracing::error!(%error, "postgres cannot be waited for"),
            }
        }))
    }

    // Children of a killed postmaster hold the shared memory, and a stopped one would hold it for ever.
    fn clear_leftovers(&self) {
        for leftover in process::all_living(&self.data_dir, "postgres") {
            tracing::warn!(pid = leftover.pid.as_raw_nonzero(), "killing a leftover of postgres");
            process::signal(leftover, Signal::KILL);
        }
        // Nothing of ours runs: a process of the same id is somebody else's and would hinder the start.
        match std::fs::remove_file(self.pid_file()) {
            Ok(()) => tracing::info!("removed the lock file of a dead postmaster"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cannot remove the lock file"),
        }
    }

    /// Stops the server; a fast stop that takes too long becomes an immediate one. True if it ran.
    pub(crate) async fn stop(&self, mode: StopMode) -> Result<bool, Error> {
        let wait = match mode {
            StopMode::Fast => FAST_STOP_TIMEOUT,
            StopMode::Immediate => Duration::ZERO,
        };
        self.stop_within(wait).await
    }

    /// Stops the server: fast if it manages in this time, immediately if not. True if it ran. One that is frozen cannot
    /// hear it and is killed, with all its processes, so that it does not go on where it stood once it thaws; the next start
    /// recovers as after a crash.
    pub(crate) async fn stop_within(&self, wait: Duration) -> Result<bool, Error> {
        let ran = self.presence() != Presence::Down;
        if let Presence::Busy(living) | Presence::Up(living) = self.presence()
            && living.stopped
        {
            tracing::warn!("postgres is frozen: killing it");
            return self.killed().await.map(|()| ran);
        }
        if wait > Duration::ZERO && self.signalled(Signal::INT, wait).await {
            return Ok(ran);
        }
        if self.signalled(Signal::QUIT, IMMEDIATE_STOP_TIMEOUT).await {
            return Ok(ran);
        }
        Err(timeout("stop postgres", IMMEDIATE_STOP_TIMEOUT))
    }

    async fn killed(&self) -> Result<(), Error> {
        let deadline = Instant::now() + IMMEDIATE_STOP_TIMEOUT;
        while Instant::now() < deadline {
            let living = process::all_living(&self.data_dir, "postgres");
            if living.is_empty() {
                return Ok(());
            }
            for process in living {
                process::signal(process, Signal::KILL);
            }
            sleep(POLL).await;
        }
        Err(timeout("kill postgres", IMMEDIATE_STOP_TIMEOUT))
    }

    /// Stops the server cleanly. What holds the stop up – a stopped process, or one of `senders`, which were told to end
    /// and have not – is helped along, because the server waits for it. The control file says whether it was clean.
    pub(crate) async fn stop_cleanly(&self, senders: &[i32]) -> Result<bool, Error> {
        let begun = Instant::now();
        if let Presence::Busy(living) | Presence::Up(living) = self.presence() {
            process::signal(living, Signal::INT);
        }
        // A reader's stopped sender is woken at once: it has been told to end, and the server waits for it.
        for sender in
            self.stalled().into_iter().filter(|s| senders.contains(&s.pid.as_raw_nonzero().get()))
        {
            process::signal(sender, Signal::CONT);
        }
        let mut helped_at = begun;
        while begun.elapsed() < CLEAN_STOP_TIMEOUT {
            if self.presence() == Presence::Down {
                return Ok(true);
            }
            if helped_at.elapsed() >= HELP_AFTER {
                helped_at = Instant::now();
                self.help_to_end(senders);
            }
            sleep(POLL).await;
        }
        self.stop_within(Duration::ZERO).await
    }

    // A process that was stopped by a signal does not see the one that ends it until it goes on.
    fn help_to_end(&self, senders: &[i32]) {
        for sender in senders.iter().filter_map(|pid| process::living(*pid, &self.data_dir)) {
            process::signal(sender, Signal::TERM);
        }
        for stopped in self.stalled() {
            tracing::warn!(
                pid = stopped.pid.as_raw_nonzero(),
                "waking a stopped process to end it"
            );
            process::signal(stopped, Signal::CONT);
        }
    }

    async fn signalled(&self, signal: Signal, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        match self.presence() {
            Presence::Down => return true,
            Presence::Busy(living) | Presence::Up(living) => process::signal(living, signal),
        }
        while Instant::now() < deadline {
            if self.presence() == Presence::Down {
                return true;
            }
            sleep(POLL).await;
        }
        false
    }

    /// Makes the server read its configuration again.
    pub(crate) fn reload(&self) {
        if let Presence::Busy(living) | Presence::Up(living) = self.presence() {
            process::signal(living, Signal::HUP);
        }
    }

    /// Processes of the server that were stopped by a signal: a stopped walsender stops every commit.
    pub(crate) fn stalled(&self) -> Vec<Living> {
        let all = process::all_living(&self.data_dir, "postgres");
        all.into_iter().filter(|process| process.stopped).collect()
    }

    /// The file that makes the data directory a standby's.
    pub(crate) fn standby_signal(&self) -> PathBuf {
        self.data_dir.join("standby.signal")
    }

    /// Signals one of the server's processes; one that is not the server's is left alone.
    pub(crate) fn signal_process(&self, pid: u32, signal: Signal) {
        let pid = i32::try_from(pid).ok();
        if let Some(living) = pid.and_then(|pid| process::living(pid, &self.data_dir)) {
            process::signal(living, signal);
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.data_dir.join("postmaster.pid")
    }

    fn start_complaint(&self) -> String {
        let text = std::fs::read_to_string(&self.start_log).unwrap_or_default();
        let telling = |line: &&str| line.contains("FATAL") || line.contains("PANIC");
        match text.lines().rfind(telling).or(text.lines().last()) {
            Some(line) => line.chars().take(300).collect(),
            None => format!("postgres ended; see the log folder of {}", self.start_log.display()),
        }
    }
}

fn timeout(step: &'static str, limit: Duration) -> Error {
    Error::Timeout { step, timeout_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }
}
