//! The checkpoint of the operations log that was seen last from this state folder.

use super::proof::Head;
use crate::files::{self, MODE_PUBLIC};
use crate::layout::Layout;
use anyhow::{Context, Result};
use domicile_core::checkpoint::Checkpoint;
use std::path::PathBuf;

/// What is remembered.
pub(super) struct Trust {
    path: PathBuf,
    seen: Option<Checkpoint>,
}

impl Trust {
    /// Reads it; its signature was checked when it was written.
    pub(super) fn open(layout: &Layout) -> Result<Self> {
        let path = layout.operator().join("operations.checkpoint");
        let seen = if path.exists() {
            let text = files::read(&path)?;
            let damaged = || format!("{} is damaged", path.display());
            Some(Checkpoint::parse(&text).with_context(damaged)?)
        } else {
            None
        };
        Ok(Self { path, seen })
    }

    /// The tree head seen last.
    pub(super) const fn seen(&self) -> Option<&Checkpoint> {
        self.seen.as_ref()
    }

    /// Its size.
    pub(super) fn seen_size(&self) -> Option<u64> {
        self.seen.as_ref().map(|seen| seen.size)
    }

    /// Remembers a head that was checked against the one before.
    pub(super) fn saw(&self, head: &Head) -> Result<()> {
        files::write(&self.path, head.checkpoint.encode().as_bytes(), MODE_PUBLIC).map(drop)
    }
}
