//! An operator's backend: signs each request with its secret, as the API documents it.

use crate::credentials::NewCredential;
use crate::outside::Outside;
use anyhow::{Context, Result};
use bytes::Bytes;
use domicile_core::base64;
use domicile_core::operator_auth::{
    KEY_ID_HEADER, SIGNATURE_HEADER, SignedRequest, TIMESTAMP_HEADER,
};
use domicile_service::clock::{Clock, SystemClock};
use http::{Request, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

/// An operator with its credential.
pub(crate) struct Operator {
    outside: Outside,
    base: String,
    key_id: String,
    secret: Zeroizing<Vec<u8>>,
}

impl Operator {
    /// An operator that calls the router at `base`.
    pub(crate) fn new(outside: Outside, base: String, credential: &NewCredential) -> Result<Self> {
        let secret = base64::decode(&credential.secret_b64)
            .context("the operator's secret is not base64")?;
        Ok(Self {
            outside,
            base,
            key_id: credential.key_id.clone(),
            secret: Zeroizing::new(secret),
        })
    }

    /// POST of a JSON document; it carries a request id, so that sending it again has one effect.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let bytes = serde_json::to_vec(body)?;
        let answer = self
            .outside
            .send(|| {
                let timestamp_unix_s = SystemClock.now_unix_s();
                let signed = SignedRequest { method: "POST", path, timestamp_unix_s, body: &bytes };
                let request = Request::post(format!("{}{path}", self.base))
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(KEY_ID_HEADER, &self.key_id)
                    .header(TIMESTAMP_HEADER, timestamp_unix_s.to_string())
                    .header(SIGNATURE_HEADER, signed.sign(&self.secret));
                Ok(request.body(Bytes::from(bytes.clone()))?)
            })
            .await?;
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("the answer of POST {path} is not as documented"))
    }
}
