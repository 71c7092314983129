//! Signatures of requests to wallets.
//!
//! Invariant: a key is never printed. An HMAC binds method, target, time and body; the RSA form binds the body alone, as
//! Hub88-type wallets check it – there the transaction's id is what makes a replay harmless.

use crate::ledger::wallets::Signing;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use domicile_core::base64;
use domicile_core::operator_auth::{KEY_ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use domicile_core::wallet::exchange::{RSA_SIGNATURE_HEADER, hmac};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// A wallet's signing key, ready for use.
pub enum WalletKey {
    /// A shared secret.
    Hmac(Zeroizing<Vec<u8>>),
    /// A private key.
    Rsa(Box<RsaKeyPair>),
}

impl std::fmt::Debug for WalletKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalletKey").finish_non_exhaustive()
    }
}

/// Shortest shared secret, bytes.
const HMAC_MIN_BYTES: usize = 16;

impl WalletKey {
    /// Reads a key: the bytes of a shared secret, or the PEM (PKCS #8) of an RSA key.
    pub fn read(signing: Signing, key: &[u8]) -> Option<Self> {
        match signing {
            Signing::HmacSha256 => {
                (key.len() >= HMAC_MIN_BYTES).then(|| Self::Hmac(Zeroizing::new(key.to_vec())))
            }
            Signing::RsaSha256 => {
                let der = PrivatePkcs8KeyDer::from_pem_slice(key).ok()?;
                let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
                Some(Self::Rsa(Box::new(pair)))
            }
        }
    }

    /// The headers that sign this request; `None` only where the system has no randomness.
    pub fn headers(
        &self,
        key_id: &str,
        target: &str,
        now_unix_s: u64,
        body: &[u8],
    ) -> Option<Vec<(&'static str, String)>> {
        match self {
            Self::Hmac(secret) => Some(vec![
                (KEY_ID_HEADER, key_id.to_owned()),
                (TIMESTAMP_HEADER, now_unix_s.to_string()),
                (SIGNATURE_HEADER, hmac(secret, target, now_unix_s, body)),
            ]),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, body, &mut signature).ok()?;
                Some(vec![
                    (KEY_ID_HEADER, key_id.to_owned()),
                    (RSA_SIGNATURE_HEADER, base64::encode(&signature)),
                ])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    #[test]
    fn an_rsa_signature_is_over_the_body_and_verifies() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = UnparsedPublicKey::new(
            &RSA_PKCS1_2048_8192_SHA256,
            pair.public_key().as_ref().to_vec(),
        );
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            base64::encode(der.as_ref())
        );
        let key = WalletKey::read(Signing::RsaSha256, pem.as_bytes()).unwrap();
        let headers = key.headers("k", "/anything", 1, b"{}").unwrap();
        let (_, signature) =
            headers.iter().find(|(name, _)| *name == RSA_SIGNATURE_HEADER).unwrap();
        let signature = base64::decode(signature).unwrap();
        assert!(public.verify(b"{}", &signature).is_ok());
        assert!(public.verify(b"{ }", &signature).is_err());
    }

    #[test]
    fn unusable_keys_are_refused() {
        assert!(WalletKey::read(Signing::HmacSha256, b"short").is_none());
        assert!(WalletKey::read(Signing::RsaSha256, b"-----BEGIN PRIVATE KEY-----").is_none());
        assert!(!format!("{:?}", WalletKey::read(Signing::HmacSha256, &[7; 32])).contains('7'));
    }
}
