//! Standing still: by the kernel's freezer where there is one (all at one point), else by SIGSTOP one after the other.

use crate::process::{self, Process};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long freezing may take.
const FROZEN_WITHIN: Duration = Duration::from_secs(5);

/// Version 1: a hierarchy of its own.
const V1: &str = "/sys/fs/cgroup/freezer";
/// Version 2: the one hierarchy.
const V2: &str = "/sys/fs/cgroup";

#[derive(Debug)]
enum How {
    V1(PathBuf),
    V2(PathBuf),
    Signals,
}

/// Processes that stand still.
#[derive(Debug)]
pub struct Frozen {
    how: How,
    processes: Vec<Process>,
}

/// Makes a group below this hierarchy.
fn group(base: &str) -> std::io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(base).join(format!("domicile-chaos-{}-{number}", std::process::id()));
    fs::create_dir(&path).map(|()| path)
}

/// The freezer that can be used here, if any, and its name.
pub fn available() -> Option<&'static str> {
    for (base, file, name) in
        [(V1, "freezer.state", "cgroup v1 freezer"), (V2, "cgroup.freeze", "cgroup v2 freeze")]
    {
        if let Ok(path) = group(base) {
            let usable = path.join(file).exists();
            fs::remove_dir(&path).ok();
            if usable {
                return Some(name);
            }
        }
    }
    None
}

impl Frozen {
    /// Stops them all, and looks that they stand.
    pub async fn freeze(processes: &[Process]) -> Result<Self> {
        if processes.is_empty() {
            bail!("there is nothing to freeze");
        }
        let how = match available() {
            Some("cgroup v1 freezer") => How::V1(group(V1)?),
            Some(_) => How::V2(group(V2)?),
            None => How::Signals,
        };
        let frozen = Self { how, processes: processes.to_vec() };
        if let Err(error) = frozen.stop().await {
            frozen.thaw().ok();
            return Err(error);
        }
        Ok(frozen)
    }

    /// By what means.
    pub fn how(&self) -> &'static str {
        match self.how {
            How::V1(_) => "cgroup v1 freezer",
            How::V2(_) => "cgroup v2 freeze",
            How::Signals => "SIGSTOP",
        }
    }

    async fn stop(&self) -> Result<()> {
        match &self.how {
            How::V1(path) => {
                self.gather(path)?;
                fs::write(path.join("freezer.state"), "FROZEN")?;
                says(&path.join("freezer.state"), "FROZEN").await
            }
            How::V2(path) => {
                self.gather(path)?;
                fs::write(path.join("cgroup.freeze"), "1")?;
                says(&path.join("cgroup.events"), "frozen 1").await
            }
            How::Signals => {
                self.processes.iter().try_for_each(|process| process.signal(Signal::STOP))?;
                let stopped = |state| matches!(state, Some('T') | None);
                process::until(&self.processes, FROZEN_WITHIN, "stopped", stopped).await
            }
        }
    }

    /// One that has ended meanwhile stands still, too.
    fn gather(&self, path: &Path) -> Result<()> {
        for process in &self.processes {
            let moved = fs::write(path.join("cgroup.procs"), process.pid.to_string());
            if let Err(error) = moved
                && process.state().is_some()
            {
                return Err(error)
                    .with_context(|| format!("process {} stays where it is", process.pid));
            }
        }
        Ok(())
    }

    /// Lets them go on.
    pub fn thaw(self) -> Result<()> {
        let (path, base) = match &self.how {
            How::V1(path) => {
                fs::write(path.join("freezer.state"), "THAWED")?;
                (path, V1)
            }
            How::V2(path) => {
                fs::write(path.join("cgroup.freeze"), "0")?;
                (path, V2)
            }
            How::Signals => {
                return self.processes.iter().try_for_each(|process| process.signal(Signal::CONT));
            }
        };
        // Children that were born meanwhile are in the group as well.
        let members = fs::read_to_string(path.join("cgroup.procs"))?;
        for pid in members.lines() {
            fs::write(Path::new(base).join("cgroup.procs"), pid).ok();
        }
        // A group that still has a member that is just ending cannot go; it is empty and harmless.
        fs::remove_dir(path).ok();
        Ok(())
    }
}

async fn says(file: &Path, words: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(file)?;
        if text.contains(words) {
            return Ok(());
        }
        if begun.elapsed() >= FROZEN_WITHIN {
            bail!("{} says `{}` and not `{words}`", file.display(), text.trim());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
