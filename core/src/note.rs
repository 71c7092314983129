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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use signed_note::{Note, Signer as _, StandardSigner, StandardVerifier, VerifierList};

    use super::*;

    /// The example of Go's `golang.org/x/mod/sumdb/note`.
    const GO_SIGNER: &str =
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const GO_VERIFIER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                           then you don't know what your problem is.\n";

    fn key(name: &str) -> SigningKey {
        SigningKey::from_seed(name, &[7; 32]).unwrap()
    }

    fn pinned(keys: &[&SigningKey]) -> Vec<VerifierKey> {
        keys.iter().map(|key| key.verifier().clone()).collect()
    }

    #[test]
    fn the_go_example_is_reproduced() {
        let key = SigningKey::from_text(GO_SIGNER).unwrap();
        assert_eq!(key.verifier().to_string(), GO_VERIFIER);
        assert_eq!(*key.to_text(), GO_SIGNER);
        let note = sign(GO_TEXT, &key).unwrap();
        let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1F\
                    FYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert_eq!(note, format!("{GO_TEXT}\n{line}"));
        let opened = open(&note, &[VerifierKey::parse(GO_VERIFIER).unwrap()]).unwrap();
        assert_eq!((opened.text.as_str(), opened.signers.len()), (GO_TEXT, 1));
    }

    #[test]
    fn no_flipped_bit_of_a_note_is_accepted() {
        let key = key("demo/MT/1");
        let note = sign("demo/MT/1\n3\nroot\n", &key).unwrap().into_bytes();
        let keys = pinned(&[&key]);
        for bit in 0..note.len() * 8 {
            let mut flipped = note.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let accepted = str::from_utf8(&flipped).is_ok_and(|note| open(note, &keys).is_ok());
            assert!(!accepted, "bit {bit}");
        }
    }

    #[test]
    fn unknown_keys_are_ignored_and_wrong_signatures_refused() {
        let (known, other) = (key("known"), key("other"));
        let text = "text\n";
        let signed = |keys: &[&SigningKey]| {
            keys.iter().fold(format!("{text}\n"), |note, key| note + &key.signature_line(text))
        };
        let both = signed(&[&other, &known]);
        assert_eq!(open(&both, &pinned(&[&known])).unwrap().signers, ["known"]);
        assert_eq!(open(&both, &pinned(&[&known, &other])).unwrap().signers, ["other", "known"]);
        assert_eq!(open(&signed(&[&other]), &pinned(&[&known])), Err(NoteError::Unverified));
        // A good signature does not excuse a wrong one by another pinned key.
        let wrong = signed(&[&known]) + &other.signature_line("other text\n");
        assert_eq!(open(&wrong, &pinned(&[&known, &other])), Err(NoteError::Signature));
        let same_name = SigningKey::from_seed("known", &[8; 32]).unwrap();
        assert_eq!(open(&both, &pinned(&[&same_name])), Err(NoteError::Unverified));
        let sixteen: Vec<SigningKey> =
            (0..16).map(|n| SigningKey::from_seed(&format!("w{n}"), &[n; 32]).unwrap()).collect();
        let sixteen: Vec<&SigningKey> = sixteen.iter().collect();
        assert_eq!(open(&signed(&sixteen), &pinned(&sixteen)).unwrap().signers.len(), 16);
        let too_many = vec![&known; NOTE_SIGNATURES_MAX + 1];
        assert_eq!(open(&signed(&too_many), &pinned(&[&known])), Err(NoteError::TooLarge));
    }

    #[test]
    fn malformed_notes_are_refused() {
        let key = key("k");
        let note = sign("a\n\nb\n", &key).unwrap();
        let keys = pinned(&[&key]);
        assert_eq!(open(&note, &keys).unwrap().text, "a\n\nb\n");
        for bad in [
            String::new(),
            "text\n".to_owned(),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            note.replace('\u{2014}', "-"),
            note.replace("\n\n\u{2014}", "\n\u{2014}"),
            note.replace('\n', "\r\n"),
            note.replace("b\n", "b\t\n"),
            format!("{note}\u{2014} k \n"),
            format!("{note}\u{2014} k+1 AAAAAAAA\n"),
            "x".repeat(NOTE_MAX_BYTES + 1),
        ] {
            assert!(open(&bad, &keys).is_err(), "must be refused: {bad:?}");
        }
        for bad in ["no newline", "tab\t\n", ""] {
            assert_eq!(sign(bad, &key), Err(NoteError::Text));
        }
    }

    #[test]
    fn malformed_keys_are_refused_without_showing_them() {
        let signing = key("demo/MT/1");
        let private = signing.to_text();
        let public = signing.verifier().to_string();
        let cut = private.strip_suffix(|_: char| true).unwrap_or_default();
        for bad in ["", "PRIVATE+KEY+", "PRIVATE+KEY+a+b+c", cut, &public] {
            let error = SigningKey::from_text(bad).unwrap_err();
            assert!(!error.to_string().contains("demo"), "{error}");
        }
        let weak = format!("k+00000000+{}", base64::encode(&[[1].as_slice(), &[0; 32]].concat()));
        for bad in ["", "a+b+c", public.to_uppercase().as_str(), &private, &weak] {
            assert!(VerifierKey::parse(bad).is_err(), "must be refused: {bad}");
        }
        for name in ["", "a b", "a+b", "a\u{a0}b", "a\nb", &"x".repeat(KEY_NAME_MAX_BYTES + 1)] {
            assert_eq!(SigningKey::from_seed(name, &[1; 32]).err(), Some(NoteError::KeyName));
        }
        assert_eq!(format!("{signing:?}"), "SigningKey { name: \"demo/MT/1\", .. }");
    }

    proptest! {
        #[test]
        fn notes_agree_with_another_implementation(text in "[ -~\n]{0,200}", seed: [u8; 32]) {
            let text = format!("{text}\n");
            let key = SigningKey::from_seed("example.com/log", &seed).unwrap();
            let ours = sign(&text, &key).unwrap();
            let signer = StandardSigner::new(&key.to_text()).unwrap();
            prop_assert_eq!(signer.name(), key.name());
            let mut note = Note::new(text.as_bytes(), &[]).unwrap();
            note.add_sigs(&[&signer]).unwrap();
            prop_assert_eq!(note.to_bytes(), ours.as_bytes());
            let verifier = StandardVerifier::new(&key.verifier().to_string()).unwrap();
            let read = Note::from_bytes(ours.as_bytes()).unwrap();
            prop_assert!(read.verify(&VerifierList::new(vec![Box::new(verifier)])).is_ok());
            prop_assert_eq!(open(&ours, &pinned(&[&key])).unwrap().text, text);
        }

        #[test]
        fn arbitrary_texts_never_panic(text in "(\\PC|\n|\u{2014} ){0,100}") {
            prop_assert!(open(&text, &pinned(&[&key("k")])).is_err());
            prop_assert!(SigningKey::from_text(&text).is_err());
            if let Ok(key) = VerifierKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
