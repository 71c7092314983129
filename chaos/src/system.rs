//! The system under test: a topology on this machine, operated by its own command line only.
//!
//! Invariant: nothing of it is linked; what is looked at is what it publishes: the document, the folder's files, `/proc`.

use crate::namespaces;
use crate::process::Process;
use anyhow::{Context, Result, bail};
use domicile_core::ids::RegionId;
use domicile_topology::Topology;
use domicile_topology::record::Record;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;
use tokio::process::Command;

/// How long any command of the CLI may take.
const COMMAND_WITHIN: Duration = Duration::from_mins(3);
/// Names the step and the side of it at which the CLI aborts.
const CRASH_POINT_VARIABLE: &str = "DOMICILE_CRASH_POINT";
/// Exit code of the CLI when it does not know a command.
pub const UNKNOWN_COMMAND: i32 = 64;

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `domicile`.
    pub domicile: PathBuf,
    /// The folder of Postgres' programs.
    pub postgres_bin: PathBuf,
}

impl Programs {
    /// The CLI beside this program, or beside the folder of a test; Postgres as `.ci/tools` names it.
    pub fn find() -> Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let domicile = own
            .ancestors()
            .skip(1)
            .take(2)
            .map(|folder| folder.join("domicile"))
            .find(|path| path.is_file())
            .context("there is no `domicile` beside this program: run `make build`")?;
        let bin = std::env::var_os("DOMICILE_PG_BIN")
            .context("DOMICILE_PG_BIN names no folder: run under `.ci/tools postgres etcd --`")?;
        Ok(Self { domicile, postgres_bin: bin.into() })
    }
}

/// One process of a node, as `up.json` names it: `writer-mt/writer`.
pub type UnitName = String;

#[derive(Deserialize)]
struct Running {
    processes: BTreeMap<UnitName, Started>,
}

#[derive(Deserialize)]
struct Started {
    pid: i32,
    start_ticks: u64,
}

/// A running topology.
#[derive(Debug, Clone)]
pub struct System {
    /// The programs it runs on.
    pub programs: Programs,
    /// Its folder.
    pub state: PathBuf,
    /// Its published document.
    pub topology: Topology,
    /// The network namespace of each region; empty when all share this machine's.
    pub hosts: BTreeMap<RegionId, String>,
}

impl System {
    /// The topology that is up in a folder.
    pub fn open(programs: Programs, state: &Path) -> Result<Self> {
        let file = state.join("topology.toml");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("there is no topology in {}", state.display()))?;
        let topology = Topology::parse(&text)
            .map_err(|findings| anyhow::anyhow!("{}: {findings:?}", file.display()))?;
        Ok(Self { programs, state: state.to_owned(), topology, hosts: BTreeMap::new() })
    }

    /// Brings a topology up.
    pub async fn up(programs: Programs, state: &Path, document: &str) -> Result<Self> {
        std::fs::create_dir_all(state)
            .with_context(|| format!("cannot make {}", state.display()))?;
        let given = state.join("given.toml");
        std::fs::write(&given, document).context("cannot write the topology")?;
        let up = [OsStr::new("up"), OsStr::new("--topology"), given.as_os_str()];
        let output = command(&programs, state, None, &up, None).await?;
        if !output.status.success() {
            bail!("`domicile up` failed:\n{}", said(&output));
        }
        Self::open(programs, state)
    }

    /// Brings a topology up whose regions are hosts: each node's processes start on its host, the rest is done from here.
    pub async fn up_on(
        programs: Programs,
        state: &Path,
        document: &str,
        hosts: &BTreeMap<RegionId, String>,
    ) -> Result<Self> {
        let topology =
            Topology::parse(document).map_err(|findings| anyhow::anyhow!("{findings:?}"))?;
        std::fs::create_dir_all(state)
            .with_context(|| format!("cannot make {}", state.display()))?;
        let given = state.join("given.toml");
        std::fs::write(&given, document).context("cannot write the topology")?;
        let there = Self {
            programs: programs.clone(),
            state: state.to_owned(),
            topology,
            hosts: hosts.clone(),
        };
        for (region, host) in hosts {
            let mut nodes: Vec<String> = there.units_in(region);
            for unit in &mut nodes {
                unit.truncate(unit.find('/').unwrap_or(unit.len()));
            }
            nodes.dedup();
            for node in nodes {
                let up = ["up", "--only", &node, "--topology"].map(OsStr::new);
                let up = [&up[..], &[given.as_os_str()]].concat();
                let output = command(&programs, state, Some(host), &up, None).await?;
                if !output.status.success() {
                    bail!("`domicile up --only {node}` failed:\n{}", said(&output));
                }
            }
        }
        let system = Self::up(programs, state, document).await?;
        Ok(Self { hosts: hosts.clone(), ..system })
    }

    /// What the topology permits readers to be behind, by jurisdiction, in milliseconds.
    pub fn lag_limits_ms(&self) -> BTreeMap<String, u64> {
        let policies = self.topology.jurisdictions.iter();
        policies.map(|policy| (policy.code.to_string(), policy.lag_limit_ms)).collect()
    }

    /// The host of a node, where regions are hosts.
    pub fn host_of(&self, node: &str) -> Option<&str> {
        let own =
            |units: Vec<UnitName>| units.iter().any(|unit| unit.split('/').next() == Some(node));
        let found = self.hosts.iter().find(|(region, _)| own(self.units_in(region)));
        found.map(|(_, host)| host.as_str())
    }

    /// Ends it and deletes its folder.
    pub async fn down(&self) -> Result<()> {
        let purge = [OsStr::new("down"), OsStr::new("--purge")];
        let output = command(&self.programs, &self.state, None, &purge, None).await?;
        if output.status.success() { Ok(()) } else { bail!("`domicile down`: {}", said(&output)) }
    }

    /// Runs the CLI; whatever it says.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        command(&self.programs, &self.state, None, &arguments, None).await
    }

    /// `domicile start`, on the node's own host.
    pub async fn start(&self, node: &str) -> Result<Output> {
        let start = ["start", node].map(OsStr::new);
        let own = node.split('/').next().unwrap_or(node);
        command(&self.programs, &self.state, self.host_of(own), &start, None).await
    }

    /// Runs the CLI, which is to die at a step of its plan: `4:after`.
    pub async fn cli_dying_at(&self, arguments: &[&str], place: &str) -> Result<Output> {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        command(&self.programs, &self.state, None, &arguments, Some(place)).await
    }

    /// Runs the CLI, which must succeed.
    pub async fn must(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli(arguments).await?;
        if !output.status.success() {
            bail!("`domicile {}` failed:\n{}", arguments.join(" "), said(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `domicile status --json`, also when it is not healthy.
    pub async fn status(&self) -> Result<Value> {
        let output = self.cli(&["status", "--json"]).await?;
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`domicile status` says no JSON:\n{}", said(&output)))
    }

    /// What every node that remembers a control record remembers, by `node/part`.
    pub fn records(&self) -> BTreeMap<UnitName, Record> {
        let mut found = BTreeMap::new();
        for folder in self.unit_folders() {
            let text = std::fs::read(folder.join("topology.record.json")).ok();
            let record = text.and_then(|text| serde_json::from_slice(&text).ok());
            let name = folder.strip_prefix(self.state.join("nodes")).ok();
            if let (Some(record), Some(name)) = (record, name.and_then(Path::to_str)) {
                found.insert(name.to_owned(), record);
            }
        }
        found
    }

    /// The newest record that any node has.
    pub fn record(&self) -> Result<Record> {
        let newest = self.records().into_values().max_by_key(|record| record.epoch.0);
        newest.context("no node knows a control record")
    }

    fn unit_folders(&self) -> Vec<PathBuf> {
        let folders = |path: PathBuf| {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir())
        };
        folders(self.state.join("nodes")).flat_map(folders).collect()
    }

    /// The units of a region, as `up` starts them: `node/part`.
    pub fn units_in(&self, region: &RegionId) -> Vec<UnitName> {
        let t = &self.topology;
        let etcd =
            t.etcd.iter().filter(|n| n.region == *region).map(|n| format!("{}/etcd", n.node));
        let ledgers =
            t.ledgers.iter().filter(|n| n.region == *region).map(|n| format!("{}/agent", n.node));
        let writers =
            t.writers.iter().filter(|n| n.region == *region).map(|n| format!("{}/writer", n.node));
        let readers = t.readers.iter().filter(|n| n.region == *region);
        let readers =
            readers.flat_map(|n| [format!("{}/agent", n.node), format!("{}/reader", n.node)]);
        let routers =
            t.routers.iter().filter(|n| n.region == *region).map(|n| format!("{}/router", n.node));
        etcd.chain(ledgers).chain(readers).chain(writers).chain(routers).collect()
    }

    /// The running process of a unit; `node/postgres` is its postmaster.
    pub fn process(&self, unit: &str) -> Option<Process> {
        if let Some(node) = unit.strip_suffix("/postgres") {
            let data = self.state.join("nodes").join(node).join("agent/data");
            let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
            let process = Process::of(text.lines().next()?.trim().parse().ok()?)?;
            // A pid left behind by a crash may belong to anybody by now: the server runs in its data folder.
            let works_in = std::fs::read_link(format!("/proc/{}/cwd", process.pid)).ok()?;
            return (works_in == data).then_some(process);
        }
        let text = std::fs::read_to_string(self.state.join("up.json")).ok()?;
        let running: Running = serde_json::from_str(&text).ok()?;
        let started = running.processes.get(unit)?;
        let process = Process { pid: started.pid, start_ticks: started.start_ticks };
        process.state().map(|_| process)
    }

    /// The regions that a name means: `primary`, `standby`, or an id.
    pub fn region(&self, name: &str) -> Result<RegionId> {
        let record = self.record()?;
        let found = match name {
            "primary" => Some(record.writer_region),
            "standby" => {
                let other =
                    |n: &&domicile_topology::document::LedgerNode| n.region != record.writer_region;
                self.topology.ledgers.iter().find(other).map(|n| n.region.clone())
            }
            name => {
                self.topology.regions.iter().map(|r| &r.id).find(|id| id.as_str() == name).cloned()
            }
        };
        found.with_context(|| format!("no region is `{name}`"))
    }

    /// Replaces `{primary}`, `{standby}` (regions), `{primary-ledger}`, `{standby-ledger}`, `{primary-writer}` (nodes).
    pub fn fill(&self, text: &str) -> Result<String> {
        if !text.contains('{') {
            return Ok(text.to_owned());
        }
        let mut filled = text.to_owned();
        for role in ["primary", "standby"] {
            let region = self.region(role)?;
            let t = &self.topology;
            let ledger = t.ledgers.iter().find(|n| n.region == region).map(|n| n.node.to_string());
            let writer = t.writers.iter().find(|n| n.region == region).map(|n| n.node.to_string());
            filled = filled
                .replace(&format!("{{{role}}}"), region.as_str())
                .replace(&format!("{{{role}-ledger}}"), &ledger.unwrap_or_default())
                .replace(&format!("{{{role}-writer}}"), &writer.unwrap_or_default());
        }
        if filled.contains('{') {
            bail!("`{text}` names an unknown role");
        }
        Ok(filled)
    }
}

async fn command(
    programs: &Programs,
    state: &Path,
    host: Option<&str>,
    arguments: &[&OsStr],
    dies_at: Option<&str>,
) -> Result<Output> {
    let mut command = on(host, programs.domicile.as_os_str());
    command.args(arguments).env("DOMICILE_STATE", state).kill_on_drop(true);
    command.env("DOMICILE_PG_BIN", &programs.postgres_bin);
    if let Some(place) = dies_at {
        command.env(CRASH_POINT_VARIABLE, place);
    }
    let shown = arguments.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ");
    match tokio::time::timeout(COMMAND_WITHIN, command.output()).await {
        Ok(output) => output.with_context(|| format!("cannot run `domicile {shown}`")),
        Err(_elapsed) => {
            bail!("`domicile {shown}` took longer than {} s", COMMAND_WITHIN.as_secs())
        }
    }
}

/// A command on a host, or here.
pub fn on(host: Option<&str>, program: &OsStr) -> Command {
    let Some(host) = host else { return Command::new(program) };
    let [enter, network] = namespaces::enter(host);
    let mut command = Command::new(enter);
    command.arg(network).arg(program);
    command
}

/// Everything a command printed.
pub fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    text.concat().trim().to_owned()
}
