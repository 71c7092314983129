//! Random secrets, each made once and kept in a file that only its owner reads.
//!
//! Invariant: a secret leaves this module only into a file; it is never printed, logged or put on a command line.

use crate::files::{self, MODE_SECRET};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domicile_core::hex;
use domicile_core::seal::MasterKey;
use secrecy::{ExposeSecret, SecretString};
use std::path::Path;

/// Entropy of every secret made here.
const SECRET_BYTES: usize = 32;

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the operating system gives no random bytes")?;
    Ok(bytes)
}

/// The password in the file; made and written there first if there is none.
pub(crate) fn password(path: &Path) -> Result<SecretString> {
    let text = files::write_once(path, MODE_SECRET, || {
        Ok(URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>()?))
    })?;
    Ok(SecretString::from(text))
}

/// The SCRAM verifier of the password: enough for Postgres to check it, not enough to log in with.
pub(crate) fn verifier(path: &Path, password: &SecretString) -> Result<String> {
    files::write_once(path, MODE_SECRET, || {
        Ok(postgres_protocol::password::scram_sha_256(password.expose_secret().as_bytes()))
    })
}

/// The master key that seals seeds and operator secrets at rest.
pub(crate) fn master_key(path: &Path) -> Result<String> {
    files::write_once(path, MODE_SECRET, || {
        let id: [u8; 4] = random()?;
        let key = MasterKey::new(&format!("mk-{}", hex::encode(&id)), random()?)?;
        Ok(format!("{}\n", key.to_line().trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once_and_its_verifier_is_not_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let first = password(&dir.path().join("p")).unwrap();
        let again = password(&dir.path().join("p")).unwrap();
        assert_eq!(first.expose_secret(), again.expose_secret());
        let scram = verifier(&dir.path().join("v"), &first).unwrap();
        assert!(scram.starts_with("SCRAM-SHA-256$4096:"));
        assert!(!scram.contains(first.expose_secret()));
    }
}
