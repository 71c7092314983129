//! Session tokens: verified once, then recognised.
//!
//! Invariants: the algorithm is the key's, never the token's choice; a token is accepted only if size,
//! form, key, signature, claims and time are all right; a cached token is the whole text that was
//! verified, its time is checked at every use, and a change of keys forgets all of them.
//! Deliberately absent: shared-secret algorithms, `none`, key URLs in tokens, revocation (the session's
//! state decides that where sessions are known).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domicile_core::claims::{Claims, Validated};
use domicile_core::error::Code;
use domicile_core::ids::ClusterId;
use domicile_core::limits::{TOKEN_LEEWAY_S, TOKEN_MAX_BYTES};
use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Clock;

/// How many verified tokens are expected to be in use at once.
pub const CACHE_TOKENS: usize = 100_000;
/// What all cached tokens may weigh.
pub const CACHE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// What one cached token weighs besides its text: the parsed claims and the cache's own keeping.
const CACHE_ENTRY_BYTES: usize = 512;
/// The longest key id.
pub const KID_MAX_BYTES: usize = 64;

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenAlgorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

impl TokenAlgorithm {
    fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }

    fn jwt(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
        }
    }

    /// An Ed25519 point, or an uncompressed P-256 point.
    fn public_key_bytes(self) -> usize {
        match self {
            Self::EdDsa => 32,
            Self::Es256 => 65,
        }
    }
}

/// Why a key or a token could not be made.
#[derive(Debug, Error)]
pub enum TokenKeyError {
    /// The key id is empty, too long or not visible ASCII.
    #[error("a key id is 1-64 visible ASCII characters")]
    Kid,
    /// The PEM text is not a key of the algorithm.
    #[error("key {kid} is not a PEM key for {algorithm}")]
    Pem {
        /// The key's id.
        kid: String,
        /// The algorithm it was declared with.
        algorithm: &'static str,
    },
    /// Two keys have the same id.
    #[error("key {kid} stands there twice")]
    Duplicate {
        /// The id.
        kid: String,
    },
    /// Signing failed.
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// Public keys by id.
#[derive(Clone, Default)]
pub struct TokenKeys(HashMap<String, (TokenAlgorithm, DecodingKey)>);

impl TokenKeys {
    /// No keys: every token is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a public key (PEM, `SubjectPublicKeyInfo`).
    pub fn add(
        &mut self,
        kid: &str,
        algorithm: TokenAlgorithm,
        public_key_pem: &str,
    ) -> Result<(), TokenKeyError> {
        check_kid(kid)?;
        let pem = public_key_pem.as_bytes();
        let key = match algorithm {
            TokenAlgorithm::EdDsa => DecodingKey::from_ed_pem(pem),
            TokenAlgorithm::Es256 => DecodingKey::from_ec_pem(pem),
        };
        let fits = |key: &DecodingKey| {
            key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == algorithm.public_key_bytes())
        };
        let key = key.ok().filter(fits).ok_or_else(|| TokenKeyError::Pem {
            kid: kid.to_owned(),
            algorithm: algorithm.name(),
        })?;
        match self.0.insert(kid.to_owned(), (algorithm, key)) {
            None => Ok(()),
            Some(_) => Err(TokenKeyError::Duplicate { kid: kid.to_owned() }),
        }
    }
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Keys and the tokens they verified. One value, so that changing the keys cannot leave a token behind,
/// not even one that is being verified meanwhile.
struct Ring {
    keys: TokenKeys,
    verified: Cache<Box<str>, Arc<Validated>, ByBytes>,
}

impl Ring {
    fn new(keys: TokenKeys) -> Self {
        Self { keys, verified: Cache::with_weighter(CACHE_TOKENS, CACHE_MAX_BYTES, ByBytes) }
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<str>, Arc<Validated>> for ByBytes {
    fn weight(&self, token: &Box<str>, _: &Arc<Validated>) -> u64 {
        u64::try_from(token.len().saturating_add(CACHE_ENTRY_BYTES)).unwrap_or(u64::MAX)
    }
}

/// Verifies session tokens of one cluster.
pub struct TokenVerifier {
    issuer: ClusterId,
    clock: Arc<dyn Clock>,
    ring: ArcSwap<Ring>,
}

impl TokenVerifier {
    /// A verifier with these keys.
    pub fn new(issuer: ClusterId, clock: Arc<dyn Clock>, keys: TokenKeys) -> Self {
        Self { issuer, clock, ring: ArcSwap::from_pointee(Ring::new(keys)) }
    }

    /// Puts other keys in place; everything verified before is forgotten.
    pub fn replace_keys(&self, keys: TokenKeys) {
        self.ring.store(Arc::new(Ring::new(keys)));
    }

    /// Verifies the request's bearer token.
    pub fn verify_request(&self, headers: &HeaderMap) -> Result<Arc<Validated>, Code> {
        self.verify(bearer(headers)?)
    }

    /// Verifies a token.
    pub fn verify(&self, token: &str) -> Result<Arc<Validated>, Code> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(Code::TokenTooLarge);
        }
        let now_unix_s = self.clock.now_unix_s();
        let ring = self.ring.load();
        if let Some(known) = ring.verified.get(token) {
            return match known.check_time(now_unix_s, TOKEN_LEEWAY_S) {
                Ok(()) => Ok(known),
                Err(code) => {
                    ring.verified.remove(token);
                    Err(code)
                }
            };
        }
        let claims = ring.keys.open(token)?;
        let validated = Arc::new(claims.validate(now_unix_s, &self.issuer, TOKEN_LEEWAY_S)?);
        ring.verified.insert(token.into(), validated.clone());
        Ok(validated)
    }
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// The part of a token's header that is looked at. `crit` announces extensions; none is understood.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl TokenKeys {
    /// The claims of a token whose signature is right.
    fn open(&self, token: &str) -> Result<Claims, Code> {
        let (message, signature) = token.rsplit_once('.').ok_or(Code::TokenMalformed)?;
        let (header, payload) = message.split_once('.').ok_or(Code::TokenMalformed)?;
        let header: TokenHeader = decode(header).ok_or(Code::TokenMalformed)?;
        if header.crit.is_some() || payload.contains('.') {
            return Err(Code::TokenMalformed);
        }
        let kid = header.kid.ok_or(Code::TokenUnknownKey)?;
        let (algorithm, key) = self.0.get(&kid).ok_or(Code::TokenUnknownKey)?;
        if header.alg != algorithm.name() {
            return Err(Code::TokenAlgorithm);
        }
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm.jwt()) {
            Ok(true) => decode(payload).ok_or(Code::TokenClaims),
            Ok(false) | Err(_) => Err(Code::TokenSignature),
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The request's one bearer token.
pub fn bearer(headers: &HeaderMap) -> Result<&str, Code> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Code::TokenMissing)?;
    if values.next().is_some() {
        return Err(Code::TokenMalformed);
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Code::TokenMalformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token) } else { Err(Code::TokenMissing) }
}

/// Signs session tokens with one Ed25519 key.
pub struct TokenSigner {
    header: Header,
    key: EncodingKey,
}

impl TokenSigner {
    /// A signer with a private key (PEM, PKCS #8).
    pub fn from_pem(kid: &str, private_key_pem: &SecretString) -> Result<Self, TokenKeyError> {
        check_kid(kid)?;
        let key = EncodingKey::from_ed_pem(private_key_pem.expose_secret().as_bytes());
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.to_owned());
        let wrong = |_unreadable| TokenKeyError::Pem { kid: kid.to_owned(), algorithm: "EdDSA" };
        let signer = Self { header, key: key.map_err(wrong)? };
        // A key that cannot sign is found now, not at the first session.
        signer.sign_text(&()).map_err(wrong)?;
        Ok(signer)
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }

    /// Makes a token.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenKeyError> {
        self.sign_text(claims).map_err(TokenKeyError::Sign)
    }

    fn sign_text(&self, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
    }
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

fn check_kid(kid: &str) -> Result<(), TokenKeyError> {
    let visible = kid.bytes().all(|byte| byte.is_ascii_graphic());
    if !kid.is_empty() && kid.len() <= KID_MAX_BYTES && visible {
        Ok(())
    } else {
        Err(TokenKeyError::Kid)
    }
}
