//! What the agent must not forget: kept in one small file beside the generated configuration.
//!
//! Invariant: the file is replaced as a whole and is on disk before anything acts on it; the generated role file is
//! derived from it and never read back. Deliberately absent: anything the control record or Postgres already knows.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::NodeId;
use domicile_topology::member::Member;
use serde::{Deserialize, Serialize};

use crate::decide::Hold;
use crate::settings::SyncTarget;

/// The agent's memory of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// Postgres should run: set by `init`, `clone` and `start`, cleared by `stop`.
    pub(crate) wanted: bool,
    /// This node's joining, if it was cloned.
    pub(crate) joined: Option<Joined>,
    /// What commits wait for.
    pub(crate) sync: SyncTarget,
    /// The last epoch in which this node ran as primary under a record that named it.
    pub(crate) primary_in: Option<Epoch>,
    /// The last epoch that was opened here: the writer may log in while the node is primary of it.
    #[serde(default)]
    pub(crate) opened: Option<Epoch>,
    /// Set from a demotion until the node follows the new primary, or is primary again.
    #[serde(default)]
    pub(crate) demoted: Option<Demoted>,
    /// How far a return has come; set until the node streams and its old slots are gone.
    #[serde(default)]
    pub(crate) returning: Option<Returning>,
}

/// The end of this node's term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Demoted {
    /// The epoch that ended.
    pub(crate) epoch: Epoch,
    /// The shutdown checkpoint.
    pub(crate) end_lsn: Lsn,
    /// Its timeline.
    pub(crate) timeline: u32,
}

/// A step of a return that must be known after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Returning {
    /// The old data runs, or ran, apart from everybody, to be compared.
    Apart,
    /// A rewind began: found unfinished, it is not repeated, the data is copied anew.
    Rewinding,
    /// The data is thrown away and copied anew.
    Cloning,
    /// The data is right; slots of the former role are left to drop.
    Settling,
}

/// A standby's joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Joined {
    /// The node it was copied from and follows.
    pub(crate) source: NodeId,
    /// Its own membership.
    pub(crate) member: Member,
}

impl Memory {
    /// What keeps the data directory from being started as it is.
    pub(crate) fn hold(&self) -> Option<Hold> {
        match (self.returning, &self.demoted) {
            (Some(Returning::Apart | Returning::Rewinding | Returning::Cloning), _) => {
                Some(Hold::Returning)
            }
            (_, Some(_)) => Some(Hold::Demoted),
            (Some(Returning::Settling) | None, None) => None,
        }
    }

    /// Reads the file; a missing one is an empty memory.
    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        replace(file, &serde_json::to_vec_pretty(self).map_err(io::Error::other)?)
    }
}

/// Replaces a file as a whole, for its owner's eyes only, and returns once it is on disk.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let draft = file.with_extension("draft");
    let mut options = OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(&draft, file)?;
    File::open(folder)?.sync_all()
}

/// Makes a folder, and those above it, for its owner's eyes only.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_remembered_survives_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.json");
        assert_eq!(Memory::read(&file).unwrap(), Memory::default());
        let memory = Memory { wanted: true, primary_in: Some(Epoch(4)), ..Memory::default() };
        memory.write(&file).unwrap();
        assert_eq!(Memory::read(&file).unwrap(), memory);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, b"{\"wanted\":true").unwrap();
        assert!(Memory::read(&file).is_err(), "a damaged memory is not an empty one");
    }
}
