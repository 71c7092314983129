//! Which programs run: ours from beside this one, Postgres and etcd from the machine.
//!
//! Ours are copied into the state folder, so that a running topology does not change under a rebuild, and so that the
//! unprivileged user can run them wherever they were built.

use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::layout::Layout;
use crate::unit::Part;

/// The oldest Postgres with failover slots.
const POSTGRES_MAJOR_MIN: u32 = 17;

/// Copies our programs into the state folder where they differ; says how many were.
pub(crate) fn install(layout: &Layout) -> Result<String> {
    let here = std::env::current_exe().context("cannot find this program's own file")?;
    let from = here.parent().context("this program has no folder")?;
    let mut copied = 0_u32;
    for name in Part::ALL.iter().filter_map(|part| part.program()) {
        let source = from.join(name);
        if !source.exists() {
            bail!("{} is missing; build every program first (`make build`)", source.display());
        }
        copied += u32::from(install_one(&source, &layout.bin().join(name))?);
    }
    Ok(if copied == 0 { "unchanged".into() } else { format!("{copied} installed") })
}

fn install_one(source: &Path, target: &Path) -> Result<bool> {
    let place = || format!("cannot install {}", target.display());
    let wanted = fs::metadata(source).with_context(place)?;
    if let Ok(present) = fs::metadata(target)
        && present.len() == wanted.len()
        && present.modified().ok() >= wanted.modified().ok()
    {
        return Ok(false);
    }
    let staged = target.with_added_extension("new");
    fs::copy(source, &staged).with_context(place)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o755)).with_context(place)?;
    fs::rename(&staged, target).with_context(place)?;
    Ok(true)
}

/// The folder of a Postgres that is new enough: `DOMICILE_PG_BIN`, else PATH, else Debian's folders.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("DOMICILE_PG_BIN") {
        let chosen = PathBuf::from(chosen);
        return match postgres_major(&chosen) {
            Some(major) if major >= POSTGRES_MAJOR_MIN => Ok(chosen),
            Some(major) => bail!(
                "DOMICILE_PG_BIN holds PostgreSQL {major}; {POSTGRES_MAJOR_MIN} or later is needed"
            ),
            None => bail!("DOMICILE_PG_BIN={} holds no PostgreSQL that runs", chosen.display()),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(debian.map(|entry| entry.path().join("bin")))
        .find(|folder| postgres_major(folder).is_some_and(|major| major >= POSTGRES_MAJOR_MIN))
        .with_context(|| {
            format!("no PostgreSQL {POSTGRES_MAJOR_MIN} or later is on this machine; `make up` brings one, or set DOMICILE_PG_BIN")
        })
}

/// Whether the Postgres in this folder can encrypt its connections.
pub(crate) fn speaks_tls(folder: &Path) -> bool {
    let asked = Command::new(folder.join("pg_config")).arg("--configure").output();
    asked.is_ok_and(|said| {
        let options = String::from_utf8_lossy(&said.stdout);
        ["--with-openssl", "ssl=openssl"].iter().any(|option| options.contains(option))
    })
}

/// `postgres (PostgreSQL) 18.4` → 18.
fn postgres_major(folder: &Path) -> Option<u32> {
    let said = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let version = text.split_once("(PostgreSQL) ")?.1;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The etcd program: `DOMICILE_ETCD`, else PATH.
pub(crate) fn etcd() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("DOMICILE_ETCD") {
        return Ok(PathBuf::from(chosen));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("etcd"))
        .find(|program| program.is_file())
        .context("etcd is not on PATH; install it (Debian: etcd-server) or set DOMICILE_ETCD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_installed_once_and_again_after_a_rebuild() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("built"), dir.path().join("installed"));
        fs::write(&source, "one").unwrap();
        assert!(install_one(&source, &target).unwrap());
        assert!(!install_one(&source, &target).unwrap());
        fs::write(&source, "two, longer").unwrap();
        assert!(install_one(&source, &target).unwrap());
        assert_eq!(fs::read_to_string(&target).unwrap(), "two, longer");
    }
}
