//! `kill -9`.

use super::{Heal, Injected, SIGNAL_WITHIN};
use crate::process::{self, Process};
use crate::system::{System, UnitName};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::collections::BTreeSet;

/// One process. The agent starts its own Postgres again; everything else waits for somebody to start it.
pub(super) async fn unit(system: &System, unit: &str) -> Result<Injected> {
    let process = system.process(unit).with_context(|| format!("{unit} does not run"))?;
    process.signal(Signal::KILL)?;
    process::until(&[process], SIGNAL_WITHIN, "gone", |state| state.is_none()).await?;
    let heal = if unit.ends_with("/postgres") {
        Heal::Nothing
    } else {
        Heal::Start(vec![unit.to_owned()])
    };
    Ok(Injected { what: format!("killed {unit} (pid {})", process.pid), heal })
}

/// The units of a node, its Postgres included.
pub(super) fn of_node(system: &System, node: &str) -> Result<Vec<UnitName>> {
    let own: Vec<UnitName> = everywhere(system).filter(|unit| node_of(unit) == node).collect();
    if own.is_empty() {
        bail!("no node is `{node}`");
    }
    Ok(with_databases(own))
}

/// The units of a region, the databases included.
pub(super) fn of_region(system: &System, region: &str, etcd: bool) -> Result<Vec<UnitName>> {
    let mut units = system.units_in(&system.region(region)?);
    units.retain(|unit| etcd || !unit.ends_with("/etcd"));
    Ok(with_databases(units))
}

/// Every member of etcd.
pub(super) fn of_control_plane(system: &System) -> Result<Vec<UnitName>> {
    let members: Vec<UnitName> =
        everywhere(system).filter(|unit| unit.ends_with("/etcd")).collect();
    if members.is_empty() {
        bail!("the topology has no etcd");
    }
    Ok(members)
}

fn everywhere(system: &System) -> impl Iterator<Item = UnitName> + '_ {
    system.topology.regions.iter().flat_map(|region| system.units_in(&region.id))
}

fn node_of(unit: &str) -> &str {
    unit.split_once('/').map_or(unit, |(node, _)| node)
}

/// Agents first, so that none starts its Postgres again while it is killed.
fn with_databases(units: Vec<UnitName>) -> Vec<UnitName> {
    let (mut ordered, others): (Vec<_>, Vec<_>) =
        units.into_iter().partition(|unit| unit.ends_with("/agent"));
    let databases: Vec<UnitName> =
        ordered.iter().map(|agent| format!("{}/postgres", node_of(agent))).collect();
    ordered.extend(databases);
    ordered.extend(others);
    ordered
}

/// All of these at once, with everything that descends from them.
pub(super) async fn all(system: &System, units: Vec<UnitName>, what: String) -> Result<Injected> {
    let find =
        |unit: &UnitName| system.process(unit).with_context(|| format!("{unit} does not run"));
    let doomed = process::trees(units.iter().map(find).collect::<Result<Vec<Process>>>()?);
    for process in &doomed {
        process.signal(Signal::KILL)?;
    }
    process::until(&doomed, SIGNAL_WITHIN, "gone", |state| state.is_none()).await?;
    let nodes: BTreeSet<String> = units.iter().map(|unit| node_of(unit).to_owned()).collect();
    let what = format!("{what}: {} processes", doomed.len());
    Ok(Injected { what, heal: Heal::Start(nodes.into_iter().collect()) })
}
