//! The state folder of a local topology: where everything is, and which processes run.
//!
//! ```text
//! <state>/topology.toml          the document with the public keys added: what is published
//! <state>/up.json                the processes started here: pid and start time
//! <state>/bin/                   the programs, as installed by the last `up`
//! <state>/operator/              the operator's own: authority, keys, passwords, the first person's certificate
//! <state>/operator/people/<name> another person's certificate
//! <state>/operator/etcd-root/    the certificate that sets up the users of etcd
//! <state>/nodes/<node>/<part>/   what that process needs, and nothing else: config.toml tls/ secrets/ keys/ log
//! ```
//! Invariant: no node folder holds another node's secret; on separate machines each would get its own folder only.

use crate::files::{self, MODE_FOLDER_PUBLIC, MODE_FOLDER_SECRET, MODE_PUBLIC};
use crate::process::{RunAs, Started};
use crate::unit::{Part, UnitName};
use anyhow::{Context, Result, bail};
use domicile_core::ids::NodeId;
use domicile_topology::{Diagnostic, Topology};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where a local topology lives.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    /// Who acts; the first person when nobody is named.
    person: Option<NodeId>,
}

/// `up.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Running {
    /// By unit name.
    pub(crate) processes: BTreeMap<String, Started>,
}

impl Layout {
    /// The folder given, or the usual one: `/var/lib/domicile` for root, else `~/.local/state/domicile`.
    ///
    /// `person` names who acts; without it the file `operator/as` does, and without that it is the first person.
    pub(crate) fn locate(state: Option<&Path>, person: Option<&NodeId>) -> Result<Self> {
        let root = match state {
            Some(state) => state.to_owned(),
            None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/domicile"),
            None => {
                let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
                let home =
                    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
                base.or(home)
                    .context("neither HOME nor XDG_STATE_HOME is set; name a folder with --state")?
                    .join("domicile")
            }
        };
        let root =
            std::path::absolute(&root).with_context(|| format!("{} is no path", root.display()))?;
        let named = std::fs::read_to_string(root.join("operator/as")).ok();
        let named = named.map(|name| NodeId::parse(name.trim())).transpose();
        let named = named.context("operator/as in the state folder names nobody")?;
        Ok(Self { root, person: person.cloned().or(named) })
    }

    /// Makes the folders; fails when the user that the nodes run as cannot reach them.
    pub(crate) fn create(&self, run_as: Option<&RunAs>) -> Result<()> {
        files::folder(&self.root, MODE_FOLDER_PUBLIC)?;
        files::folder(&self.bin(), MODE_FOLDER_PUBLIC)?;
        files::folder(&self.nodes(), MODE_FOLDER_PUBLIC)?;
        files::folder(&self.operator(), MODE_FOLDER_SECRET)?;
        run_as.map_or(Ok(()), |user| user.can_reach(&self.nodes()))
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    /// Installed programs.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }
    /// The operator's own folder.
    pub(crate) fn operator(&self) -> PathBuf {
        self.root.join("operator")
    }
    /// The certificate of whoever acts.
    pub(crate) fn operator_tls(&self) -> PathBuf {
        self.person.as_ref().map_or_else(|| self.first_person_tls(), |name| self.person_tls(name))
    }
    /// The certificate of the person that `up` makes.
    pub(crate) fn first_person_tls(&self) -> PathBuf {
        self.operator().join("tls")
    }
    /// The certificate of a person.
    pub(crate) fn person_tls(&self, name: &NodeId) -> PathBuf {
        self.operator().join("people").join(name.as_str())
    }
    /// The certificate that may change etcd's users.
    pub(crate) fn etcd_root_tls(&self) -> PathBuf {
        self.operator().join("etcd-root")
    }
    /// What is still to be entered into the operations log.
    pub(crate) fn unsubmitted(&self) -> PathBuf {
        self.operator().join("unsubmitted")
    }
    /// Where the nodes' folders are.
    pub(crate) fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }
    /// The folder of one process.
    pub(crate) fn unit(&self, name: &UnitName) -> PathBuf {
        self.nodes().join(name.node.as_str()).join(name.part.name())
    }
    /// The published document.
    pub(crate) fn topology_path(&self) -> PathBuf {
        self.root.join("topology.toml")
    }
    fn running_path(&self) -> PathBuf {
        self.root.join("up.json")
    }

    /// The topology that was brought up here.
    pub(crate) fn topology(&self) -> Result<Topology> {
        let path = self.topology_path();
        if !path.exists() {
            bail!(
                "there is no topology in {}; `domicile up` starts one, --state names another folder",
                self.root.display()
            );
        }
        parse_topology(&path)
    }

    /// The processes started here.
    pub(crate) fn running(&self) -> Result<Running> {
        let path = self.running_path();
        if !path.exists() {
            return Ok(Running::default());
        }
        serde_json::from_str(&files::read(&path)?)
            .with_context(|| format!("{} is damaged", path.display()))
    }

    /// Changes `up.json` while no other command does.
    pub(crate) fn update_running(&self, change: impl FnOnce(&mut Running)) -> Result<()> {
        let lock = File::create(self.root.join("up.lock")).context("cannot make the lock file")?;
        flock(&lock, FlockOperation::LockExclusive).context("cannot lock the state folder")?;
        let mut running = self.running()?;
        change(&mut running);
        files::write(&self.running_path(), &serde_json::to_vec_pretty(&running)?, MODE_PUBLIC)?;
        Ok(())
    }

    /// The process of a unit, if it runs. Postgres is found by the pid file in its data folder.
    pub(crate) fn process(&self, name: &UnitName) -> Result<Option<Started>> {
        let found = if name.part == Part::Postgres {
            self.postgres(name)
        } else {
            self.running()?.processes.get(&name.to_string()).copied()
        };
        Ok(found.filter(|started| started.alive()))
    }

    fn postgres(&self, name: &UnitName) -> Option<Started> {
        let agent = UnitName { part: Part::Agent, ..name.clone() };
        let data = self.unit(&agent).join("data");
        let pid_file = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let mut lines = pid_file.lines();
        let started = Started::adopt(lines.next()?.trim().parse().ok()?)?;
        // A pid left behind by a crash may belong to anybody by now: the server runs in its data folder.
        let works_in = std::fs::read_link(format!("/proc/{}/cwd", started.pid)).ok()?;
        (works_in == data).then_some(started)
    }
}

/// Reads a document; every finding becomes part of the error.
pub(crate) fn parse_topology(path: &Path) -> Result<Topology> {
    let text = files::read(path)?;
    Topology::parse(&text).map_err(|findings| anyhow::anyhow!("{}", report(path, &findings)))
}

/// Findings as `file:line: message` with the remedy below.
pub(crate) fn report(path: &Path, findings: &[Diagnostic]) -> String {
    let lines: Vec<String> =
        findings.iter().map(|finding| format!("{}:{finding}", path.display())).collect();
    lines.join("\n")
}
