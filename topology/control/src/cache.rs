//! The last known values on disk.
//!
//! Invariant: a file holds a whole value or the one before it: written beside, synced, renamed, and the
//! folder synced. Its bytes are those of the control plane.

use crate::config::limits::MAX_VALUE_BYTES;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// One file with one value.
#[derive(Debug, Clone)]
pub(crate) struct CacheFile(PathBuf);

impl CacheFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The kept value, if there is one.
    pub(crate) fn load(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut value = Vec::new();
        let limit = u64::try_from(MAX_VALUE_BYTES).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut value)?;
        Ok(Some(value))
    }

    /// Replaces the kept value; when this returns it is on disk.
    pub(crate) fn store(&self, value: &[u8]) -> io::Result<()> {
        let mut beside = self.0.clone().into_os_string();
        beside.push(".new");
        let mut file = File::create(&beside)?;
        file.write_all(value)?;
        file.sync_all()?;
        fs::rename(&beside, &self.0)?;
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_replaces_the_one_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheFile::new(folder.path().join("topology.json"));
        assert_eq!(cache.load().unwrap(), None);
        cache.store(b"a longer first value").unwrap();
        cache.store(b"second").unwrap();
        assert_eq!(cache.load().unwrap(), Some(b"second".to_vec()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
