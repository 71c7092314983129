//! C2SP `signed-note` with Ed25519 keys: text that anybody with the key's public half can check.
//!
//! Invariants: a key's private half never appears in `Debug`, an error or a log; base64 is accepted in its
//! canonical spelling only; every signature line by a pinned key must verify, or the note is refused;
//! lines by unknown keys are ignored, as the specification demands.
//! Deliberately absent: other algorithms, and key generation (randomness belongs to the caller).

use std::fmt;

use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{
    base64, hex,
    limits::{KEY_NAME_MAX_BYTES, NOTE_MAX_BYTES, NOTE_SIGNATURES_MAX},
};

/// The algorithm byte of Ed25519.
const ALGORITHM: u8 = 1;
/// What a private key in text form begins with.
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";
/// What a signature line begins with: an em dash and a space.
const LINE_PREFIX: &str = "\u{2014} ";

/// Why a key or a note is refused. Carries no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteError {
    /// The text is not a key of the expected form.
    #[error("not an Ed25519 note key")]
    MalformedKey,
    /// A key name is empty, too long, or contains a space or a plus sign.
    #[error("a key name is 1-128 bytes without spaces or plus signs")]
    KeyName,
    /// The text to sign lacks its final newline or contains a control character.
    #[error("a note's text ends in a newline and holds no control characters")]
    Text,
    /// The note is larger than [`NOTE_MAX_BYTES`] or has more than [`NOTE_SIGNATURES_MAX`] signatures.
    #[error("the note exceeds a limit")]
    TooLarge,
    /// The note does not follow the format.
    #[error("the note is malformed")]
    Malformed,
    /// A signature by a pinned key is wrong.
    #[error("a signature by a pinned key is wrong")]
    Signature,
    /// No signature is by a pinned key.
    #[error("no signature is by a pinned key")]
    Unverified,
}

/// The private half of a note key.
pub struct SigningKey {
    verifier: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// A key from its name and 32 bytes of randomness.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, key.verifying_key())?;
        Ok(Self { verifier, key })
    }

    /// Parses `PRIVATE+KEY+<name>+<key id>+<base64>`, the form that Go's `note` package writes.
    pub fn from_text(text: &str) -> Result<Self, NoteError> {
        let rest = text.trim_end_matches('\n').strip_prefix(PRIVATE_PREFIX);
        let (name, id, key) = rest.and_then(split_key).ok_or(NoteError::MalformedKey)?;
        let bytes = Zeroizing::new(base64::decode(key).ok_or(NoteError::MalformedKey)?);
        let seed = match bytes.split_first() {
            Some((&ALGORITHM, seed)) => seed.try_into().ok(),
            _ => None,
        };
        let signing = Self::from_seed(name, seed.ok_or(NoteError::MalformedKey)?)?;
        if hex::encode(&signing.verifier.id) == id {
            Ok(signing)
        } else {
            Err(NoteError::MalformedKey)
        }
    }

    /// The private key as text, for a file that only its service may read.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(vec![ALGORITHM]);
        bytes.extend_from_slice(Zeroizing::new(self.key.to_bytes()).as_slice());
        let key = Zeroizing::new(base64::encode(&bytes));
        let id = hex::encode(&self.verifier.id);
        Zeroizing::new(format!("{PRIVATE_PREFIX}{}+{id}+{}", self.verifier.name, *key))
    }

    /// The public half.
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.verifier.name
    }

    fn signature_line(&self, text: &str) -> String {
        let mut signature = self.verifier.id.to_vec();
        signature.extend(self.key.sign(text.as_bytes()).to_bytes());
        format!("{LINE_PREFIX}{} {}\n", self.verifier.name, base64::encode(&signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.verifier.name).finish_non_exhaustive()
    }
}

/// The public half of a note key: `<name>+<key id>+<base64>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    fn new(name: &str, key: ed25519_dalek::VerifyingKey) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(NoteError::KeyName);
        }
        // A key of small order would verify signatures that nobody made.
        if key.is_weak() {
            return Err(NoteError::MalformedKey);
        }
        let digest = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', ALGORITHM])
            .chain_update(key.as_bytes())
            .finalize();
        let (id, _) = digest.split_first_chunk::<4>().ok_or(NoteError::MalformedKey)?;
        Ok(Self { name: name.to_owned(), id: *id, key })
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, key) = split_key(text).ok_or(NoteError::MalformedKey)?;
        let bytes = base64::decode(key).ok_or(NoteError::MalformedKey)?;
        let key = match bytes.split_first() {
            Some((&ALGORITHM, key)) => key.try_into().ok(),
            _ => None,
        };
        let key = key
            .and_then(|key| ed25519_dalek::VerifyingKey::from_bytes(key).ok())
            .ok_or(NoteError::MalformedKey)?;
        let verifier = Self::new(name, key)?;
        if verifier.to_string() == text && hex::encode(&verifier.id) == id {
            Ok(verifier)
        } else {
            Err(NoteError::MalformedKey)
        }
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn verify(&self, text: &str, signature: &[u8]) -> Result<(), NoteError> {
        let signature =
            ed25519_dalek::Signature::from_slice(signature).or(Err(NoteError::Signature))?;
        self.key.verify_strict(text.as_bytes(), &signature).or(Err(NoteError::Signature))
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![ALGORITHM];
        bytes.extend(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(&self.id), base64::encode(&bytes))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        Self::parse(text)
    }
}

/// A note with at least one signature by a pinned key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedNote {
    /// The signed text, with its final newline.
    pub text: String,
    /// Names of the pinned keys that signed it, in the order of their lines.
    pub signers: Vec<String>,
}

/// Signs a text that ends in a newline. The same text and key always give the same bytes.
pub fn sign(text: &str, key: &SigningKey) -> Result<String, NoteError> {
    if text.ends_with('\n') && !text.chars().any(is_forbidden) {
        Ok(format!("{text}\n{}", key.signature_line(text)))
    } else {
        Err(NoteError::Text)
    }
}

/// Opens a note: checks its form, every signature by one of `keys`, and that there is at least one.
pub fn open(note: &str, keys: &[VerifierKey]) -> Result<OpenedNote, NoteError> {
    if note.len() > NOTE_MAX_BYTES {
        return Err(NoteError::TooLarge);
    }
    if note.chars().any(is_forbidden) {
        return Err(NoteError::Malformed);
    }
    // The last blank line divides text and signatures; the text keeps its newline.
    let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed)?;
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed)?;
    let text = format!("{text}\n");
    let mut signers = Vec::new();
    for (count, line) in lines.split('\n').enumerate() {
        if count == NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooLarge);
        }
        let (name, id, signature) = parse_line(line).ok_or(NoteError::Malformed)?;
        for key in keys.iter().filter(|key| key.name == name && key.id == id) {
            key.verify(&text, &signature)?;
            signers.push(key.name.clone());
        }
    }
    if signers.is_empty() { Err(NoteError::Unverified) } else { Ok(OpenedNote { text, signers }) }
}

fn parse_line(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let (name, signature) = line.strip_prefix(LINE_PREFIX)?.split_once(' ')?;
    let bytes = base64::decode(signature)?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    (is_key_name(name) && !signature.is_empty()).then(|| (name, *id, signature.to_vec()))
}

/// Splits `name+id+key`; the base64 of the key may itself contain plus signs.
fn split_key(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    Some((name, id, key))
}

fn is_key_name(name: &str) -> bool {
    (1..=KEY_NAME_MAX_BYTES).contains(&name.len())
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn is_forbidden(c: char) -> bool {
    c < ' ' && c != '\n'
}
