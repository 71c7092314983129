//! Registering, changing and showing operators.
//!
//! Invariant: what is stored was checked here; a change is made from the operator's locked row and entered with it.

use super::credentials;
use crate::answer::{Acknowledged, Failure, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::operators::{self, Operator, Profile};
use crate::ledger::{WriteError, operator_desk};
use crate::limits;
use crate::operations::{self, Entry, MadeBy};
use domicile_core::error::Code;
use domicile_core::games;
use domicile_core::ids::{GameCode, Jurisdiction, OperatorId};
use serde::Deserialize;
use serde_json::{Value, json};

/// A new operator.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBody {
    id: OperatorId,
    name: String,
    jurisdictions: Vec<Jurisdiction>,
    games: Vec<GameCode>,
    allowed_origins: Vec<String>,
    launch_base_url: String,
    /// Why.
    pub reason: String,
}

/// What is to change; what is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeBody {
    name: Option<String>,
    jurisdictions: Option<Vec<Jurisdiction>>,
    games: Option<Vec<GameCode>>,
    allowed_origins: Option<Vec<String>>,
    launch_base_url: Option<String>,
    enabled: Option<bool>,
    /// Why.
    pub reason: String,
}

impl NewBody {
    fn profile(self) -> Profile {
        Profile {
            name: self.name,
            operator: Operator {
                id: self.id,
                jurisdictions: self.jurisdictions,
                games: self.games,
                allowed_origins: self.allowed_origins,
                launch_base_url: self.launch_base_url,
                enabled: true,
            },
        }
    }
}

impl ChangeBody {
    fn apply(self, present: Profile) -> Profile {
        let Profile { name, operator } = present;
        Profile {
            name: self.name.unwrap_or(name),
            operator: Operator {
                id: operator.id,
                jurisdictions: self.jurisdictions.unwrap_or(operator.jurisdictions),
                games: self.games.unwrap_or(operator.games),
                allowed_origins: self.allowed_origins.unwrap_or(operator.allowed_origins),
                launch_base_url: self.launch_base_url.unwrap_or(operator.launch_base_url),
                enabled: self.enabled.unwrap_or(operator.enabled),
            },
        }
    }
}

/// Refuses what an operator cannot be.
fn check(profile: &Profile) -> Result<(), Failure> {
    let refuse = |detail: &'static str| Err(Failure::with(Code::MalformedBody, detail));
    let few = |count: usize| count <= limits::OPERATOR_LIST_ENTRIES;
    let operator = &profile.operator;
    if operator.jurisdictions.is_empty() || operator.games.is_empty() {
        return refuse("an operator has at least one jurisdiction and one game");
    }
    let short = |text: &str| {
        (1..=limits::OPERATOR_TEXT_BYTES).contains(&text.len())
            && !text.chars().any(char::is_control)
    };
    if !few(operator.jurisdictions.len())
        || !few(operator.games.len())
        || !few(operator.allowed_origins.len())
    {
        return refuse("jurisdictions, games and allowed_origins hold at most 64 entries each");
    }
    let base = &operator.launch_base_url;
    if !short(&profile.name) || !short(base) || base.contains('#') {
        return refuse("name and launch_base_url are 1-256 bytes; the latter has no fragment");
    }
    if !operator.allowed_origins.iter().all(|origin| short(origin) && is_origin(origin)) {
        return refuse("an allowed origin is scheme://host[:port] without a path");
    }
    if let Some(game) = operator.games.iter().find(|code| games::game(code).is_none()) {
        let detail = format!("{game} is not a game of this build");
        return Err(Failure::with(Code::GameUnknown, detail));
    }
    Ok(())
}

/// `https://host[:port]`, or `http` for a developer's machine.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*']))
}

/// An operator as told and entered.
pub fn told(profile: &Profile) -> Value {
    let operator = &profile.operator;
    json!({
        "id": operator.id, "name": profile.name, "jurisdictions": operator.jurisdictions,
        "games": operator.games, "allowed_origins": operator.allowed_origins,
        "launch_base_url": operator.launch_base_url, "enabled": operator.enabled,
    })
}

/// Registers an operator with its first credential.
pub async fn create(engine: &Engine, body: NewBody, by: &MadeBy) -> Handled {
    let profile = body.profile();
    check(&profile)?;
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let added = operators::insert(&tx, engine.epoch, &profile.operator, &profile.name).await;
    if !added.map_err(not_written)? {
        tx.rollback().await?;
        drop(session);
        return engine.acknowledge(Err(Failure::new(Code::OperatorExists))).await;
    }
    let id = &profile.operator.id;
    let after = Some(told(&profile));
    let entry = Entry { by, action: "operator.create", subject: id.as_str(), before: None, after };
    operations::append(engine, &tx, entry).await?;
    let verdict = credentials::issue(engine, &tx, id, by).await?;
    let durable = operations::commit(engine, tx).await?;
    Ok(Acknowledged::new(&durable, verdict))
}

/// Changes an operator.
pub async fn change(engine: &Engine, id: &OperatorId, body: ChangeBody, by: &MadeBy) -> Handled {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    let Some(before) = operator_desk::lock(&tx, id).await? else {
        tx.rollback().await?;
        drop(session);
        return engine.acknowledge(Err(Failure::new(Code::NotFound))).await;
    };
    let after = body.apply(before.clone());
    check(&after)?;
    if told(&after) != told(&before) {
        operator_desk::update(&tx, engine.epoch, &after).await.map_err(not_written)?;
        let states = (Some(told(&before)), Some(told(&after)));
        let (action, subject) = ("operator.update", id.as_str());
        let entry = Entry { by, action, subject, before: states.0, after: states.1 };
        operations::append(engine, &tx, entry).await?;
    }
    let durable = operations::commit(engine, tx).await?;
    engine.directory.forget_operator(id);
    Ok(Acknowledged::new(&durable, Reply::json(200, &told(&after))))
}

/// Every operator, in order of id after one.
pub async fn list(engine: &Engine, after: &str) -> Handled {
    let session = engine.hands.session().await?;
    let found = operator_desk::list(&*session, after, limits::OPERATORS_PAGE).await?;
    drop(session);
    let operators: Vec<_> = found.iter().map(told).collect();
    engine.acknowledge(Reply::json(200, &json!({ "operators": operators }))).await
}

/// One operator with its credentials.
pub async fn show(engine: &Engine, id: &OperatorId) -> Handled {
    let session = engine.hands.session().await?;
    let found = operator_desk::read(&*session, id).await?;
    let credentials = operator_desk::credentials(&*session, id, limits::CREDENTIALS_PAGE).await?;
    drop(session);
    let verdict = match found {
        Some(profile) => {
            let answer = json!({ "operator": told(&profile), "credentials": credentials });
            Reply::json(200, &answer)
        }
        None => Err(Failure::new(Code::NotFound)),
    };
    engine.acknowledge(verdict).await
}

/// Nothing was written although nothing stood in the way: the epoch has ended.
pub fn not_written(error: WriteError) -> Failure {
    match error {
        WriteError::Shortfall => Failure::new(Code::EpochFenced),
        WriteError::Database(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for good in ["https://play.example", "http://127.0.0.1:8080"] {
            assert!(is_origin(good), "{good}");
        }
        for bad in ["*", "https://*.example", "https://a.example/", "ftp://a", "https://", "null"] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
