//! A log's signing key, and the one place where a root becomes a checkpoint.

use super::confirm::SafeToSign;
use domicile_core::checkpoint::{Checkpoint, CheckpointError, Origin};
use domicile_core::log::Hash;
use domicile_core::note::{SigningKey, VerifierKey};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a log key cannot be used.
#[derive(Debug, Error)]
pub enum LogKeyError {
    /// The file cannot be read.
    #[error("cannot read the log key {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file does not hold a note signing key.
    #[error("{path} does not hold a log signing key (PRIVATE+KEY+name+id+key)")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The key is another one than the topology publishes.
    #[error(
        "{path} holds the key `{found}`, the topology publishes `{published}`: provision the right key"
    )]
    NotPublished {
        /// The file.
        path: PathBuf,
        /// The public part of the key in the file.
        found: String,
        /// The verifier key in the topology.
        published: String,
    },
}

/// Signs checkpoints of one log. The origin is the key's name.
pub struct LogSigner {
    key: SigningKey,
    origin: Origin,
    log_epoch: i32,
}

impl LogSigner {
    /// Reads the key file and compares it with the verifier key that the topology publishes.
    pub fn load(path: &Path, published: &VerifierKey) -> Result<Self, LogKeyError> {
        let text = zeroize::Zeroizing::new(
            std::fs::read_to_string(path)
                .map_err(|source| LogKeyError::Read { path: path.into(), source })?,
        );
        let malformed = || LogKeyError::Malformed { path: path.into() };
        let key = SigningKey::from_text(text.trim()).map_err(|_cause| malformed())?;
        if key.verifier().to_string() != published.to_string() {
            return Err(LogKeyError::NotPublished {
                path: path.into(),
                found: key.verifier().to_string(),
                published: published.to_string(),
            });
        }
        let origin = Origin::parse(key.name()).map_err(|_cause| malformed())?;
        let log_epoch = i32::try_from(origin.log_epoch).map_err(|_too_large| malformed())?;
        Ok(Self { key, origin, log_epoch })
    }

    /// The log's own epoch.
    pub(crate) fn log_epoch(&self) -> i32 {
        self.log_epoch
    }

    /// The log's origin.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Signs the tree head, which has been made safe from the loss of the writer's region.
    pub(crate) fn sign(
        &self,
        size: u64,
        root: Hash,
        _safe: SafeToSign,
    ) -> Result<String, CheckpointError> {
        Checkpoint { origin: self.origin.clone(), size, root }.sign(&self.key)
    }

    /// Opens a checkpoint of this log that somebody else kept.
    pub(crate) fn open(&self, note: &str) -> Option<Checkpoint> {
        Checkpoint::open(note, std::slice::from_ref(self.key.verifier()))
            .ok()
            .filter(|checkpoint| checkpoint.origin == self.origin)
    }
}
