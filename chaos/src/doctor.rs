//! What this machine can do to a system: each capability is tried, not guessed.

use crate::delay;
use crate::fault::freezer;
use crate::namespaces::blackhole_works;
use crate::system::Programs;
use crate::term::say;
use anyhow::Result;
use rustix::process::geteuid;
use std::path::Path;

/// One capability.
struct Finding {
    what: &'static str,
    found: std::result::Result<String, String>,
    /// Whether experiments on loopback need it.
    needed: bool,
}

/// Tries what only root can do.
fn as_root(works: fn() -> Result<()>, found: &str) -> std::result::Result<String, String> {
    if !geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    works().map(|()| found.to_owned()).map_err(|error| format!("{error:#}"))
}

fn findings() -> Vec<Finding> {
    let programs = Programs::find();
    let psql = programs.as_ref().map(|programs| programs.postgres_bin.join("psql"));
    let there = |path: &Path| {
        if path.is_file() {
            Ok(path.display().to_string())
        } else {
            Err(format!("{} is missing", path.display()))
        }
    };
    let namespaces = as_root(blackhole_works, "namespaces and one-way drops by policy rules");
    let delay = as_root(delay::works, "packets led through a TUN device");
    vec![
        Finding {
            what: "the CLI",
            found: programs
                .as_ref()
                .map(|p| p.domicile.display().to_string())
                .map_err(|e| format!("{e:#}")),
            needed: true,
        },
        Finding {
            what: "psql, to look into databases",
            found: psql.map_err(|e| format!("{e:#}")).and_then(|path| there(&path)),
            needed: true,
        },
        Finding {
            what: "kill -9, SIGSTOP, SIGCONT",
            found: Ok(if geteuid().is_root() {
                "of every user's processes"
            } else {
                "of our own processes"
            }
            .to_owned()),
            needed: true,
        },
        Finding {
            what: "a region stands still at one point",
            found: freezer::available()
                .map(str::to_owned)
                .ok_or_else(|| "no writable freezer: SIGSTOP one by one instead".to_owned()),
            needed: false,
        },
        Finding {
            what: "regions as hosts, cut one way or both (--netns)",
            found: namespaces,
            needed: false,
        },
        Finding { what: "delay between regions (--netns)", found: delay, needed: false },
        Finding {
            what: "CPU pressure, to distrust a run",
            found: std::fs::read_to_string("/proc/pressure/cpu")
                .map(|text| text.lines().next().unwrap_or_default().to_owned())
                .map_err(|error| error.to_string()),
            needed: false,
        },
    ]
}

/// Prints each; false when something is missing without which nothing can be run.
pub fn run() -> bool {
    let mut usable = true;
    for finding in findings() {
        let (answer, text) = match &finding.found {
            Ok(text) => ("yes", text),
            Err(text) => ("no", text),
        };
        usable &= finding.found.is_ok() || !finding.needed;
        say(format_args!("{answer:<4} {:<40} {text}", finding.what));
    }
    usable
}
