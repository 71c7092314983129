//! Time on the CPU of processes under test, from /proc. On a shared machine it moves far less than rates do.

use std::collections::HashMap;

/// Kernel ticks per second; Linux shows 100 to every program.
const TICKS_PER_S: u64 = 100;

/// Processes, each with all its descendants.
#[derive(Debug, Clone)]
pub(crate) struct Processes(Vec<i32>);

struct Stat {
    parent: i32,
    own: u64,
    reaped: u64,
}

impl Processes {
    /// The processes with these ids.
    pub(crate) fn new(pids: &[i32]) -> Self {
        Self(pids.to_vec())
    }

    /// Time on the CPU until now, microseconds: of the processes, their living descendants and those reaped.
    pub(crate) fn used_us(&self) -> u64 {
        let all: HashMap<i32, Stat> = std::fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, stat(pid)?)))
            .collect();
        let ours = |mut pid: i32| loop {
            if self.0.contains(&pid) {
                return true;
            }
            match all.get(&pid) {
                Some(stat) if stat.parent > 1 => pid = stat.parent,
                _ => return false,
            }
        };
        let ticks: u64 =
            all.iter().filter(|(pid, _)| ours(**pid)).map(|(_, stat)| stat.own + stat.reaped).sum();
        ticks * (1_000_000 / TICKS_PER_S)
    }
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows its last parenthesis is fields 3, 4, …
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: number(14)? + number(15)?,
        reaped: number(16)? + number(17)?,
    })
}
