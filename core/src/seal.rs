//! Sealing secrets at rest: AES-256-GCM under a named master key.
//!
//! Sealed bytes are `version (1) ‖ length of key id ‖ key id ‖ nonce (12) ‖ ciphertext with tag`. The
//! additional data is the whole header before the nonce plus the context (what the secret is and
//! whose), so neither the key id nor the place of a sealed value can be exchanged.
//! The key file has one `<id> <64 hex digits>` per line: the first key seals, all of them open, so
//! that a key can be replaced without unsealing everything at once.
//! Deliberately absent: drawing nonces. They come from the operating system, in the service.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    hex,
    limits::{MASTER_KEY_ID_MAX_BYTES, MASTER_KEYS_MAX, SEALED_PLAINTEXT_MAX_BYTES},
};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// A named AES-256 key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    #[zeroize(skip)]
    id: String,
    key: [u8; 32],
}

/// Why something cannot be sealed or opened. Says nothing about the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// A key id must be 1–64 visible ASCII characters.
    #[error("a master key id is 1-{MASTER_KEY_ID_MAX_BYTES} visible ASCII characters")]
    KeyId,
    /// The key file is not one key per line.
    #[error("line {line} of the master key file is not `<id> <64 hex digits>` with a new id")]
    KeyFile {
        /// The line, from 1.
        line: usize,
    },
    /// The key file holds no key, or too many.
    #[error("a master key file holds 1-{MASTER_KEYS_MAX} keys")]
    KeyCount,
    /// The secret is larger than anything we seal.
    #[error("a sealed secret has at most {SEALED_PLAINTEXT_MAX_BYTES} bytes")]
    TooLong,
    /// The bytes are not a sealed value of a version we know.
    #[error("not a sealed value")]
    Format,
    /// No key of that id is at hand.
    #[error("the master key this value was sealed with is not in the key file")]
    UnknownKey,
    /// Altered, or sealed for another place.
    #[error("the sealed value was altered or belongs elsewhere")]
    Altered,
}

impl MasterKey {
    /// Names a key.
    pub fn new(id: &str, key: [u8; 32]) -> Result<Self, SealError> {
        let fits = (1..=MASTER_KEY_ID_MAX_BYTES).contains(&id.len());
        if fits && id.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self { id: id.to_owned(), key })
        } else {
            Err(SealError::KeyId)
        }
    }

    /// The key's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key's line in a key file: a secret.
    pub fn to_line(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{} {}\n", self.id, hex::encode(&self.key)))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.key.into())
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Reads a key file: the first key seals, all of them open.
pub fn parse_keys(text: &str) -> Result<Vec<MasterKey>, SealError> {
    let mut keys: Vec<MasterKey> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let malformed = SealError::KeyFile { line };
        let (id, key) = text.split_once(' ').ok_or(malformed)?;
        let key = MasterKey::new(id, hex::decode_32(key).ok_or(malformed)?)?;
        if keys.iter().any(|known| known.id == key.id) {
            return Err(malformed);
        }
        keys.push(key);
        if keys.len() > MASTER_KEYS_MAX {
            return Err(SealError::KeyCount);
        }
    }
    if keys.is_empty() { Err(SealError::KeyCount) } else { Ok(keys) }
}

/// Seals a secret. The nonce must be fresh from the operating system for every call.
pub fn seal(
    key: &MasterKey,
    nonce: [u8; NONCE_BYTES],
    context: &str,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    if plaintext.len() > SEALED_PLAINTEXT_MAX_BYTES {
        return Err(SealError::TooLong);
    }
    let id_length = u8::try_from(key.id.len()).ok().ok_or(SealError::KeyId)?;
    let mut sealed = vec![VERSION, id_length];
    sealed.extend_from_slice(key.id.as_bytes());
    let aad = [&sealed, context.as_bytes()].concat();
    let ciphertext = key
        .cipher()
        .encrypt(&nonce.into(), Payload { msg: plaintext, aad: &aad })
        .ok()
        .ok_or(SealError::TooLong)?;
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&ciphertext);
    Ok(sealed)
}

/// Opens a sealed secret for exactly the context it was sealed for.
pub fn open(
    keys: &[MasterKey],
    context: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let [VERSION, id_length, rest @ ..] = sealed else { return Err(SealError::Format) };
    let (id, rest) = rest.split_at_checked(usize::from(*id_length)).ok_or(SealError::Format)?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Format)?;
    let key = keys.iter().find(|key| key.id.as_bytes() == id).ok_or(SealError::UnknownKey)?;
    let aad = [&[VERSION, *id_length], id, context.as_bytes()].concat();
    key.cipher()
        .decrypt(&(*nonce).into(), Payload { msg: ciphertext, aad: &aad })
        .map(Zeroizing::new)
        .ok()
        .ok_or(SealError::Altered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(id: &str) -> MasterKey {
        MasterKey::new(id, [7; 32]).unwrap()
    }

    #[test]
    fn only_the_right_key_and_context_open() {
        let sealed = seal(&key("k1"), [1; 12], "chain/1", b"secret").unwrap();
        let keys = [key("k0"), key("k1")];
        assert_eq!(open(&keys, "chain/1", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(open(&keys, "chain/2", &sealed), Err(SealError::Altered));
        assert_eq!(open(&keys[..1], "chain/1", &sealed), Err(SealError::UnknownKey));
        let foreign = [MasterKey::new("k1", [8; 32]).unwrap()];
        assert_eq!(open(&foreign, "chain/1", &sealed), Err(SealError::Altered));
        assert_eq!(open(&keys, "chain/1", b""), Err(SealError::Format));
        let big = vec![0; SEALED_PLAINTEXT_MAX_BYTES + 1];
        assert_eq!(seal(&key("k1"), [1; 12], "", &big), Err(SealError::TooLong));
    }

    #[test]
    fn the_key_file_is_strict() {
        let file = [key("new").to_line().as_str(), key("old").to_line().as_str()].concat();
        let ids: Vec<_> = parse_keys(&file).unwrap().iter().map(|k| k.id().to_owned()).collect();
        assert_eq!(ids, ["new", "old"]);
        assert_eq!(parse_keys("").unwrap_err(), SealError::KeyCount);
        assert_eq!(parse_keys("a 00\n").unwrap_err(), SealError::KeyFile { line: 1 });
        let twice = key("k").to_line().repeat(2);
        assert_eq!(parse_keys(&twice).unwrap_err(), SealError::KeyFile { line: 2 });
        let many: String =
            (0..=MASTER_KEYS_MAX).map(|n| key(&format!("k{n}")).to_line().to_string()).collect();
        assert_eq!(parse_keys(&many).unwrap_err(), SealError::KeyCount);
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", key("k1")), r#"MasterKey { id: "k1", .. }"#);
    }

    proptest! {
        #[test]
        fn sealed_values_open_and_altered_ones_do_not(
            secret in prop::collection::vec(any::<u8>(), 0..64), nonce: [u8; 12],
            at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let keys = [key("k1"), key("k0")];
            let mut sealed = seal(&keys[0], nonce, "context", &secret).unwrap();
            let opened = open(&keys, "context", &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), secret.as_slice());
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(open(&keys, "context", &sealed).is_err());
        }

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(&[key("k1")], "context", &bytes).is_err());
        }
    }
}
