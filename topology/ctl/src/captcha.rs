//! `domicile captcha`: whether an operator's players answer a captcha before a session is opened.

use crate::credentials::Writer;
use crate::layout::Layout;
use crate::term;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use domicile_core::ids::OperatorId;
use serde_json::{Value, json};
use std::path::PathBuf;
use zeroize::Zeroizing;

#[derive(Debug, Subcommand)]
pub(crate) enum CaptchaCommand {
    /// Want one; sessions without a right answer are refused from now on
    Set(SetArgs),
    /// Open sessions without one again
    Off {
        /// The operator's id
        operator: String,
        /// Why; kept in the operations log with who did it
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The operator's id
    pub(crate) operator: String,
    /// The file with the secret that is shared with the check
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: PathBuf,
    /// Where answers are checked, by HTTPS [default: Cloudflare Turnstile]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The longest check [default: 2000]
    #[arg(long, value_name = "MS")]
    pub(crate) timeout_ms: Option<u32>,
    /// Open sessions all the same while the check cannot be asked [default: refuse them]
    #[arg(long)]
    pub(crate) admit_when_unavailable: bool,
    /// Why; kept in the operations log with who did it
    #[arg(long)]
    pub(crate) reason: String,
}

/// `domicile captcha`.
pub(crate) async fn run(layout: &Layout, command: CaptchaCommand) -> Result<u8> {
    let writer = Writer::current(layout).await?;
    match command {
        CaptchaCommand::Set(args) => {
            let secret = std::fs::read_to_string(&args.secret_file).map(Zeroizing::new);
            let secret =
                secret.with_context(|| format!("cannot read {}", args.secret_file.display()))?;
            let mut body = json!({
                "secret": secret.trim_end(), "admit_when_unavailable": args.admit_when_unavailable,
                "reason": args.reason,
            });
            if let Some(body) = body.as_object_mut() {
                let url = args.url.map(|url| ("siteverify_url".to_owned(), Value::from(url)));
                let timeout = args.timeout_ms.map(|ms| ("timeout_ms".to_owned(), Value::from(ms)));
                body.extend(url.into_iter().chain(timeout));
            }
            let path = format!("{}/captcha", of(&args.operator)?);
            let _answer: Value = writer.post(&path, &body).await?;
            term::say(format_args!("players of {} answer a captcha", args.operator))?;
        }
        CaptchaCommand::Off { operator, reason } => {
            let path = format!("{}/captcha/off", of(&operator)?);
            let _answer: Value = writer.post(&path, &json!({ "reason": reason })).await?;
            term::say(format_args!("players of {operator} answer no captcha"))?;
        }
    }
    Ok(0)
}

fn of(operator: &str) -> Result<String> {
    Ok(format!("/internal/v1/operators/{}", OperatorId::parse(operator)?))
}
