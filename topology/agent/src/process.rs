//! Processes of the node's Postgres, seen through `/proc`.
//!
//! Invariants: a process counts as ours only if its working directory is our data directory – Postgres changes into
//! it – so that a recycled process id is never taken for it, nor signalled; a zombie counts as dead.
//! Deliberately absent: anything but Linux.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// A living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Living {
    /// Its id.
    pub(crate) pid: Pid,
    /// It was stopped by a signal and does nothing.
    pub(crate) stopped: bool,
}

/// The process of this id, if it is alive and works in `data_dir`.
pub(crate) fn living(pid: i32, data_dir: &Path) -> Option<Living> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let folder = std::fs::read_link(proc.join("cwd")).ok()?;
    if folder != std::fs::canonicalize(data_dir).ok()? {
        return None;
    }
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    let state = stat.rsplit_once(") ")?.1.chars().next()?;
    let pid = Pid::from_raw(pid)?;
    match state {
        'Z' | 'X' | 'x' => None,
        state => Some(Living { pid, stopped: matches!(state, 'T' | 't') }),
    }
}

/// Every living process of this program that works in `data_dir`.
pub(crate) fn all_living(data_dir: &Path, program: &str) -> Vec<Living> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| runs(*pid, program)).filter_map(|pid| living(pid, data_dir)).collect()
}

fn runs(pid: i32, program: &str) -> bool {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    exe.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(program))
}

/// What a server process calls itself, such as `walsender domicile_replication 10.0.0.2(5122) streaming`.
pub(crate) fn title(pid: Pid) -> String {
    let file = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    let bytes = std::fs::read(file).unwrap_or_default();
    own_title(&String::from_utf8_lossy(&bytes))
}

// Postgres writes `postgres: <cluster name>: <title>`; the postmaster keeps its command line.
fn own_title(command_line: &str) -> String {
    let text = command_line.trim_end_matches(['\0', ' ']).replace('\0', " ");
    let title = text.strip_prefix("postgres: ").and_then(|rest| rest.split_once(": "));
    title.map_or(text.as_str(), |(_cluster, title)| title).chars().take(80).collect()
}

/// Sends a signal; a process that is gone meanwhile is fine.
pub(crate) fn signal(living: Living, signal: Signal) {
    if let Err(error) = kill_process(living.pid, signal) {
        tracing::debug!(pid = living.pid.as_raw_nonzero(), %error, "signal not delivered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn titles_are_free_of_the_cluster_name() {
        let sender = "postgres: ledger-a: walsender repl 10.0.0.2(1) streaming 0/3\0\0\0";
        assert_eq!(own_title(sender), "walsender repl 10.0.0.2(1) streaming 0/3");
        assert_eq!(own_title("/bin/postgres\0-D\0/data\0"), "/bin/postgres -D /data");
    }

    #[test]
    fn only_living_processes_of_the_folder_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("30").current_dir(folder.path()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = living(pid, folder.path()).unwrap();
        assert_eq!(living(pid, Path::new("/")), None, "another folder's process");
        assert_eq!(all_living(folder.path(), "sleep"), vec![process]);
        assert_eq!(all_living(folder.path(), "postgres"), vec![]);
        signal(process, Signal::KILL);
        let dead = || living(pid, folder.path()).is_none();
        while !dead() {
            std::thread::yield_now();
        }
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "it is a zombie, and counts as dead");
        child.wait().unwrap();
    }
}
