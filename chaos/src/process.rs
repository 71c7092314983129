//! Processes of the system under test: recognised by pid *and* start time, stopped, continued, killed.
//!
//! Invariant: only what the system's own state folder names, and its children, is ever signalled.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

/// Most processes of all trees.
const TREES_MAX: usize = 4_096;
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Clock ticks after boot at which it started: tells it from a later one with the same id.
    pub start_ticks: u64,
}

struct Stat {
    state: char,
    parent: i32,
    threads: u32,
    start_ticks: u64,
}

impl Stat {
    /// Reads the text of `/proc/<pid>/stat`; the name in it may hold blanks and brackets, so fields count from its
    /// last bracket.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let threads = fields.nth(15)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        Some(Self { state, parent, threads, start_ticks })
    }

    /// Whether nothing of it runs. The state is that of its first thread alone: until the last one has ended, which
    /// takes its time on a busy machine, the killed process keeps its sockets, and nobody else can listen there.
    fn ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

fn stat(pid: i32) -> Option<Stat> {
    Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

impl Process {
    /// The process that has this id now.
    pub fn of(pid: i32) -> Option<Self> {
        let seen = stat(pid)?;
        (!seen.ended()).then_some(Self { pid, start_ticks: seen.start_ticks })
    }

    /// Its state letter, `None` when it has ended.
    pub fn state(self) -> Option<char> {
        let seen = stat(self.pid).filter(|seen| seen.start_ticks == self.start_ticks)?;
        (!seen.ended()).then_some(seen.state)
    }

    /// What it was started as, or calls itself.
    pub fn title(self) -> String {
        let text = fs::read_to_string(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        text.replace('\0', " ").trim().to_owned()
    }

    /// Sends a signal if exactly this process still runs.
    pub fn signal(self, signal: Signal) -> Result<()> {
        if self.state().is_none() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid).context("not a process id")?;
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot signal process {}", self.pid)),
        }
    }

    /// The process and everything that descends from it.
    pub fn tree(self) -> Vec<Self> {
        trees(vec![self])
    }
}

/// The processes and everything that descends from them, by one look at all there are.
pub fn trees(mut found: Vec<Process>) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(seen) = stat(pid) {
            let child = Process { pid, start_ticks: seen.start_ticks };
            children.entry(seen.parent).or_default().push(child);
        }
    }
    let mut known: BTreeSet<Process> = found.iter().copied().collect();
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        let born = children.remove(&process.pid).unwrap_or_default();
        found.extend(born.into_iter().filter(|child| known.insert(*child)));
        next += 1;
        if found.len() >= TREES_MAX {
            break;
        }
    }
    found
}

/// Waits until every process satisfies the condition on its state.
pub async fn until(
    processes: &[Process],
    within: Duration,
    what: &str,
    holds: impl Fn(Option<char>) -> bool,
) -> Result<()> {
    let begun = Instant::now();
    loop {
        let Some(other) = processes.iter().find(|process| !holds(process.state())) else {
            return Ok(());
        };
        if begun.elapsed() >= within {
            bail!("process {} is not {what} within {} ms", other.pid, within.as_millis());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_has_ended_when_its_last_thread_has() {
        let seen = |state: char, threads: u32| {
            let text = format!(
                "71 (a (b) c) {state} 1 71 71 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 0 0"
            );
            let seen = Stat::parse(&text).expect("a line of /proc");
            assert_eq!((seen.parent, seen.start_ticks), (1, 4_711));
            seen
        };
        assert!(!seen('S', 1).ended());
        assert!(!seen('Z', 3).ended(), "two of its threads still hold its sockets");
        assert!(seen('Z', 1).ended());
        assert!(seen('X', 0).ended());
    }

    #[tokio::test]
    async fn a_tree_is_stopped_continued_and_killed() {
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .expect("a shell");
        let process = Process::of(i32::try_from(shell.id()).expect("a pid")).expect("it runs");
        let begun = Instant::now();
        while process.tree().len() < 2 && begun.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let tree = process.tree();
        assert_eq!(tree.len(), 2);
        let within = Duration::from_secs(5);
        for one in &tree {
            one.signal(Signal::STOP).expect("a signal");
        }
        until(&tree, within, "stopped", |state| state == Some('T')).await.expect("stopped");
        for one in tree.iter().rev() {
            one.signal(Signal::KILL).expect("a signal");
        }
        shell.wait().expect("it ended");
        until(&tree, within, "gone", |state| state.is_none()).await.expect("gone");
        let recycled = Process { start_ticks: process.start_ticks + 1, ..process };
        assert_eq!(recycled.state(), None);
    }
}
