//! Operator requests: HMAC-SHA256 over `METHOD\nPATH\nTIMESTAMP\nSHA256_HEX(body)`, base64.
//!
//! PATH is the request target as sent, query included. The timestamp must lie within
//! [`OPERATOR_WINDOW_S`] of our clock; the comparison takes constant time.
//! Deliberately absent: looking up the secret, and remembering requests (replays are the writer's
//! to find, in the ledger, where the memory survives a failover).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    error::Code,
    hex,
    limits::{OPERATOR_KEY_ID_MAX_BYTES, OPERATOR_WINDOW_S},
};

/// Header that names the credential.
pub const KEY_ID_HEADER: &str = "Domicile-Key-Id";
/// Header with the time of signing, unix seconds.
pub const TIMESTAMP_HEADER: &str = "Domicile-Timestamp";
/// Header with the signature, base64.
pub const SIGNATURE_HEADER: &str = "Domicile-Signature";

/// What is signed: the request as the operator sent it.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method in capitals.
    pub method: &'a str,
    /// The request target, query included.
    pub path: &'a str,
    /// Time of signing, unix seconds.
    pub timestamp_unix_s: u64,
    /// The raw body.
    pub body: &'a [u8],
}

impl SignedRequest<'_> {
    /// The exact text that is signed.
    pub fn canonical(&self) -> String {
        let body = hex::encode(&Sha256::digest(self.body));
        format!("{}\n{}\n{}\n{body}", self.method, self.path, self.timestamp_unix_s)
    }

    /// The signature header's value.
    pub fn sign(&self, secret: &[u8]) -> String {
        STANDARD.encode(self.mac(secret).finalize().into_bytes())
    }

    fn mac(&self, secret: &[u8]) -> Hmac<Sha256> {
        // A key longer than the block is hashed first, exactly as RFC 2104 says.
        let mut key = Zeroizing::new([0; 64]);
        let hashed = Sha256::digest(secret);
        let used = if secret.len() > key.len() { hashed.as_slice() } else { secret };
        for (to, from) in key.iter_mut().zip(used) {
            *to = *from;
        }
        let mut mac = Hmac::<Sha256>::new((&*key).into());
        mac.update(self.canonical().as_bytes());
        mac
    }
}

/// The three headers, parsed.
#[derive(Clone)]
pub struct Credentials {
    /// Which credential signed.
    pub key_id: String,
    /// When, unix seconds.
    pub timestamp_unix_s: u64,
    signature: [u8; 32],
}

impl Credentials {
    /// Reads the headers' values; a missing or malformed one is [`Code::OperatorAuthMissing`].
    pub fn parse(
        key_id: Option<&str>,
        timestamp: Option<&str>,
        signature: Option<&str>,
    ) -> Result<Self, Code> {
        let missing = Code::OperatorAuthMissing;
        let key_id = key_id
            .filter(|id| (1..=OPERATOR_KEY_ID_MAX_BYTES).contains(&id.len()))
            .filter(|id| id.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or(missing)?;
        let timestamp_unix_s = timestamp
            .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or(missing)?;
        let signature = signature
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(missing)?;
        Ok(Self { key_id: key_id.to_owned(), timestamp_unix_s, signature })
    }

    /// Checks time and signature of the request these headers came with.
    pub fn verify(
        &self,
        secret: &[u8],
        method: &str,
        path: &str,
        body: &[u8],
        now_unix_s: u64,
    ) -> Result<(), Code> {
        if self.timestamp_unix_s.abs_diff(now_unix_s) > OPERATOR_WINDOW_S {
            return Err(Code::OperatorTimestamp);
        }
        let request = SignedRequest { method, path, timestamp_unix_s: self.timestamp_unix_s, body };
        let verified = request.mac(secret).verify_slice(&self.signature);
        verified.ok().ok_or(Code::OperatorSignature)
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &[u8] = b"an operator's secret";
    const NOW: u64 = 1_800_000_000;
    const PATH: &str = "/operator/v1/rounds?x=1";

    fn signed(body: &[u8]) -> Credentials {
        let request = SignedRequest { method: "POST", path: PATH, timestamp_unix_s: NOW, body };
        let signature = request.sign(SECRET);
        Credentials::parse(Some("key-1"), Some(&NOW.to_string()), Some(&signature)).unwrap()
    }

    #[test]
    fn the_canonical_text_is_as_documented() {
        let request =
            SignedRequest { method: "POST", path: "/p?q=1", timestamp_unix_s: 12, body: b"{}" };
        assert_eq!(
            request.canonical(),
            "POST\n/p?q=1\n12\n\
             44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
    }

    #[test]
    fn any_difference_is_refused() {
        let credentials = signed(b"{}");
        let verify = |secret, method, path, body: &[u8], now| {
            credentials.verify(secret, method, path, body, now)
        };
        assert_eq!(verify(SECRET, "POST", PATH, b"{}", NOW), Ok(()));
        assert_eq!(verify(SECRET, "POST", PATH, b"{}", NOW + 30), Ok(()));
        assert_eq!(verify(SECRET, "POST", PATH, b"{}", NOW - 30), Ok(()));
        let late = Err(Code::OperatorTimestamp);
        assert_eq!(verify(SECRET, "POST", PATH, b"{}", NOW + 31), late);
        assert_eq!(verify(SECRET, "POST", PATH, b"{}", NOW - 31), late);
        let wrong = Err(Code::OperatorSignature);
        assert_eq!(verify(b"other", "POST", PATH, b"{}", NOW), wrong);
        assert_eq!(verify(SECRET, "PUT", PATH, b"{}", NOW), wrong);
        assert_eq!(verify(SECRET, "POST", "/operator/v1/rounds", b"{}", NOW), wrong);
        assert_eq!(verify(SECRET, "POST", PATH, b"{ }", NOW), wrong);
    }

    #[test]
    fn malformed_headers_are_refused() {
        let signature = STANDARD.encode([0; 32]);
        let good = (Some("k"), Some("12"), Some(signature.as_str()));
        assert!(Credentials::parse(good.0, good.1, good.2).is_ok());
        let short = STANDARD.encode([0; 31]);
        let unpadded = signature.trim_end_matches('=').to_owned();
        let long_id = "k".repeat(OPERATOR_KEY_ID_MAX_BYTES + 1);
        for (key_id, timestamp, signature) in [
            (None, good.1, good.2),
            (Some(""), good.1, good.2),
            (Some("a b"), good.1, good.2),
            (Some(long_id.as_str()), good.1, good.2),
            (good.0, None, good.2),
            (good.0, Some("+12"), good.2),
            (good.0, Some("12.0"), good.2),
            (good.0, Some("99999999999999999999"), good.2),
            (good.0, good.1, None),
            (good.0, good.1, Some(short.as_str())),
            (good.0, good.1, Some(unpadded.as_str())),
        ] {
            let refused = Credentials::parse(key_id, timestamp, signature);
            assert_eq!(refused.unwrap_err(), Code::OperatorAuthMissing);
        }
    }

    proptest! {
        #[test]
        fn long_keys_follow_rfc_2104(secret in prop::collection::vec(any::<u8>(), 0..200)) {
            let request =
                SignedRequest { method: "GET", path: "/", timestamp_unix_s: 1, body: b"" };
            let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
            mac.update(request.canonical().as_bytes());
            prop_assert_eq!(request.sign(&secret), STANDARD.encode(mac.finalize().into_bytes()));
        }

        #[test]
        fn signed_requests_verify_and_altered_bodies_do_not(
            body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(),
        ) {
            let credentials = signed(&body);
            prop_assert_eq!(credentials.verify(SECRET, "POST", PATH, &body, NOW), Ok(()));
            let mut altered = body.clone();
            altered[at.index(body.len())] ^= 1;
            let refused = credentials.verify(SECRET, "POST", PATH, &altered, NOW);
            prop_assert_eq!(refused, Err(Code::OperatorSignature));
        }

        #[test]
        fn any_header_text_is_read_or_refused(a in "\\PC{0,70}", b in "\\PC{0,30}", c in "\\PC{0,60}") {
            let parsed = Credentials::parse(Some(&a), Some(&b), Some(&c));
            prop_assert!(parsed.is_ok() || parsed.unwrap_err() == Code::OperatorAuthMissing);
        }
    }
}
