//! Ending processes: `down`, `stop`, `start`, `kill`.
//!
//! Order of `down`: those who take requests first, then readers and writers, then databases, the control plane last.
//! Each gets SIGTERM and its time to drain, then SIGKILL. Only processes recognised by pid and start time are touched.

use crate::agents::Agents;
use crate::cli::{DownArgs, NodeArgs};
use crate::demo;
use crate::layout::Layout;
use crate::process::Started;
use crate::term::{self, Steps};
use crate::unit::{self, Part, Unit, UnitName};
use crate::up::Local;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::time::Duration;

/// A service may take 60 s to drain; an agent needs its Postgres to stop as well.
const DRAIN_WITHIN: Duration = Duration::from_secs(75);
/// After SIGKILL a process is gone as soon as the kernel is done with it.
const KILL_WITHIN: Duration = Duration::from_secs(10);

/// The order in which parts end.
const ENDING: [&[Part]; 4] =
    [&[Part::Router], &[Part::Writer, Part::Reader], &[Part::Agent], &[Part::Etcd]];

/// `domicile down`.
pub(crate) async fn run(layout: &Layout, args: &DownArgs) -> Result<u8> {
    if !layout.topology_path().exists() {
        term::note(format_args!("nothing is up in {}", layout.root().display()))?;
        return Ok(0);
    }
    let steps = Steps::start();
    let clean = all(layout, &steps).await?;
    if args.purge {
        purge(layout)?;
        term::note(format_args!("deleted {}", layout.root().display()))?;
    }
    Ok(u8::from(!clean))
}

/// Ends everything; false when something had to be killed.
pub(crate) async fn all(layout: &Layout, steps: &Steps) -> Result<bool> {
    demo::wallets::end(layout).await?;
    let units = unit::all(&layout.topology()?);
    let mut clean = true;
    for parts in ENDING {
        let group: Vec<UnitName> = units
            .iter()
            .filter(|unit| parts.contains(&unit.name.part))
            .map(|unit| unit.name.clone())
            .collect();
        let title = parts.iter().map(|part| part.name()).collect::<Vec<_>>().join(" and ");
        let ended = steps.run(format_args!("stop {title}"), end(layout, &group)).await?;
        clean &= ended.1;
    }
    Ok(clean)
}

/// Deletes the state folder, after looking that it is one.
pub(crate) fn purge(layout: &Layout) -> Result<()> {
    let root = layout.root();
    if !(layout.topology_path().exists() && layout.nodes().is_dir()) {
        bail!("{} does not look like a state folder; nothing deleted", root.display());
    }
    std::fs::remove_dir_all(root).with_context(|| format!("cannot delete {}", root.display()))
}

/// SIGTERM to all of the group (to etcd members in turn), then SIGKILL to those that outstay their time.
async fn end(layout: &Layout, group: &[UnitName]) -> Result<(String, bool)> {
    let mut running = Vec::new();
    for name in group {
        if let Some(process) = layout.process(name)? {
            if name.part != Part::Etcd {
                process.signal(Signal::TERM)?;
            }
            running.push((name, process));
        }
    }
    let mut killed = Vec::new();
    for (name, process) in &running {
        // A member hands its leadership on before it ends, so members end one after the other.
        if name.part == Part::Etcd {
            process.signal(Signal::TERM)?;
        }
        if !process.gone_within(DRAIN_WITHIN).await {
            kill_hard(*process).await?;
            killed.push(name.to_string());
        }
    }
    for name in group.iter().filter(|name| name.part == Part::Agent) {
        killed.extend(end_postgres(layout, name).await?);
    }
    let remark = match (running.len(), killed.as_slice()) {
        (0, []) => "not running".to_owned(),
        (count, []) => format!("{count} ended"),
        (count, killed) => format!("{count} ended, killed: {}", killed.join(", ")),
    };
    Ok((remark, killed.is_empty()))
}

/// An agent stops its Postgres; one whose agent was killed is stopped here (SIGINT is Postgres' fast shutdown).
async fn end_postgres(layout: &Layout, agent: &UnitName) -> Result<Option<String>> {
    let name = UnitName { part: Part::Postgres, ..agent.clone() };
    let Some(process) = layout.process(&name)? else { return Ok(None) };
    process.signal(Signal::INT)?;
    if process.gone_within(DRAIN_WITHIN).await {
        return Ok(None);
    }
    process.signal(Signal::QUIT)?;
    if !process.gone_within(KILL_WITHIN).await {
        kill_hard(process).await?;
    }
    Ok(Some(name.to_string()))
}

async fn kill_hard(process: Started) -> Result<()> {
    process.signal(Signal::KILL)?;
    if process.gone_within(KILL_WITHIN).await {
        return Ok(());
    }
    bail!("process {} does not end, even killed", process.pid)
}

/// `domicile start NODE`.
pub(crate) async fn start(layout: Layout, args: &NodeArgs) -> Result<u8> {
    let local = Local::open(layout)?;
    let units = unit::select(&local.topology, &args.node)?;
    let agents = Agents::new(&local.layout)?;
    let steps = Steps::start();
    let starting = async { local.start(&units) };
    steps.run(format_args!("start {}", args.node), starting).await?;
    for unit in &units {
        steps.run(format_args!("{} ready", unit.name), local.ready(unit, &agents)).await?;
    }
    Ok(0)
}

/// `domicile stop NODE`.
pub(crate) async fn stop(layout: &Layout, args: &NodeArgs) -> Result<u8> {
    let names = names(layout, &args.node)?;
    let (_, clean) =
        Steps::start().run(format_args!("stop {}", args.node), end(layout, &names)).await?;
    Ok(u8::from(!clean))
}

/// `domicile kill NODE`.
pub(crate) async fn kill(layout: &Layout, args: &NodeArgs) -> Result<u8> {
    if kill_all(layout, &names(layout, &args.node)?).await?.is_empty() {
        bail!("{} does not run: nothing was killed", args.node);
    }
    term::note(format_args!("killed {}", args.node))?;
    Ok(0)
}

/// Kills those that run here, all at once; which they were.
pub(crate) async fn kill_all(layout: &Layout, names: &[UnitName]) -> Result<Vec<String>> {
    let mut killed = Vec::new();
    for name in names {
        if let Some(process) = layout.process(name)? {
            process.signal(Signal::KILL)?;
            killed.push((name.to_string(), process));
        }
    }
    for (_, process) in &killed {
        kill_hard(*process).await?;
    }
    Ok(killed.into_iter().map(|(name, _)| name).collect())
}

/// The processes meant: also Postgres, which only its agent starts.
fn names(layout: &Layout, wanted: &str) -> Result<Vec<UnitName>> {
    let topology = layout.topology()?;
    if let Some(node) = wanted.strip_suffix("/postgres") {
        let agents = unit::select(&topology, &format!("{node}/agent"))?;
        return Ok(agents
            .into_iter()
            .map(|unit| UnitName { part: Part::Postgres, ..unit.name })
            .collect());
    }
    let units: Vec<Unit> = unit::select(&topology, wanted)?;
    Ok(units.into_iter().map(|unit| unit.name).collect())
}
