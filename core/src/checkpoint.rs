//! C2SP `tlog-checkpoint`: a signed statement of a log's size and root.
//!
//! Invariants: the text has exactly three lines (no extension lines) and one spelling; the note is signed by
//! the key whose name is the origin, `<cluster>/<jurisdiction>/<log epoch>`; the log of operations says `operations`
//! where the others say their jurisdiction.

use std::fmt;

use thiserror::Error;

use crate::{
    base64,
    ids::{ClusterId, Jurisdiction},
    log::{Hash, MAX_TREE_SIZE_LEAVES},
    note::{self, NoteError, SigningKey, VerifierKey},
    operation,
};

/// Why a checkpoint is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// The text does not have the form of a checkpoint.
    #[error("not a checkpoint: expected origin, size and root, one per line")]
    Malformed,
    /// The key's name is not the checkpoint's origin.
    #[error("the checkpoint's origin is not the name of the key that signs it")]
    Origin,
    /// The note around it is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A log's name: `<cluster>/<jurisdiction>/<log epoch>`. It is also the name of the log's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The cluster the log belongs to.
    pub cluster: ClusterId,
    /// The jurisdiction whose rounds it holds.
    pub jurisdiction: Jurisdiction,
    /// Grows by one when a log is abandoned for a new one, which has a new key.
    pub log_epoch: u32,
}

impl Origin {
    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut parts = text.splitn(3, '/');
        let cluster = parts.next().and_then(|part| ClusterId::parse(part).ok());
        let jurisdiction = parts.next().and_then(|part| {
            let code = if part == operation::LOG_NAME { operation::LOG_CODE } else { part };
            Jurisdiction::parse(code).ok()
        });
        let log_epoch = parts.next().and_then(|part| part.parse().ok());
        match (cluster, jurisdiction, log_epoch) {
            (Some(cluster), Some(jurisdiction), Some(log_epoch)) => {
                Some(Self { cluster, jurisdiction, log_epoch })
            }
            _ => None,
        }
        .filter(|origin| origin.to_string() == text)
        .ok_or(CheckpointError::Malformed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&origin(&self.cluster, &self.jurisdiction, self.log_epoch))
    }
}

/// The origin of a jurisdiction's log as text.
pub fn origin(cluster: &ClusterId, jurisdiction: &Jurisdiction, log_epoch: u32) -> String {
    let is_operations = operation::is_log(jurisdiction);
    let name = if is_operations { operation::LOG_NAME } else { jurisdiction.as_str() };
    format!("{cluster}/{name}/{log_epoch}")
}

/// The name of the key that signs a cluster's receipts: `<cluster>/receipt`.
pub fn receipt_key_name(cluster: &ClusterId) -> String {
    format!("{cluster}/receipt")
}

/// A tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: Origin,
    /// Its number of leaves.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn encode(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, base64::encode(&self.root))
    }

    /// Parses the signed text; only what [`Checkpoint::encode`] writes is accepted.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.splitn(4, '\n');
        let mut line = || lines.next().ok_or(CheckpointError::Malformed);
        let (origin, size, root, rest) = (line()?, line()?, line()?, line()?);
        let checkpoint = Self {
            origin: Origin::parse(origin)?,
            size: size.parse().or(Err(CheckpointError::Malformed))?,
            root: base64::decode_32(root).ok_or(CheckpointError::Malformed)?,
        };
        let canonical = rest.is_empty() && checkpoint.encode() == text;
        if canonical && checkpoint.size <= MAX_TREE_SIZE_LEAVES {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Malformed)
        }
    }

    /// Signs it with the log's key, whose name must be the origin. Repeating it gives the same bytes.
    ///
    /// Call it only after the tree is durable in two regions: a signature cannot be taken back.
    pub fn sign(&self, key: &SigningKey) -> Result<String, CheckpointError> {
        if key.name() != self.origin.to_string() {
            return Err(CheckpointError::Origin);
        }
        Ok(note::sign(&self.encode(), key)?)
    }

    /// Opens a signed checkpoint: one of `keys` has signed it, and that key is the origin's own.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let opened = note::open(note, keys)?;
        let checkpoint = Self::parse(&opened.text)?;
        let origin = checkpoint.origin.to_string();
        if opened.signers.contains(&origin) { Ok(checkpoint) } else { Err(CheckpointError::Origin) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::empty_root;

    fn checkpoint(size: u64, root: Hash) -> Checkpoint {
        Checkpoint { origin: Origin::parse("demo/US-NJ/2").unwrap(), size, root }
    }

    #[test]
    fn a_checkpoint_is_signed_by_the_key_of_its_origin() {
        let key = SigningKey::from_seed("demo/US-NJ/2", &[1; 32]).unwrap();
        let other = SigningKey::from_seed("demo/MT/2", &[1; 32]).unwrap();
        let head = checkpoint(3, [9; 32]);
        let note = head.sign(&key).unwrap();
        assert_eq!(Checkpoint::open(&note, &[key.verifier().clone()]), Ok(head.clone()));
        assert_eq!(head.sign(&other), Err(CheckpointError::Origin));
        // A pinned key of another log does not speak for this one.
        let foreign = note::sign(&head.encode(), &other).unwrap();
        let pinned = [other.verifier().clone(), key.verifier().clone()];
        assert_eq!(Checkpoint::open(&foreign, &pinned), Err(CheckpointError::Origin));
    }

    #[test]
    fn only_the_canonical_text_is_read() {
        let text = checkpoint(3, empty_root()).encode();
        assert_eq!(Checkpoint::parse(&text).unwrap().encode(), text);
        for bad in [
            text.replace("\n3\n", "\n03\n"),
            text.replace("\n3\n", "\n+3\n"),
            text.replace("\n3\n", "\n9223372036854775808\n"),
            format!("{text}extension\n"),
            format!("{text}\n"),
            text.trim_end().to_owned(),
            text.replace("demo/", "Demo/"),
            text.replace("/2\n", "/02\n"),
            text.replace("/2\n", "/2/3\n"),
            text.replace("/US-NJ", ""),
            text.replace('=', ""),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(CheckpointError::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn texts_agree_with_another_implementation(size in 0..=MAX_TREE_SIZE_LEAVES, root: Hash) {
            let text = checkpoint(size, root).encode();
            let theirs = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
            prop_assert_eq!(theirs.origin(), "demo/US-NJ/2");
            prop_assert_eq!((theirs.size(), theirs.hash().0), (size, root));
            prop_assert_eq!(theirs.to_bytes(), text.as_bytes());
            prop_assert_eq!(Checkpoint::parse(&text), Ok(checkpoint(size, root)));
        }

        #[test]
        fn arbitrary_texts_are_read_exactly_or_refused(
            text in "(demo/MT/1\n)?[0-9]{0,20}\n?[A-Za-z0-9+/]{0,44}=?\n?(\\PC|\n){0,5}",
        ) {
            if let Ok(head) = Checkpoint::parse(&text) {
                prop_assert_eq!(head.encode(), text);
            }
        }
    }
}
