//! Configuration: one TOML file per process, read once, strict.
//!
//! Invariants: an unknown key is an error that names file, line and column; a message never repeats a
//! value; secrets are named by path and their files are readable by their owner alone.
//! Deliberately absent: layers, environment variables, defaults from elsewhere, reloading.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The largest secret file that is read.
pub const SECRET_FILE_MAX_BYTES: u64 = 16 * 1024;

/// Why the configuration could not be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not the expected document.
    #[error("{path}:{line}:{column}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A secret's file is open to others, empty or too long.
    #[error("secret file {path}: {problem}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Reads and parses the file. `T` should be `#[serde(deny_unknown_fields)]` all the way down.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ConfigError::Invalid {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: offset.saturating_sub(line_start) + 1,
            message: error.message().to_owned(),
        }
    })
}

/// The folder that relative paths in the configuration file start from.
pub fn folder(config_file: &Path) -> &Path {
    match config_file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Reads a secret; surrounding white space is not part of it.
pub fn secret(path: &Path) -> Result<SecretString, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let refuse = |problem| ConfigError::Secret { path: path.to_owned(), problem };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(refuse("is accessible to others than its owner: chmod 600"));
    }
    if metadata.len() > SECRET_FILE_MAX_BYTES {
        return Err(refuse("is longer than 16 KiB"));
    }
    let text = zeroize::Zeroizing::new(std::fs::read_to_string(path).map_err(read)?);
    match text.trim() {
        "" => Err(refuse("is empty")),
        secret => Ok(SecretString::from(secret)),
    }
}

/// `[tls]`: PEM files, relative to the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// This node's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that peers' certificates must come from.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// The same files, relative paths starting from `folder`.
    #[must_use]
    pub fn under(&self, folder: &Path) -> Self {
        Self {
            cert: folder.join(&self.cert),
            key: folder.join(&self.key),
            ca: folder.join(&self.ca),
        }
    }
}

/// `[control]`: where the control plane is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlSection {
    /// The etcd members' client URLs.
    pub endpoints: Vec<String>,
    /// Where the last known topology and record are kept, relative to the configuration file.
    pub topology_cache: PathBuf,
}

/// `[postgres]`: one database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresSection {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database name.
    pub dbname: String,
    /// Login role.
    pub user: String,
    /// The file that holds the role's password, relative to the configuration file.
    pub password_file: PathBuf,
    /// Most sessions at once.
    pub pool_size: usize,
    /// Whether the connection is TLS, with the node's certificates.
    #[serde(default)]
    pub tls: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[expect(dead_code, reason = "only its presence matters")]
        tls: TlsFiles,
    }

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let file = file("[tls]\ncert = 'c'\nkey = 'k'\nca = 'a'\n  colour = 'red'\n", 0o644);
        let error = load::<Document>(file.path()).unwrap_err().to_string();
        assert!(error.contains(":5:3: unknown field `colour`"), "{error}");
        assert!(!error.contains("red"), "{error}");
    }

    #[test]
    fn relative_paths_start_at_the_configuration_file() {
        let files = TlsFiles { cert: "c".into(), key: "/k".into(), ca: "a".into() };
        let files = files.under(folder(Path::new("/etc/domicile/writer.toml")));
        assert_eq!(files.cert, Path::new("/etc/domicile/c"));
        assert_eq!(files.key, Path::new("/k"));
        assert_eq!(folder(Path::new("writer.toml")), Path::new("."));
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let good = file("  hunter2\n", 0o600);
        let value = secret(good.path()).unwrap();
        assert_eq!(value.expose_secret(), "hunter2");
        assert!(!format!("{value:?}").contains("hunter2"));
        for (text, mode, problem) in [("x", 0o640, "chmod 600"), ("\n", 0o600, "is empty")] {
            let error = secret(file(text, mode).path()).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
