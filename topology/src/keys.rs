//! The forms of the public keys a topology carries.
//!
//! Invariant: a session key's PEM holds exactly one key of the algorithm it is declared for.
//! Deliberately absent: private keys, in any form; verifying signatures, which `domicile-core` does.

use crate::document::TokenAlgorithm;
use crate::limits::{MAX_KID_BYTES, MAX_PUBLIC_KEY_BYTES};
use domicile_core::base64;
use domicile_core::note::{NoteError, VerifierKey};
use thiserror::Error;

/// The DER in front of an Ed25519 public key (RFC 8410).
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The DER in front of an uncompressed P-256 point (RFC 5480), the point's leading 0x04 included.
const P256_SPKI: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// Bytes of an Ed25519 public key, and of each coordinate of a P-256 point.
const KEY_BYTES: usize = 32;

/// Why a text is not a key of the expected form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InvalidKey {
    /// A key id has a small alphabet, because it travels in token headers and logs.
    #[error("a key id is 1-{MAX_KID_BYTES} characters from A-Z a-z 0-9 . _ -")]
    Kid,
    /// Not one PEM block of a public key.
    #[error("not a PEM public key (BEGIN PUBLIC KEY … END PUBLIC KEY)")]
    Pem,
    /// A PEM public key of another kind than declared.
    #[error("the PEM holds no key of the declared algorithm")]
    Algorithm,
}

/// Checks a key id of a session key.
pub(crate) fn parse_kid(text: &str) -> Result<String, InvalidKey> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=MAX_KID_BYTES).contains(&text.len()) && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(InvalidKey::Kid)
    }
}

/// Checks that a PEM text holds one public key of the algorithm.
pub(crate) fn parse_public_key(pem: &str, algorithm: TokenAlgorithm) -> Result<String, InvalidKey> {
    let der = decode_pem(pem).ok_or(InvalidKey::Pem)?;
    let (prefix, key_bytes): (&[u8], usize) = match algorithm {
        TokenAlgorithm::EdDsa => (&ED25519_SPKI, KEY_BYTES),
        TokenAlgorithm::Es256 => (&P256_SPKI, 2 * KEY_BYTES),
    };
    match der.strip_prefix(prefix) {
        Some(key) if key.len() == key_bytes => Ok(pem.to_owned()),
        _ => Err(InvalidKey::Algorithm),
    }
}

fn decode_pem(pem: &str) -> Option<Vec<u8>> {
    if pem.len() > MAX_PUBLIC_KEY_BYTES {
        return None;
    }
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")?
        .strip_suffix("-----END PUBLIC KEY-----")?;
    base64::decode(&body.lines().collect::<String>())
}

/// Checks a note verifier key.
pub(crate) fn parse_vkey(text: &str) -> Result<String, NoteError> {
    VerifierKey::parse(text).map(|key| key.to_string())
}

/// The name of a verifier key: what stands before the first `+`.
pub(crate) fn vkey_name(vkey: &str) -> &str {
    vkey.split_once('+').map_or(vkey, |(name, _)| name)
}
