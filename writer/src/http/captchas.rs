//! The cluster's own command line sets which captcha an operator's players answer.

use super::admin::{Reason, by};
use super::{Incoming, Operation, parse};
use crate::admin::operators::not_written;
use crate::answer::{Acknowledged, Failure, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::WriteError;
use crate::ledger::captchas::{self, Captcha};
use crate::limits;
use crate::operations::{self, Entry};
use crate::session::captcha_seal_context;
use domicile_core::error::Code;
use domicile_core::ids::OperatorId;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

/// Turnstile's own.
const SITEVERIFY: &str = "https://challenges.cloudflare.com/turnstile/v0/siteverify";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptchaBody {
    secret: String,
    siteverify_url: Option<String>,
    #[serde(default = "CaptchaBody::timeout_ms")]
    timeout_ms: u32,
    #[serde(default)]
    admit_when_unavailable: bool,
    reason: String,
}

impl CaptchaBody {
    const fn timeout_ms() -> u32 {
        2_000
    }

    fn checked(self, engine: &Engine, operator: &OperatorId) -> Result<Captcha, Failure> {
        let refuse = |detail: &'static str| Err(Failure::with(Code::MalformedBody, detail));
        let secret = Zeroizing::new(self.secret);
        let url = self.siteverify_url.unwrap_or_else(|| SITEVERIFY.to_owned());
        let parsed = url.parse::<http::Uri>().ok();
        let https = parsed.is_some_and(|url| url.scheme_str() == Some("https"));
        if !https || url.len() > limits::WALLET_URL_BYTES {
            return refuse("siteverify_url is an address by HTTPS");
        }
        if !(1..=limits::OPERATOR_TEXT_BYTES).contains(&secret.len()) {
            return refuse("secret is 1-256 bytes");
        }
        if !(100..=10_000).contains(&self.timeout_ms) {
            return refuse("timeout_ms is 100-10000");
        }
        let context = captcha_seal_context(operator);
        Ok(Captcha {
            siteverify_url: url,
            secret_sealed: engine.keys.seal(&context, secret.as_bytes())?,
            timeout_ms: self.timeout_ms,
            admits_when_unavailable: self.admit_when_unavailable,
        })
    }
}

pub(super) async fn handle(engine: &Engine, operation: Operation, incoming: &Incoming) -> Handled {
    let operator = incoming.id(OperatorId::parse, Code::NotFound)?;
    let operator = engine.directory.operator(&operator).await?.id.clone();
    let (captcha, reason) = if operation == Operation::SetCaptcha {
        let body: CaptchaBody = parse(&incoming.body)?;
        let reason = body.reason.clone();
        (Some(body.checked(engine, &operator)?), reason)
    } else {
        (None, parse::<Reason>(&incoming.body)?.reason)
    };
    let by = by(incoming, &reason)?;
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let reply = json!({ "operator": operator, "captcha": captcha.is_some() });
    let (action, after) = match &captcha {
        Some(captcha) => {
            captchas::put(&tx, engine.epoch, &operator, captcha).await.map_err(not_written)?;
            let Captcha { siteverify_url, timeout_ms, admits_when_unavailable, .. } = captcha;
            let after = json!({
                "siteverify_url": siteverify_url, "timeout_ms": timeout_ms,
                "admit_when_unavailable": admits_when_unavailable,
            });
            ("captcha.set", Some(after))
        }
        None => match captchas::switch_off(&tx, engine.epoch, &operator).await {
            Ok(()) => ("captcha.off", None),
            Err(WriteError::Shortfall) => {
                tx.rollback().await?;
                drop(session);
                return engine.acknowledge(Err(Failure::new(Code::NotFound))).await;
            }
            Err(WriteError::Database(error)) => return Err(error.into()),
        },
    };
    let entry = Entry { by: &by, action, subject: operator.as_str(), before: None, after };
    operations::append(engine, &tx, entry).await?;
    let durable = operations::commit(engine, tx).await?;
    Ok(Acknowledged::new(&durable, Reply::json(200, &reply)))
}
