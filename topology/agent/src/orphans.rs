//! The tail of a former primary: rows that the new history lacks, found by comparison and kept.
//!
//! Invariants: rows are compared by primary key, whole tables of them, because nothing in a row tells on which side of
//! the fork it was committed; a row that the new primary has in a later state is no orphan; every orphan is on disk, for
//! its owner's eyes only, before the data it came from is touched; they are written as they are found, however many. What
//! could not be compared is named in the tail, never passed over.
//! Deliberately absent: judging what becomes of them.

mod compare;
mod find;
mod sum;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use domicile_core::epoch::{Epoch, Lsn};
use domicile_topology::agent_api::{OrphanTail, OrphansAnswer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::database::Session;
use crate::error::Error;
use crate::memory::{private_folder, replace};
use compare::{LEAVES, Table};
use sum::Sum;

/// The most tails a node answers with.
const MAX_TAILS: usize = 1_000;

/// A tail as it is kept; its rows are in the file it names, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    tail: OrphanTail,
}

impl Agent {
    /// Finds and keeps what only this node has. `None` when there is nothing, and nothing was left uncompared. `private` reads the keys of what is not
    /// published; without it those tables are named as not compared.
    pub(crate) async fn keep_orphans(
        &self,
        own: &Session,
        (other, private): (&Session, Option<&Session>),
        epoch: Epoch,
        fork: Option<Lsn>,
    ) -> Result<Option<OrphanTail>, Error> {
        let fork_lsn = fork.unwrap_or(Lsn(0));
        let folder = self.orphan_folder();
        let failed = |error| Error::step("keep the orphans", error);
        private_folder(&folder).map_err(failed)?;
        let name = format!("{epoch}-{:016x}", fork_lsn.0);
        let rows = folder.join(format!("{name}.jsonl"));
        let mut out = Rows::create(&rows).map_err(failed)?;
        let mut uncompared = Vec::new();
        for table in Table::ALL {
            if !table.exists(own).await? {
                continue;
            }
            match (table.is_published(), private) {
                (true, _) => table.keep(own, other, &mut out).await?,
                (false, Some(private)) => table.keep(own, private, &mut out).await?,
                (false, None) => uncompared.push(table.name().to_owned()),
            }
        }
        if out.written == 0 && uncompared.is_empty() {
            std::fs::remove_file(&rows).map_err(failed)?;
            return Ok(None);
        }
        let sum = out.finish().map_err(failed)?;
        let file = rows.to_string_lossy().into_owned();
        let tail = sum.into_tail((epoch, fork_lsn), file, uncompared);
        let kept = Kept { tail };
        let bytes = serde_json::to_vec(&kept).map_err(|error| failed(error.into()))?;
        replace(&folder.join(format!("{name}.json")), &bytes).map_err(failed)?;
        tracing::warn!(rows = ?kept.tail.rows, name, "kept orphans");
        Ok(Some(kept.tail))
    }

    /// Every tail kept on this node.
    pub fn orphans(&self) -> Result<OrphansAnswer, Error> {
        let failed = |error| Error::step("read the kept orphans", error);
        let entries = match std::fs::read_dir(self.orphan_folder()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(OrphansAnswer::default());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut tails = Vec::new();
        let is_tail = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "json");
        for path in entries.flatten().map(|entry| entry.path()).filter(is_tail).take(MAX_TAILS) {
            let bytes = std::fs::read(&path).map_err(failed)?;
            let kept: Kept = serde_json::from_slice(&bytes).map_err(|e| failed(e.into()))?;
            tails.push(kept.tail);
        }
        tails.sort_by_key(|tail| (tail.epoch, tail.fork_lsn));
        Ok(OrphansAnswer { tails })
    }

    fn orphan_folder(&self) -> PathBuf {
        self.config.postgres.config_dir.join("orphans")
    }
}

/// The rows of a tail on their way to the disk.
struct Rows {
    out: BufWriter<File>,
    written: u64,
    sum: Sum,
}

impl Rows {
    fn create(path: &Path) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Self { out: BufWriter::new(file), written: 0, sum: Sum::default() })
    }

    fn write(&mut self, table: &'static str, row: &Value) -> Result<(), Error> {
        let failed = |error| Error::step("keep the orphans", error);
        serde_json::to_writer(&mut self.out, &json!({ "table": table, "row": row }))
            .map_err(|error| failed(error.into()))?;
        self.out.write_all(b"\n").map_err(failed)?;
        // Leaves come with their rounds and are not counted.
        if table != LEAVES {
            self.written = self.written.saturating_add(1);
            self.sum.add(table, row);
        }
        Ok(())
    }

    fn finish(self) -> std::io::Result<Sum> {
        let file = self.out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(self.sum)
    }
}
