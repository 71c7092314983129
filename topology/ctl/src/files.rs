//! Writing files so that nobody ever sees half of one, with the mode they are meant to have.
//!
//! Invariant: a file that holds a secret is created with mode 0600; it is never wider, not even for a moment.

use anyhow::{Context, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Readable by its owner only: keys, passwords, configuration that names them.
pub(crate) const MODE_SECRET: u32 = 0o600;
/// Readable by everybody: certificates, the topology.
pub(crate) const MODE_PUBLIC: u32 = 0o644;
/// A folder that only its owner enters.
pub(crate) const MODE_FOLDER_SECRET: u32 = 0o700;
/// A folder that everybody may cross.
pub(crate) const MODE_FOLDER_PUBLIC: u32 = 0o755;

/// Replaces the file at once (temporary file, fsync, rename), unless it already holds these bytes.
/// Returns whether it was written.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let place = || format!("cannot write {}", path.display());
    let staged = path.with_added_extension("new");
    if staged.exists() {
        fs::remove_file(&staged).with_context(place)?;
    }
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&staged)
        .with_context(place)?;
    file.write_all(bytes).with_context(place)?;
    file.sync_all().with_context(place)?;
    fs::rename(&staged, path).with_context(place)?;
    Ok(true)
}

/// Writes the file only where there is none yet; an existing secret is never replaced.
pub(crate) fn write_once(
    path: &Path,
    mode: u32,
    make: impl FnOnce() -> Result<String>,
) -> Result<String> {
    if path.exists() {
        return read(path);
    }
    let text = make()?;
    write(path, text.as_bytes(), mode)?;
    Ok(text)
}

/// The file's text, with the path in the error.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Makes the folder and its parents; the folder itself gets the mode.
pub(crate) fn folder(path: &Path, mode: u32) -> Result<()> {
    let place = || format!("cannot make the folder {}", path.display());
    fs::create_dir_all(path).with_context(place)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_private_from_its_first_byte_and_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(write(&path, b"one", MODE_SECRET).unwrap());
        assert!(!write(&path, b"one", MODE_SECRET).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE_SECRET);
        let kept = write_once(&path, MODE_SECRET, || panic!("must not be made again")).unwrap();
        assert_eq!(kept, "one");
    }
}
