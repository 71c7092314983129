//! The agent of one node: its parts, its memory and the one operation that runs at a time.
//!
//! Invariants: operations exclude each other, and the supervision that restarts Postgres; memory is on disk before
//! it is acted upon; the generated configuration follows from memory, topology and configuration file alone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use domicile_core::ids::{Jurisdiction, NodeId};
use domicile_service::client::HttpClient;
use domicile_service::ids::IdSource;
use domicile_topology::address::Address;
use domicile_topology::agent_api::{Role, limits};
use domicile_topology::observed::{NodeKind, Probe};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::MutexGuard;

use crate::access::{self, Writer};
use crate::config::AgentConfig;
use crate::control::ControlPlane;
use crate::database::Database;
use crate::decide::{Disk, Refusal, Start, StartFacts, may_start};
use crate::error::Error;
use crate::memory::{self, Memory};
use crate::observe::Observer;
use crate::postmaster::{Postmaster, Presence};
use crate::settings::{self, Common, REPLICATION_ROLE, REWIND_ROLE, RoleSettings, Upstream};
use crate::stream::Heard;
use crate::tools::Tools;
use crate::transfer::{AdmitFacts, may_admit_writer};

/// The agent of one node.
pub struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) control: Arc<dyn ControlPlane>,
    pub(crate) ids: IdSource,
    pub(crate) tools: Tools,
    pub(crate) postmaster: Postmaster,
    pub(crate) database: Database,
    pub(crate) files: Files,
    memory: Mutex<Memory>,
    turn: tokio::sync::Mutex<()>,
    refusal: Mutex<Option<Refusal>>,
    pub(crate) trouble: Mutex<Option<String>>,
    pub(crate) probe: Mutex<Option<Probe>>,
    pub(crate) restarts: AtomicU64,
    /// Operations that have ended.
    pub(crate) operations: AtomicU64,
    pub(crate) beaten: Mutex<Option<tokio::time::Instant>>,
    pub(crate) heard: Mutex<Heard>,
    pub(crate) outside: OnceLock<HttpClient>,
    pub(crate) observer: tokio::sync::Mutex<Observer>,
    was_up: AtomicBool,
}

/// The right to change the node, until dropped.
pub(crate) struct Turn<'a> {
    ended: &'a AtomicU64,
    _held: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.ended.fetch_add(1, Ordering::Release);
    }
}

/// Generated files, all in `config_dir`.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) common: PathBuf,
    pub(crate) role: PathBuf,
    pub(crate) access: PathBuf,
    pub(crate) ident: PathBuf,
    pub(crate) passfile: PathBuf,
    pub(crate) memory: PathBuf,
}

impl Agent {
    /// The agent of this configuration. Makes the configuration and log folders; starts nothing.
    pub fn new(
        config: AgentConfig,
        control: Arc<dyn ControlPlane>,
        ids: IdSource,
    ) -> Result<Arc<Self>, Error> {
        let folder = &config.postgres.config_dir;
        let log_dir = config.postgres.log_dir();
        let file = |name: &str| folder.join(name);
        let failed = |error| Error::step("prepare the configuration folder", error);
        memory::private_folder(folder).map_err(failed)?;
        memory::private_folder(&log_dir).map_err(failed)?;
        let files = Files {
            common: file("postgresql.conf"),
            role: file("role.conf"),
            access: file("pg_hba.conf"),
            ident: file("pg_ident.conf"),
            passfile: file("pgpass"),
            memory: file("memory.json"),
        };
        let remembered = Memory::read(&files.memory);
        let remembered =
            remembered.map_err(|error| Error::step("read the agent's memory", error))?;
        let tools = Tools::new(&config.postgres.bin_dir);
        let start_log = log_dir.join("start.log");
        let data_dir = &config.postgres.data_dir;
        Ok(Arc::new(Self {
            postmaster: Postmaster::new(tools.clone(), data_dir, &files.common, &start_log),
            database: Database::new(config.postgres.tls.as_ref())?,
            control,
            ids,
            tools,
            files,
            memory: Mutex::new(remembered),
            turn: tokio::sync::Mutex::new(()),
            refusal: Mutex::new(None),
            trouble: Mutex::new(None),
            probe: Mutex::new(None),
            restarts: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            heard: Mutex::default(),
            beaten: Mutex::new(None),
            outside: OnceLock::new(),
            observer: tokio::sync::Mutex::default(),
            was_up: AtomicBool::new(false),
            config,
        }))
    }

    /// Waits, for a bounded time, until no other operation runs.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, Error> {
        let wait = Duration::from_millis(limits::OPERATION_QUEUE_WAIT_MS);
        let held = tokio::time::timeout(wait, self.turn.lock()).await;
        let held = held.map_err(|_elapsed| Error::Busy)?;
        Ok(Turn { ended: &self.operations, _held: held })
    }

    /// The turn, if nobody has it.
    pub(crate) fn idle_turn(&self) -> Option<Turn<'_>> {
        let held = self.turn.try_lock().ok()?;
        Some(Turn { ended: &self.operations, _held: held })
    }

    /// What the agent remembers.
    pub(crate) fn memory(&self) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the memory; it is on disk when this returns.
    pub(crate) fn remember(&self, change: impl FnOnce(&mut Memory)) -> Result<(), Error> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = memory.clone();
        change(&mut next);
        if next != *memory {
            let written = next.write(&self.files.memory);
            written.map_err(|error| Error::step("write the agent's memory", error))?;
            *memory = next;
        }
        Ok(())
    }

    /// Why Postgres was last not started.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_refusal(&self, refusal: Option<Refusal>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    /// The role of the data directory.
    pub(crate) fn role(&self) -> Role {
        match (self.config.kind, self.postmaster.disk()) {
            (NodeKind::Ledger, Disk::Standby) => Role::Standby,
            _ => Role::Primary,
        }
    }

    /// Whether this node is the ledger's primary and takes connections.
    pub(crate) fn leads(&self) -> bool {
        self.config.kind == NodeKind::Ledger
            && self.role() == Role::Primary
            && matches!(self.postmaster.presence(), Presence::Up(_))
    }

    /// Starts Postgres, or adopts the running one, if the control record permits. Call with the turn held.
    pub(crate) async fn start_permitted(&self) -> Result<bool, Error> {
        let memory = self.memory();
        let adopted = self.postmaster.presence() != Presence::Down;
        if adopted && memory.hold().is_none() {
            let started = self.postmaster.start().await?;
            self.was_up.store(true, Ordering::Relaxed);
            return Ok(started);
        }
        let authority = self.control.ask().await;
        let facts = StartFacts {
            node: &self.config.node,
            kind: self.config.kind,
            disk: self.postmaster.disk(),
            authority: &authority,
            primary_in: memory.primary_in,
            sync: &memory.sync,
            hold: memory.hold(),
        };
        let verdict = may_start(&facts);
        self.note_refusal(verdict.as_ref().err().copied());
        match verdict? {
            Start::Primary { epoch, sync } => self.remember(|memory| {
                memory.primary_in = epoch.or(memory.primary_in);
                memory.sync = sync;
            })?,
            Start::Reader | Start::Standby => {}
        }
        self.write_configuration()?;
        let started = self.postmaster.start().await?;
        self.was_up.store(true, Ordering::Relaxed);
        tracing::info!(node = %self.config.node, role = ?self.role(), "postgres takes connections");
        Ok(started)
    }

    /// Writes every generated file.
    pub(crate) fn write_configuration(&self) -> Result<(), Error> {
        let passfile = self.passfile()?;
        let common =
            self.common(&self.config.postgres.listen, &self.files.access, &self.files.role);
        write_file(&self.files.passfile, &passfile)?;
        write_file(&self.files.common, &common)?;
        write_file(&self.files.ident, "# No user maps.\n")?;
        self.write_access()?;
        self.write_role(true).map(drop)
    }

    /// The common settings, for a server at this address with these rules and this role.
    pub(crate) fn common(&self, listen: &Address, hba_file: &Path, role_file: &Path) -> String {
        settings::render_common(&Common {
            kind: self.config.kind,
            listen,
            hba_file,
            ident_file: &self.files.ident,
            role_file,
            log_dir: &self.config.postgres.log_dir(),
            tls: self.config.postgres.tls.as_ref(),
            tuning: &self.config.postgres.tuning,
        })
    }

    // The rewind's role has the superuser's password, which all ledger nodes share.
    fn passfile(&self) -> Result<String, Error> {
        let postgres = &self.config.postgres;
        let replication = secret(&postgres.replication_password_file)?;
        let mut text = settings::passfile_line(REPLICATION_ROLE, replication.expose_secret());
        if self.config.kind == NodeKind::Ledger {
            let superuser = secret(&postgres.superuser_password_file)?;
            text.push_str(&settings::passfile_line(REWIND_ROLE, superuser.expose_secret()));
        }
        Ok(text)
    }

    /// Writes the role file; true if it changed.
    pub(crate) fn write_role(&self, slot_sync: bool) -> Result<bool, Error> {
        let memory = self.memory();
        let standby =
            self.config.kind == NodeKind::Ledger && self.postmaster.disk() == Disk::Standby;
        let joined = memory.joined.as_ref().filter(|_| standby);
        let address = joined.map(|joined| self.ledger_address(&joined.source)).transpose()?;
        let upstream = joined
            .zip(address.as_ref())
            .map(|(joined, address)| Upstream { address, member: &joined.member });
        let text = settings::render_role(&RoleSettings {
            node: &self.config.node,
            upstream,
            sync: &memory.sync,
            slot_sync: slot_sync
                && memory.returning.is_none()
                && self.config.kind == NodeKind::Ledger,
            passfile: &self.files.passfile,
            tls: self.config.postgres.tls.as_ref(),
        });
        write_file(&self.files.role, &text)
    }

    /// Writes the access rules; true if they changed. A missing topology permits no stream.
    pub(crate) fn write_access(&self) -> Result<bool, Error> {
        let memory = self.memory();
        let facts = AdmitFacts {
            node: &self.config.node,
            disk: self.postmaster.disk(),
            record: &self.control.last_record(),
            primary_in: memory.primary_in,
            opened: memory.opened,
        };
        self.write_access_for(if may_admit_writer(&facts) {
            Writer::Admitted
        } else {
            Writer::Refused
        })
    }

    /// As [`Self::write_access`], whatever the memory says of the writer.
    pub(crate) fn write_access_for(&self, writer: Writer) -> Result<bool, Error> {
        let topology = self.control.topology();
        let ledgers = topology.iter().flat_map(|topology| &topology.ledgers);
        let peers: Vec<Address> = ledgers.map(|ledger| ledger.postgres.clone()).collect();
        let tls = self.config.postgres.tls.is_some();
        let text = access::render(self.config.kind, tls, &peers, writer);
        write_file(&self.files.access, &text)
    }

    /// Where a ledger node's Postgres is.
    pub(crate) fn ledger_address(&self, node: &NodeId) -> Result<Address, Error> {
        let topology = self.control.topology();
        let topology = topology.ok_or(Error::ControlAway("no topology is known yet"))?;
        let ledger = topology.ledger(node).map(|ledger| ledger.postgres.clone());
        ledger.ok_or_else(|| Error::State(format!("the topology has no ledger node {node}")))
    }

    /// Every jurisdiction of the topology.
    pub(crate) fn jurisdictions(&self) -> Result<Vec<Jurisdiction>, Error> {
        let topology = self.control.topology();
        let topology = topology.ok_or(Error::ControlAway("no topology is known yet"))?;
        Ok(topology.jurisdictions.iter().map(|policy| policy.code.clone()).collect())
    }

    /// Whether this agent has seen the server up: what is down since then has crashed.
    pub(crate) fn seen_up(&self) -> bool {
        self.was_up.load(Ordering::Relaxed)
    }

    /// Counts a restart after a crash.
    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("domicile_agent_postgres_restarts_total").increment(1);
    }
}

/// Reads a secret's file.
pub(crate) fn secret(file: &Path) -> Result<SecretString, Error> {
    domicile_service::config::secret(file).map_err(|error| Error::step("read a secret", error))
}

/// Writes a generated file; true if it changed.
pub(crate) fn write_file(file: &Path, text: &str) -> Result<bool, Error> {
    if std::fs::read(file).is_ok_and(|present| present == text.as_bytes()) {
        return Ok(false);
    }
    let written = memory::replace(file, text.as_bytes());
    written.map(|()| true).map_err(|error| Error::step("write the configuration", error))
}
