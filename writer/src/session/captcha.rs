//! The captcha before a session is opened: the player's answer, checked at the operator's siteverify address.
//!
//! The form is Turnstile's: `secret`, `response`, `remoteip`, and the request's own id, under which a repetition of the
//! request is judged as the first one was although an answer is good for once. Invariants: an operator that wants a captcha
//! gets no session without an answer; the check is asked before any transaction begins, at most as long as its operator
//! says; neither secret nor answer is logged. When nobody can tell, a session is refused unless the operator chose otherwise.

use crate::answer::Failure;
use crate::change::Once;
use crate::engine::Engine;
use crate::ledger::captchas::{self, Captcha};
use crate::ledger::requests;
use crate::limits;
use bytes::Bytes;
use domicile_core::error::Code;
use domicile_core::ids::OperatorId;
use domicile_core::wallet::bet_id;
use domicile_service::client::{ClientLimits, HttpClient};
use domicile_service::telemetry;
use domicile_service::tls::ClientTls;
use http::{Request, header};
use serde::Deserialize;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What the player answered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptchaBody {
    /// The token of the widget.
    pub response: String,
    /// The player's address, where the operator tells it.
    pub remote_ip: Option<IpAddr>,
}

/// Longest token of a widget, bytes.
const RESPONSE_MAX_BYTES: usize = 2_048;

/// The context a secret is sealed for.
pub fn seal_context(operator: &OperatorId) -> String {
    format!("captcha:{operator}")
}

/// What the address answers.
#[derive(Deserialize)]
struct Verdict {
    success: bool,
}

/// Asks siteverify addresses.
#[derive(Debug)]
pub struct Checker {
    client: HttpClient,
}

impl Checker {
    /// Trusts the same authorities as operators' wallets.
    pub fn new(tls: &Arc<ClientTls>) -> Self {
        let limits = ClientLimits {
            connect_timeout_ms: limits::WALLET_CONNECT_MS,
            request_timeout_ms: limits::CAPTCHA_MS,
            response_max_bytes: limits::CAPTCHA_ANSWER_BYTES,
            pool_idle_timeout_ms: limits::WALLET_IDLE_MS,
            pool_max_idle_per_host: limits::CAPTCHA_IDLE,
        };
        Self { client: HttpClient::new(tls, limits) }
    }

    /// The address's word, or nothing where it gives none.
    async fn ask(&self, captcha: &Captcha, form: Zeroizing<String>) -> Option<bool> {
        let request = Request::post(&captcha.siteverify_url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Bytes::copy_from_slice(form.as_bytes()))
            .ok()?;
        match self.client.within_ms(captcha.timeout_ms.into()).send(request).await {
            Ok(answer) if answer.status().is_success() => {
                let verdict = serde_json::from_slice::<Verdict>(answer.body()).ok();
                verdict.map(|verdict| verdict.success)
            }
            Ok(answer) => {
                tracing::warn!(status = answer.status().as_u16(), "a captcha was not checked");
                None
            }
            Err(error) => {
                tracing::warn!(reason = telemetry::chain(&error), "a captcha was not checked");
                None
            }
        }
    }
}

/// Lets a request through whose operator wants no captcha, whose answer is right, or that was carried out before.
pub async fn check(
    engine: &Engine,
    operator: &OperatorId,
    once: &Once,
    answer: Option<&CaptchaBody>,
) -> Result<(), Failure> {
    let session = engine.hands.session().await?;
    let Some(captcha) = captchas::read(&session, operator).await? else { return Ok(()) };
    if requests::find(&session, &once.id).await?.is_some() {
        return Ok(());
    }
    // No session of the database is held while somebody outside is asked.
    drop(session);
    let refused = |detail: &'static str| Err(Failure::with(Code::CaptchaRefused, detail));
    let Some(answer) = answer else { return refused("the request has no captcha") };
    if !(1..=RESPONSE_MAX_BYTES).contains(&answer.response.len()) {
        return refused("captcha.response is 1-2048 bytes");
    }
    let secret = engine.keys.open(&seal_context(operator), &captcha.secret_sealed)?;
    let secret =
        std::str::from_utf8(&secret).map_err(|error| Failure::because(Code::Internal, &error))?;
    let said = engine.captchas.ask(&captcha, form(secret, answer, once)).await;
    let result = match said {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "unavailable",
    };
    metrics::counter!("domicile_writer_captchas_total", "result" => result).increment(1);
    match said {
        Some(true) => Ok(()),
        Some(false) => refused("the answer was not accepted"),
        None if captcha.admits_when_unavailable => Ok(()),
        None => Err(Failure::new(Code::CaptchaUnavailable)),
    }
}

fn form(secret: &str, answer: &CaptchaBody, once: &Once) -> Zeroizing<String> {
    // Written once at its full size, so that no copy of the secret is left behind by growing.
    let room = secret.len().saturating_add(answer.response.len()).saturating_mul(3);
    let mut form = Zeroizing::new(String::with_capacity(room.saturating_add(256)));
    encode(&mut form, "secret=", secret);
    encode(&mut form, "&response=", &answer.response);
    if let Some(ip) = answer.remote_ip {
        encode(&mut form, "&remoteip=", &ip.to_string());
    }
    if once.repeatable {
        let id = bet_id(&once.id.scope, &once.id.key);
        encode(&mut form, "&idempotency_key=", &id.to_string());
    }
    form
}

/// Appends a field, as `application/x-www-form-urlencoded` wants its value.
fn encode(form: &mut String, name: &str, value: &str) {
    form.push_str(name);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            form.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _written: std::fmt::Result = write!(form, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::requests::RequestId;

    #[test]
    fn the_form_has_turnstiles_fields_and_is_encoded() {
        let id = RequestId::new("op:acme".into(), "k".into(), "POST", "/", b"");
        let answer = CaptchaBody {
            response: "a b&c=é".into(),
            remote_ip: Some("2001:db8::1".parse().unwrap()),
        };
        let once = Once { id: id.clone(), repeatable: false };
        let text = form("s/1", &answer, &once);
        let wanted = "secret=s%2F1&response=a%20b%26c%3D%C3%A9&remoteip=2001%3Adb8%3A%3A1";
        assert_eq!(*text, wanted);
        let again = form("s/1", &answer, &Once { id, repeatable: true });
        assert!(again.starts_with(wanted) && again.contains("&idempotency_key="));
    }
}
