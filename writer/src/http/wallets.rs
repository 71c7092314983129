//! The cluster's own command line sets operators' wallets, looks after their transactions and compares days.

use super::admin::by;
use super::{Incoming, Operation, parse};
use crate::admin::operators::not_written;
use crate::answer::{Acknowledged, Failure, Handled, Reply, Verdict};
use crate::engine::Engine;
use crate::ledger::wallet_desk::{self, Action, By};
use crate::ledger::wallets::{self, Signing, WalletSettings};
use crate::limits;
use crate::operations::{self, Entry, MadeBy};
use crate::wallet::{WalletKey, seal_key};
use domicile_core::base64;
use domicile_core::error::Code;
use domicile_core::ids::OperatorId;
use domicile_core::money::Currency;
use domicile_core::wallet::answer::Duplicate;
use domicile_core::wallet::job::JobState;
use domicile_core::wallet::reconcile::is_date;
use domicile_postgres::Tx;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use uuid::Uuid;
use zeroize::Zeroizing;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WalletBody {
    base_url: String,
    signing: String,
    key_id: String,
    key_b64: String,
    duplicate: String,
    #[serde(default = "WalletBody::timeout_ms")]
    timeout_ms: u32,
    #[serde(default = "WalletBody::concurrency")]
    concurrency: u32,
    #[serde(default = "WalletBody::breaker_failures")]
    breaker_failures: u32,
    #[serde(default = "WalletBody::breaker_pause_ms")]
    breaker_pause_ms: u32,
    #[serde(default = "WalletBody::retry_first_ms")]
    retry_first_ms: u32,
    #[serde(default = "WalletBody::retry_longest_ms")]
    retry_longest_ms: u32,
    #[serde(default = "WalletBody::give_up_after_s")]
    give_up_after_s: u32,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListBody {
    state: String,
    after: Option<Uuid>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActBody {
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DayBody {
    date: String,
    currency: Currency,
    #[serde(default)]
    verbose: bool,
}

pub(super) async fn handle(engine: &Engine, operation: Operation, incoming: &Incoming) -> Handled {
    let operator = || incoming.id(OperatorId::parse, Code::NotFound);
    let job = || incoming.id(Uuid::parse_str, Code::NotFound);
    match operation {
        Operation::SetWallet => {
            let operator = engine.directory.operator(&operator()?).await?;
            let body: WalletBody = parse(&incoming.body)?;
            let by = by(incoming, &body.reason)?;
            set(engine, &operator.id, &body, &by).await
        }
        Operation::ServedWallet => {
            let told = served(engine, &operator()?)?;
            engine.acknowledge(Reply::json(200, &told)).await
        }
        Operation::ListJobs => list(engine, &operator()?, &parse(&incoming.body)?).await,
        Operation::WalletDay => day(engine, &operator()?, &parse(&incoming.body)?).await,
        Operation::ShowJob => show(engine, job()?).await,
        Operation::RetryJob => act(engine, job()?, Action::Retry, incoming).await,
        Operation::ResolveJob => act(engine, job()?, Action::Resolve, incoming).await,
        _ => Err(Failure::new(Code::NotFound)),
    }
}

impl WalletBody {
    const fn timeout_ms() -> u32 {
        5_000
    }

    const fn concurrency() -> u32 {
        64
    }

    const fn breaker_failures() -> u32 {
        5
    }

    const fn breaker_pause_ms() -> u32 {
        10_000
    }

    const fn retry_first_ms() -> u32 {
        1_000
    }

    const fn retry_longest_ms() -> u32 {
        300_000
    }

    const fn give_up_after_s() -> u32 {
        30 * 24 * 3_600
    }

    fn settings(&self, operator: &OperatorId) -> Result<WalletSettings, Failure> {
        let refuse = |detail: &'static str| Failure::with(Code::MalformedBody, detail);
        let within = |number: u32, range: RangeInclusive<u32>, detail| {
            if range.contains(&number) { Ok(number) } else { Err(refuse(detail)) }
        };
        let url = self.base_url.parse::<http::Uri>().ok();
        let plain = |url: &http::Uri| url.scheme_str() == Some("https") && url.query().is_none();
        let fits = self.base_url.len() <= limits::WALLET_URL_BYTES && !self.base_url.ends_with('/');
        if !url.is_some_and(|url| plain(&url)) || !fits {
            return Err(refuse(
                "base_url is https://host[:port][/path] without a slash at the end",
            ));
        }
        let visible = self.key_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=64).contains(&self.key_id.len()) || !visible {
            return Err(refuse("key_id is 1-64 visible ASCII characters"));
        }
        let signing = Signing::parse(&self.signing);
        let duplicate = Duplicate::parse(&self.duplicate);
        Ok(WalletSettings {
            operator: operator.clone(),
            base_url: self.base_url.clone(),
            signing: signing.ok_or_else(|| refuse("signing is hmac-sha256 or rsa-sha256"))?,
            key_id: self.key_id.clone(),
            duplicate: duplicate.ok_or_else(|| refuse("duplicate is done or conflict"))?,
            timeout_ms: within(self.timeout_ms, 100..=20_000, "timeout_ms is 100-20000")?,
            concurrency: within(self.concurrency, 1..=256, "concurrency is 1-256")?,
            breaker_failures: within(
                self.breaker_failures,
                1..=1_000,
                "breaker_failures is 1-1000",
            )?,
            breaker_pause_ms: within(
                self.breaker_pause_ms,
                100..=600_000,
                "breaker_pause_ms is 100-600000",
            )?,
            retry_first_ms: within(self.retry_first_ms, 10..=60_000, "retry_first_ms is 10-60000")?,
            retry_longest_ms: within(
                self.retry_longest_ms,
                100..=3_600_000,
                "retry_longest_ms is 100-3600000",
            )?,
            give_up_after_s: within(
                self.give_up_after_s,
                60..=31_536_000,
                "give_up_after_s is 60-31536000",
            )?,
        })
    }
}

async fn set(engine: &Engine, operator: &OperatorId, body: &WalletBody, by: &MadeBy) -> Handled {
    let settings = body.settings(operator)?;
    let key = base64::decode(&body.key_b64).map(Zeroizing::new);
    let usable = |key: &Zeroizing<Vec<u8>>| WalletKey::read(settings.signing, key).is_some();
    let unusable =
        "key_b64 is base64 of a secret of 16 bytes or more, or of an RSA key in PEM (PKCS #8)";
    let key = key.filter(usable).ok_or(Failure::with(Code::MalformedBody, unusable))?;
    let sealed = seal_key(&engine.keys, operator, &key)?;
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    wallets::put(&tx, engine.epoch, &settings, &sealed).await.map_err(not_written)?;
    let after = json!({
        "base_url": settings.base_url, "signing": settings.signing.as_str(), "key_id": settings.key_id,
        "timeout_ms": settings.timeout_ms, "give_up_after_s": settings.give_up_after_s,
    });
    let (action, subject) = ("wallet.set", operator.as_str());
    let entry = Entry { by, action, subject, before: None, after: Some(after) };
    operations::append(engine, &tx, entry).await?;
    let durable = operations::commit(engine, tx).await?;
    engine
        .money
        .book
        .refresh(&*session)
        .await
        .map_err(|error| Failure::because(Code::Internal, &error))?;
    Ok(Acknowledged::new(&durable, Reply::json(200, &served(engine, operator)?)))
}

/// The wallet as this process serves it; others may not have read it yet.
fn served(engine: &Engine, operator: &OperatorId) -> Result<Value, Failure> {
    let line = engine.money.book.line(operator)?;
    let base_url = line.as_ref().map(|line| &line.settings.base_url);
    let revision = line.as_ref().map(|line| line.revision);
    Ok(json!({ "operator": operator, "base_url": base_url, "revision": revision }))
}

async fn list(engine: &Engine, operator: &OperatorId, body: &ListBody) -> Handled {
    let state = JobState::parse(&body.state);
    let state = state.filter(|state| matches!(state, JobState::Pending | JobState::Dead));
    let state = state.ok_or(Failure::with(Code::MalformedBody, "state is pending or dead"))?;
    let page = (body.after.unwrap_or_default(), limits::WALLET_LIST_JOBS);
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let jobs = wallet_desk::list(&tx, operator, state, page).await?;
    finish(tx, Reply::json(200, &json!({ "jobs": jobs }))).await
}

async fn show(engine: &Engine, job: Uuid) -> Handled {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let verdict = match wallet_desk::show(&tx, job).await? {
        Some((job, actions)) => Reply::json(200, &json!({ "job": job, "actions": actions })),
        None => Err(Failure::new(Code::NotFound)),
    };
    finish(tx, verdict).await
}

async fn act(engine: &Engine, job: Uuid, action: Action, incoming: &Incoming) -> Handled {
    let body: ActBody = parse(&incoming.body)?;
    let person = MadeBy::new(&incoming.head.extensions, &body.reason)?;
    let by = By { id: engine.ids.uuid_v7(), actor: &person.actor, reason: &person.reason };
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let acted = wallet_desk::act(&tx, engine.epoch, job, action, by).await.map_err(not_written)?;
    if acted {
        let name = if action == Action::Retry { "wallet-job.retry" } else { "wallet-job.resolve" };
        let subject = job.to_string();
        let entry =
            Entry { by: &person, action: name, subject: &subject, before: None, after: None };
        operations::append(engine, &tx, entry).await?;
    }
    let verdict = match (acted, wallet_desk::show(&tx, job).await?) {
        (true, Some((job, actions))) => {
            Reply::json(200, &json!({ "job": job, "actions": actions }))
        }
        (false, Some(_)) => Err(Failure::with(
            Code::WalletJobState,
            "only a dead win or rollback is resolved; a dead or pending one is tried again",
        )),
        (_, None) => Err(Failure::new(Code::NotFound)),
    };
    let committed = operations::commit(engine, tx).await;
    engine.money.wake();
    Ok(Acknowledged::new(&committed?, verdict))
}

async fn day(engine: &Engine, operator: &OperatorId, body: &DayBody) -> Handled {
    if !is_date(&body.date) {
        return Err(Failure::with(Code::MalformedBody, "date is YYYY-MM-DD"));
    }
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let totals = wallet_desk::totals(&tx, operator, &body.currency, &body.date).await?;
    let page = (&*body.date, limits::WALLET_LIST_JOBS);
    let suspects = if body.verbose {
        wallet_desk::suspects(&tx, operator, &body.currency, page).await?
    } else {
        Vec::new()
    };
    let suspects: Vec<_> =
        suspects.iter().map(|(why, job)| json!({ "why": why, "job": job })).collect();
    let answer = json!({
        "bets_micro": totals.bets_micro,
        "wins_micro": totals.wins_micro,
        "rollbacks_micro": totals.rollbacks_micro,
        "suspects": suspects,
    });
    finish(tx, Reply::json(200, &answer)).await
}

async fn finish(tx: Tx<'_>, verdict: Verdict) -> Handled {
    let durable = tx.commit(limits::COMMIT_WAIT).await?;
    Ok(Acknowledged::new(&durable, verdict))
}
