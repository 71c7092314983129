//! Whose requests a wallet believes.

use super::KEY_ID;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use domicile_core::base64;
use domicile_core::operator_auth::{
    Credentials, KEY_ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER,
};
use domicile_core::wallet::exchange::RSA_SIGNATURE_HEADER;
use http::HeaderMap;

/// How requests are signed.
#[derive(Debug, Clone)]
pub enum Trust {
    /// With this shared secret, over method, path, time and body.
    Hmac(Vec<u8>),
    /// With the private half of this RSA key (DER), over the body.
    Rsa(Vec<u8>),
}

impl Trust {
    /// Whether this request is.
    pub fn is_signed(&self, path: &str, headers: &HeaderMap, body: &[u8], now_unix_s: u64) -> bool {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match self {
            Self::Hmac(secret) => {
                let signed = Credentials::parse(
                    header(KEY_ID_HEADER),
                    header(TIMESTAMP_HEADER),
                    header(SIGNATURE_HEADER),
                );
                signed.is_ok_and(|signed| {
                    signed.key_id == KEY_ID
                        && signed.verify(secret, "POST", path, body, now_unix_s).is_ok()
                })
            }
            Self::Rsa(key) => {
                let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
                let signature = header(RSA_SIGNATURE_HEADER).and_then(base64::decode);
                header(KEY_ID_HEADER) == Some(KEY_ID)
                    && signature.is_some_and(|signature| key.verify(body, &signature).is_ok())
            }
        }
    }
}
