//! Which tables this process runs.
//!
//! A table belongs to the process whose [`Desk`] holds its advisory lock, which is named after epoch and table. The desk
//! ends with the process, however that ends or hangs, and the server frees the locks with it. Invariants: a table's engine
//! runs only while the desk answers; when it does not, every engine of this process stops at once; a process takes at most
//! its share of the tables, counted over the processes that are there, and gives up what exceeds it between two rounds.

use super::run::{self, Leaving};
use crate::desk::{Desk, DeskError};
use crate::engine::Engine;
use crate::ledger::floor::{self, Table};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_postgres::Pool;
use domicile_service::{tasks, telemetry};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What the desk of tables hears: nothing is told there.
const CHANNEL: &str = "domicile_floor";

/// Marks the locks by which processes say that they are there.
const PRESENCE: i32 = 0x446f_6d69;

const BE_PRESENT: &str = "SELECT pg_try_advisory_lock_shared($1, $2)";

const PRESENT: &str = "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 \
     AND classid::bigint = $1 AND objid::bigint = $2 AND granted \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

const TAKE: &str = "SELECT pg_try_advisory_lock($1)";

const GIVE_UP: &str = "SELECT pg_advisory_unlock($1)";

/// The tables of this process, for one epoch.
#[derive(Debug)]
pub struct Floor {
    leaving: watch::Sender<Leaving>,
    task: JoinHandle<()>,
}

impl Floor {
    /// Begins to take tables.
    pub fn start(engine: &Arc<Engine>, pool: Pool) -> Self {
        let (leaving, left) = watch::channel(None);
        let owner = Owner {
            engine: Arc::downgrade(engine),
            epoch: engine.epoch,
            pool,
            held: HashMap::new(),
            leaving: left,
        };
        let task = tasks::spawn("floor", owner.run());
        Self { leaving, task }
    }

    /// Takes no more tables, finishes the rounds that end within `within` and hands over the others as they are.
    pub async fn leave(mut self, within: Duration) {
        self.leaving.send_replace(Some(Instant::now() + within));
        let wait = within.saturating_add(limits::FLOOR_LEAVE_WAIT);
        if tokio::time::timeout(wait, &mut self.task).await.is_err() {
            tracing::warn!("tables were given up in the middle of a step");
        }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A table that is run here. Its engine stops when this is dropped.
struct Held {
    leave: watch::Sender<Leaving>,
    task: JoinHandle<()>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Owner {
    engine: Weak<Engine>,
    epoch: Epoch,
    pool: Pool,
    held: HashMap<Table, Held>,
    leaving: watch::Receiver<Leaving>,
}

impl Owner {
    async fn run(mut self) {
        let mut leaving = self.leaving.clone();
        while leaving.borrow().is_none() && self.engine.strong_count() > 0 {
            if let Err(error) = self.hold().await {
                let reason = telemetry::chain(&error);
                tracing::warn!(
                    tables = self.held.len(),
                    reason,
                    "the desk that owns tables is lost"
                );
                metrics::counter!("domicile_writer_floor_lost_total").increment(1);
            }
            // Whatever they were at: another process may own the tables by now.
            self.held.clear();
            metrics::gauge!("domicile_writer_floor_tables").set(0.0);
            // The writer's move waits for this: who leaves already pauses no more.
            let left = leaving.wait_for(Option::is_some);
            let _left = tokio::time::timeout(limits::FLOOR_TICK, left).await.is_ok();
        }
    }

    /// Opens a desk, and takes and keeps tables for as long as it answers.
    async fn hold(&mut self) -> Result<(), DeskError> {
        let desk = Desk::open(&self.pool, CHANNEL).await?;
        let epoch = epoch_lock(self.epoch);
        desk.query(BE_PRESENT, &[&PRESENCE, &epoch]).await?;
        loop {
            self.tick(&desk).await?;
            let gauge = f64::from(u32::try_from(self.held.len()).unwrap_or(u32::MAX));
            metrics::gauge!("domicile_writer_floor_tables").set(gauge);
            let has_left = self.leaving.borrow().is_some() && self.held.is_empty();
            if has_left || self.engine.strong_count() == 0 {
                return Ok(());
            }
            let mut leaving = self.leaving.clone();
            leaving.mark_unchanged();
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                _ = leaving.changed() => {}
            }
        }
    }

    /// Who leaves looks often whether the last round is done.
    fn pause(&self) -> Duration {
        if self.leaving.borrow().is_some() { limits::FLOOR_LEAVE_TICK } else { limits::FLOOR_TICK }
    }

    async fn tick(&mut self, desk: &Desk) -> Result<(), DeskError> {
        self.release(desk).await?;
        let leaving = *self.leaving.borrow();
        if leaving.is_some() {
            // Keeps the connection proven while rounds are finished.
            desk.show_up().await?;
            for held in self.held.values() {
                held.leave_by(leaving);
            }
            return Ok(());
        }
        let rows = desk.query(floor::TABLES, &[&limits::FLOOR_TABLES]).await?;
        let tables: Vec<Table> = rows.iter().filter_map(Table::from_row).collect();
        let share = self.share(desk, tables.len()).await?;
        for (table, held) in &self.held {
            if !tables.contains(table) {
                held.leave_by(Some(Instant::now()));
            }
        }
        if let Some(held) = self.held.values().next().filter(|_| self.held.len() > share) {
            held.leave_by(Some(Instant::now() + limits::FLOOR_LATE));
        }
        for table in tables {
            if self.held.len() >= share {
                break;
            }
            if !self.held.contains_key(&table) {
                self.take(desk, table).await?;
            }
        }
        Ok(())
    }

    /// Frees the locks of tables whose engines have ended.
    async fn release(&mut self, desk: &Desk) -> Result<(), DeskError> {
        let ended: Vec<Table> = self
            .held
            .iter()
            .filter(|(_, held)| held.task.is_finished())
            .map(|(table, _)| table.clone())
            .collect();
        for table in ended {
            self.held.remove(&table);
            desk.query(GIVE_UP, &[&table_lock(self.epoch, &table)]).await?;
            tracing::info!(%table, "a table is given up");
        }
        Ok(())
    }

    /// This process's share: the tables divided by the processes that are there, rounded up.
    async fn share(&self, desk: &Desk, tables: usize) -> Result<usize, DeskError> {
        let (class, object) = (i64::from(PRESENCE), i64::from(epoch_lock(self.epoch)));
        let rows = desk.query(PRESENT, &[&class, &object]).await?;
        let present = rows.first().map_or(1, |row| row.get::<_, i64>(0));
        let present = usize::try_from(present).unwrap_or(1).max(1);
        Ok(tables.div_ceil(present))
    }

    async fn take(&mut self, desk: &Desk, table: Table) -> Result<(), DeskError> {
        let rows = desk.query(TAKE, &[&table_lock(self.epoch, &table)]).await?;
        if !rows.first().is_some_and(|row| row.get(0)) {
            return Ok(());
        }
        tracing::info!(%table, epoch = %self.epoch, "a table is taken");
        metrics::counter!("domicile_writer_floor_taken_total").increment(1);
        let (leave, leaving) = watch::channel(None);
        let task =
            tasks::spawn("table", run::run(Weak::clone(&self.engine), table.clone(), leaving));
        self.held.insert(table, Held { leave, task });
        Ok(())
    }
}

impl Held {
    /// Says once by when to leave.
    fn leave_by(&self, when: Leaving) {
        self.leave.send_if_modified(|leaving| {
            let is_new = leaving.is_none_or(|already| when.is_some_and(|when| when < already));
            if is_new {
                *leaving = when;
            }
            is_new
        });
    }
}

/// Not negative, so that the server shows it as it is.
fn epoch_lock(epoch: Epoch) -> i32 {
    i32::try_from(epoch.0 % 0x7fff_ffff).unwrap_or(0)
}

fn table_lock(epoch: Epoch, table: &Table) -> i64 {
    let digest = Sha256::digest(format!("domicile floor\n{epoch}\n{table}"));
    let bytes = digest.first_chunk::<8>().copied().unwrap_or_default();
    i64::from_be_bytes(bytes)
}
