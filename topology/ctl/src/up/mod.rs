//! `domicile up`: a whole topology on this machine, from the same document and through the same agents as anywhere.
//!
//! Every step looks first and does only what is missing, so that `up` on a running topology ends quickly and `up` after
//! an interrupted one goes on. Nothing here opens a database connection or touches a database's files.
//! Invariant: connections to Postgres are mutual TLS; only where its programs are built without, and every one of them
//! stays on this machine, they are plain.

mod cluster;
mod ledger;
pub(crate) mod roles;

pub(crate) use cluster::Cluster;

use crate::agents::Agents;
use crate::cli::UpArgs;
use crate::files::{self, MODE_PUBLIC};
use crate::health::{self, Goal};
use crate::keys::KeyFolder;
use crate::layout::{self, Layout};
use crate::person;
use crate::pki::{Authority, CERTIFICATE_DAYS};
use crate::process::{self, Program, RunAs};
use crate::programs;
use crate::provision::{self, Provision};
use crate::term::{self, Steps};
use crate::unit::{self, Part, Unit};
use anyhow::{Context, Result, anyhow, bail};
use domicile_service::clock::{Clock, SystemClock};
use domicile_topology::Topology;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The document used when none is named.
const LOCAL_DOCUMENT: &str = include_str!("../../../examples/local.toml");
/// How long a process may take until it is ready.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// A topology with everything needed to start its processes.
pub(crate) struct Local {
    /// The published topology.
    pub(crate) topology: Topology,
    /// The state folder.
    pub(crate) layout: Layout,
    run_as: Option<RunAs>,
    etcd: PathBuf,
}

/// The command.
pub(crate) async fn run(layout: Layout, args: UpArgs) -> Result<u8> {
    let steps = Steps::start();
    let topology = document(args.topology.as_deref())?;
    if let Some(node) = args.only {
        only(topology, layout, &node, &steps).await?;
    } else {
        let local = whole(topology, layout, &steps).await?;
        addresses(&local)?;
    }
    term::note(format_args!("\nup after {}", term::elapsed(steps.total())))?;
    Ok(0)
}

/// The document named, or the one for this machine.
pub(crate) fn document(path: Option<&Path>) -> Result<Topology> {
    match path {
        Some(path) => layout::parse_topology(path),
        None => Topology::parse(LOCAL_DOCUMENT)
            .map_err(|findings| anyhow!(layout::report(Path::new("local.toml"), &findings))),
    }
}

/// Brings everything up; used by `demo` too.
pub(crate) async fn whole(topology: Topology, layout: Layout, steps: &Steps) -> Result<Local> {
    Steps::heading(format_args!("Domicile `{}` in {}", topology.cluster, layout.root().display()))?;
    let local = prepare(topology, layout, steps, &|_| true).await?;
    let units = unit::all(&local.topology);
    let of = |part: Part| {
        units.iter().filter(move |unit| unit.name.part == part).cloned().collect::<Vec<Unit>>()
    };
    let agents = Agents::new(&local.layout)?;

    Steps::heading("Control plane")?;
    local.start_all(&of(Part::Etcd), &agents, steps).await?;
    let control = Cluster::connect(&local.topology, &local.layout)?;
    steps
        .run("roles in etcd", roles::enforce_unless_in_use(&local.topology, &local.layout))
        .await?;
    steps.run("publish the topology", control.publish(&local.topology)).await?;

    Steps::heading("Databases")?;
    let starting = of(Part::Agent);
    steps.run("agents", async { local.start(&starting) }).await?;
    ledger::bring_up(&local.topology, &agents, &control, steps).await?;

    Steps::heading("Services")?;
    for part in [Part::Writer, Part::Reader, Part::Router] {
        local.start_all(&of(part), &agents, steps).await?;
    }
    Ok(local)
}

/// Makes one node's folders and starts its processes.
async fn only(topology: Topology, layout: Layout, node: &str, steps: &Steps) -> Result<()> {
    let chosen = unit::select(&topology, node)?;
    let local =
        prepare(topology, layout, steps, &|unit| chosen.iter().any(|c| c.name == unit.name))
            .await?;
    steps.run(format_args!("start {node}"), async { local.start(&chosen) }).await?;
    Ok(())
}

/// Programs, keys, certificates and folders; starts nothing.
async fn prepare(
    topology: Topology,
    layout: Layout,
    steps: &Steps,
    wanted: &dyn Fn(&Unit) -> bool,
) -> Result<Local> {
    let (postgres_bin, etcd, run_as) =
        (programs::postgres_bin()?, programs::etcd()?, RunAs::choose()?);
    let postgres_tls = programs::speaks_tls(&postgres_bin);
    if !postgres_tls {
        plain_postgres_stays_here(&topology)?;
    }
    layout.create(run_as.as_ref())?;
    steps.run("programs", async { programs::install(&layout) }).await?;
    let links =
        if postgres_tls { "mutual TLS" } else { "plain, on loopback: it is built without TLS" };
    steps.run("links to PostgreSQL", async { Ok(links.to_owned()) }).await?;
    let topology = steps.run("keys, certificates and folders", async {
        let keys = KeyFolder::open(&layout.operator().join("keys"))?;
        let topology = keys.complete(topology)?;
        let authority = Authority::open_or_create(
            &layout.operator().join("authority"),
            &topology.cluster,
            SystemClock.now_unix_s(),
        )?;
        speak_with_this_authority(&topology, &layout, &authority)?;
        authority.ensure(&layout.first_person_tls(), &person::first(), CERTIFICATE_DAYS)?;
        roles::issue_root(&layout, &authority)?;
        let provision = Provision {
            topology: &topology,
            layout: &layout,
            authority: &authority,
            keys: &keys,
            postgres_bin: &postgres_bin,
            postgres_tls,
            run_as: run_as.as_ref(),
        };
        let units: Vec<Unit> =
            unit::all(&topology).into_iter().filter(|unit| wanted(unit)).collect();
        units.iter().try_for_each(|unit| provision.unit(unit))?;
        let text = topology.to_toml().context("the topology cannot be written")?;
        files::write(&layout.topology_path(), text.as_bytes(), MODE_PUBLIC)?;
        Ok((format!("{} processes", units.len()), topology))
    });
    let (_, topology) = topology.await?;
    Ok(Local { topology, layout, run_as, etcd })
}

/// Refuses to go on while processes run that trust another authority: none of them would answer.
fn speak_with_this_authority(
    topology: &Topology,
    layout: &Layout,
    authority: &Authority,
) -> Result<()> {
    for unit in unit::all(topology) {
        let is_foreign = authority.is_foreign(&layout.unit(&unit.name).join("tls"));
        if is_foreign && layout.process(&unit.name)?.is_some() {
            bail!(
                "{} runs with a certificate of another authority and would not answer; end everything with \
                 `domicile down` (without --purge) first, then `domicile up` again",
                unit.name
            );
        }
    }
    Ok(())
}

/// Refuses a topology whose rows would travel unencrypted.
fn plain_postgres_stays_here(topology: &Topology) -> Result<()> {
    let ledgers = topology.ledgers.iter().map(|node| (&node.node, &node.postgres));
    let readers = topology.readers.iter().map(|node| (&node.node, &node.postgres));
    for (node, address) in ledgers.chain(readers) {
        if !address.host().parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            bail!(
                "this PostgreSQL is built without TLS, and {node} is reached at {address} over the network; \
                 set DOMICILE_PG_BIN to one with TLS (`.ci/tools postgres-tls` brings one)"
            );
        }
    }
    Ok(())
}

impl Local {
    /// What an earlier `up` prepared, for starting single processes again.
    pub(crate) fn open(layout: Layout) -> Result<Self> {
        let topology = layout.topology()?;
        Ok(Self { topology, layout, run_as: RunAs::choose()?, etcd: programs::etcd()? })
    }

    /// Starts those that do not run; says how many were started.
    pub(crate) fn start(&self, units: &[Unit]) -> Result<String> {
        let mut started = 0_u32;
        for unit in units {
            if self.layout.process(&unit.name)?.is_some() {
                continue;
            }
            let process = process::start(&self.program(unit)?, self.run_as.as_ref())?;
            self.layout.update_running(|running| {
                running.processes.insert(unit.name.to_string(), process);
            })?;
            started += 1;
        }
        Ok(match started {
            0 => "running".into(),
            _ => format!("{started} started"),
        })
    }

    /// Starts them and waits until each is ready, all at once.
    async fn start_all(&self, units: &[Unit], agents: &Agents, steps: &Steps) -> Result<()> {
        let names: Vec<String> = units.iter().map(|unit| unit.name.node.to_string()).collect();
        let title = names.join(", ");
        steps
            .run(title, async {
                let started = self.start(units)?;
                for unit in units {
                    self.ready(unit, agents).await?;
                }
                Ok(started)
            })
            .await?;
        Ok(())
    }

    /// Waits until the process is ready; when it has ended instead, shows the end of its log.
    pub(crate) async fn ready(&self, unit: &Unit, agents: &Agents) -> Result<()> {
        let goal = if self.stands_by(unit).await? { Goal::Answers } else { Goal::Ready };
        let waiting = health::reach(agents.client(), unit, goal, READY_WITHIN);
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                result = &mut waiting => return result.with_context(|| self.log_hint(unit)),
                () = tokio::time::sleep(Duration::from_millis(500)) => {
                    if self.layout.process(&unit.name)?.is_none() {
                        return Err(anyhow!("{} ended instead of becoming ready", unit.name)
                            .context(self.log_hint(unit)));
                    }
                }
            }
        }
    }

    /// A writer outside the region that the control record names runs, and takes no requests. While the control plane is
    /// away nobody can tell here which one that is, and the writer goes by what it knew last.
    async fn stands_by(&self, unit: &Unit) -> Result<bool> {
        if unit.name.part != Part::Writer {
            return Ok(false);
        }
        match Cluster::connect(&self.topology, &self.layout)?.record().await {
            Ok(record) => Ok(record.is_some_and(|record| record.writer_region != unit.region)),
            Err(_away) => Ok(true),
        }
    }

    fn program(&self, unit: &Unit) -> Result<Program> {
        let folder = self.layout.unit(&unit.name);
        let Some(name) = unit.name.part.program() else {
            let args = provision::etcd_arguments(&self.topology, &unit.name)?;
            return Ok(Program { path: self.etcd.clone(), args, folder });
        };
        let args = vec!["--config".to_owned(), "config.toml".to_owned()];
        Ok(Program { path: self.layout.bin().join(name), args, folder })
    }

    fn log_hint(&self, unit: &Unit) -> String {
        format!("see {}", self.layout.unit(&unit.name).join("log").display())
    }
}

/// Where to go on from here.
pub(crate) fn addresses(local: &Local) -> Result<()> {
    let ca = local.layout.operator_tls().join("ca.pem");
    let rows: Vec<Vec<String>> = local
        .topology
        .routers
        .iter()
        .map(|router| {
            vec![
                router.region.to_string(),
                router.endpoint.to_string(),
                format!("{}/verify", router.endpoint),
            ]
        })
        .collect();
    term::say(format_args!(
        "\n{}",
        term::table(&["region", "API", "check a proof in the browser"], &rows)
    ))?;
    term::say(format_args!("\ntrust        {}", ca.display()))?;
    term::say(format_args!("public keys  {}", local.layout.topology_path().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Subject;

    #[test]
    fn what_runs_under_another_authority_has_to_end_first() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let layout = Layout::locate(Some(&state), None).unwrap();
        let topology = document(None).unwrap();
        let authority = |name: &str| {
            let at = folder.path().join(name);
            Authority::open_or_create(&at, &topology.cluster, SystemClock.now_unix_s()).unwrap()
        };
        let (old, new) = (authority("old"), authority("new"));
        let unit = unit::all(&topology).into_iter().find(|u| u.name.part == Part::Router).unwrap();
        let subject =
            Subject { role: "router".into(), node: unit.name.node.to_string(), hosts: vec![] };
        old.ensure(&layout.unit(&unit.name).join("tls"), &subject, CERTIFICATE_DAYS).unwrap();
        speak_with_this_authority(&topology, &layout, &new).unwrap();
        let this = process::Started::adopt(i32::try_from(std::process::id()).unwrap()).unwrap();
        layout
            .update_running(|running| {
                running.processes.insert(unit.name.to_string(), this);
            })
            .unwrap();
        speak_with_this_authority(&topology, &layout, &old).unwrap();
        let refused = speak_with_this_authority(&topology, &layout, &new).unwrap_err().to_string();
        assert!(refused.contains("`domicile down`"), "{refused}");
    }

    #[test]
    fn plain_connections_are_for_loopback_only() {
        let topology = document(None).unwrap();
        plain_postgres_stays_here(&topology).unwrap();
        let elsewhere =
            LOCAL_DOCUMENT.replacen("postgres = \"127.0.0.1:", "postgres = \"10.0.0.7:", 1);
        let elsewhere = Topology::parse(&elsewhere).unwrap();
        let refused = plain_postgres_stays_here(&elsewhere).unwrap_err().to_string();
        assert!(refused.contains("10.0.0.7") && refused.contains("DOMICILE_PG_BIN"), "{refused}");
    }
}
