//! Session tokens for the proxies: signed with a key that the topology names, so that Domicile accepts them
//! too, in an algorithm that HAProxy knows.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domicile_core::claims::Claims;

/// The key's id in the topology.
const KID: &str = "bench-es256";

/// An ES256 key of the benchmark's own.
pub(crate) struct Es256 {
    pair: EcdsaKeyPair,
}

impl Es256 {
    /// A new key.
    pub(crate) fn generate() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key");
        Self { pair }
    }

    /// The public half, PEM.
    pub(crate) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.pair.public_key().as_der().expect("DER");
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).expect("base64"))
            .collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The topology's entry for it.
    pub(crate) fn document(&self, region: &str) -> String {
        let pem = self.public_pem();
        format!(
            "\n[[session_key]]\nkid = \"{KID}\"\nregion = \"{region}\"\nalgorithm = \"ES256\"\n\
             public_key = \"\"\"\n{pem}\"\"\"\n"
        )
    }

    /// A token.
    pub(crate) fn token(&self, claims: &Claims) -> String {
        let text =
            signing_input(&format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{KID}"}}"#), claims);
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// A token under a shared secret, for the yardstick only: Domicile refuses such tokens.
pub(crate) fn hs256(secret: &str, claims: &Claims) -> String {
    let text = signing_input(r#"{"alg":"HS256","typ":"JWT"}"#, claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()).as_ref()))
}

fn signing_input(header: &str, claims: &Claims) -> String {
    let claims = serde_json::to_vec(claims).expect("claims");
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}
