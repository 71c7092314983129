//! Setting, suspending and resuming an operator's games.
//!
//! Invariants: a change is a new revision made from the latest one, in a transaction that also enters it into the
//! operations log; two persons at once make two revisions, one after the other. Suspending what is suspended changes
//! nothing and voids what is left.

use super::suspension::{self, Voided};
use crate::answer::{Acknowledged, Failure, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::WriteError;
use crate::ledger::games::{self, Config, Revision};
use crate::ledger::operators;
use crate::limits;
use crate::operations::{self, Entry, MadeBy};
use crate::terms::GameTerms;
use domicile_core::error::Code;
use domicile_core::games::{Game, game};
use domicile_core::ids::{GameCode, OperatorId};
use domicile_core::money::Micro;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// What is asked of one term.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asked<T> {
    /// It stays: the field is absent.
    #[default]
    Keep,
    /// The game's own, or no limit: the field is `null`.
    Own,
    /// This.
    This(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Asked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value: Option<T> = Option::deserialize(deserializer)?;
        Ok(value.map_or(Self::Own, Self::This))
    }
}

/// What is to change.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameBody {
    enabled: Option<bool>,
    #[serde(default)]
    params: Asked<String>,
    commission_ppm: Option<u64>,
    #[serde(default)]
    stake_min_micro: Asked<u64>,
    #[serde(default)]
    stake_max_micro: Asked<u64>,
    #[serde(default)]
    payout_max_micro: Asked<u64>,
    /// Why.
    pub reason: String,
}

/// What a person does to a game.
#[derive(Debug, Clone)]
pub enum Act {
    /// Changes its terms.
    Set(GameBody),
    /// Stops it; what is in flight is voided.
    Suspend,
    /// Offers it again.
    Resume,
}

impl Act {
    const fn name(&self) -> &'static str {
        match self {
            Self::Set(_) => "game.set",
            Self::Suspend => "game.suspend",
            Self::Resume => "game.resume",
        }
    }

    /// The terms after this, from those in force.
    fn apply(&self, of: &dyn Game, before: &Config) -> Result<Config, Failure> {
        let next = Config { revision: before.revision.saturating_add(1), ..before.clone() };
        match self {
            Self::Set(body) => body.apply(of, &next),
            Self::Suspend => Ok(Config { suspended: true, ..next }),
            Self::Resume => Ok(Config { suspended: false, ..next }),
        }
    }
}

impl GameBody {
    fn apply(&self, of: &dyn Game, next: &Config) -> Result<Config, Failure> {
        let mut params = match &self.params {
            Asked::Keep => next.params.clone(),
            Asked::Own => None,
            Asked::This(params) => Some(params.clone()),
        };
        if let Some(ppm) = self.commission_ppm {
            let text = params.as_deref().unwrap_or(of.default_params());
            params = Some(with_commission(text, ppm)?);
        }
        if let Some(params) = &params {
            of.check_params(params)
                .map_err(|error| Failure::with(error.code(), error.to_string()))?;
        }
        let config = Config {
            enabled: self.enabled.unwrap_or(next.enabled),
            params,
            stake_min: amount(&self.stake_min_micro, next.stake_min)?,
            stake_max: amount(&self.stake_max_micro, next.stake_max)?,
            payout_max: amount(&self.payout_max_micro, next.payout_max)?,
            ..next.clone()
        };
        let crossed = config.stake_min.zip(config.stake_max).is_some_and(|(min, max)| min > max);
        if crossed {
            let detail = "the smallest stake is above the largest";
            return Err(Failure::with(Code::MalformedBody, detail));
        }
        Ok(config)
    }
}

fn amount(asked: &Asked<u64>, present: Option<Micro>) -> Result<Option<Micro>, Failure> {
    let micro = match asked {
        Asked::Keep => return Ok(present),
        Asked::Own => return Ok(None),
        Asked::This(micro) => *micro,
    };
    let amount = Micro::new(micro).ok().filter(|amount| *amount > Micro::ZERO);
    let detail = "amounts are positive micro-units within range, or null for none";
    amount.map(Some).ok_or(Failure::with(Code::MalformedBody, detail))
}

/// The parameters with another commission, where the game has one.
fn with_commission(params: &str, ppm: u64) -> Result<String, Failure> {
    let mut found = false;
    let pairs: Vec<String> = params
        .split(',')
        .map(|pair| match pair.split_once('=') {
            Some(("commission_ppm", _)) => {
                found = true;
                format!("commission_ppm={ppm}")
            }
            _ => pair.to_owned(),
        })
        .collect();
    let none = Failure::with(Code::GameParameters, "the game's parameters have no commission_ppm");
    if found { Ok(pairs.join(",")) } else { Err(none) }
}

/// The terms of a game that nobody has set any for.
const fn unset() -> Config {
    Config {
        revision: 0,
        enabled: true,
        suspended: false,
        params: None,
        stake_min: None,
        stake_max: None,
        payout_max: None,
    }
}

/// The terms as told and entered.
pub fn told(of: &dyn Game, config: &Config) -> Value {
    let terms = GameTerms::new(of, Some(config.clone()));
    json!({
        "revision": terms.revision,
        "enabled": terms.enabled,
        "suspended": terms.suspended,
        "params": terms.params,
        "stake_min_micro": terms.stake_min,
        "stake_max_micro": terms.stake_max,
        "payout_max_micro": terms.payout_max,
    })
}

/// Makes a change.
pub async fn act(
    engine: &Engine,
    (operator, code): (&OperatorId, &GameCode),
    act: &Act,
    by: &MadeBy,
) -> Handled {
    let of = game(code).ok_or(Failure::new(Code::GameUnknown))?;
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    if !operators::exists(&tx, operator).await? {
        tx.rollback().await?;
        drop(session);
        return engine.acknowledge(Err(Failure::new(Code::NotFound))).await;
    }
    let before = games::latest(&tx, operator, code).await?.unwrap_or(unset());
    let after = act.apply(of, &before)?;
    let is_change = Config { revision: before.revision, ..after.clone() } != before;
    if is_change {
        match games::insert(&tx, engine.epoch, (operator, code), &after, by).await {
            Ok(()) => {}
            Err(WriteError::Shortfall) => {
                let detail = "the epoch has ended or somebody changed the game at this moment";
                return Err(Failure::with(Code::EpochFenced, detail));
            }
            Err(WriteError::Database(error)) => return Err(error.into()),
        }
        let subject = format!("{operator}/{code}");
        let (before, after) = (Some(told(of, &before)), Some(told(of, &after)));
        let entry = Entry { by, action: act.name(), subject: &subject, before, after };
        operations::append(engine, &tx, entry).await?;
    }
    let durable = operations::commit(engine, tx).await?;
    drop(session);
    engine.directory.forget_game(operator, code);
    let voided = match act {
        Act::Suspend => void(engine).await,
        Act::Set(_) | Act::Resume => Voided::default(),
    };
    let config = if is_change { after } else { before };
    let answer = json!({
        "operator": operator, "game": code, "terms": told(of, &config), "changed": is_change,
        "rounds_voided": voided.voided, "rounds_left": voided.left,
    });
    Ok(Acknowledged::new(&durable, Reply::json(200, &answer)))
}

/// The suspension holds whatever becomes of this first pass: the sweep makes the next.
async fn void(engine: &Engine) -> Voided {
    suspension::sweep(engine).await.unwrap_or_else(|failure| {
        tracing::warn!(code = %failure.code, "the rounds of a suspended game are left to the sweep");
        Voided { voided: 0, left: 1 }
    })
}

/// The terms in force and how they came about.
pub async fn show(engine: &Engine, (operator, code): (&OperatorId, &GameCode)) -> Handled {
    let of = game(code).ok_or(Failure::new(Code::GameUnknown))?;
    let session = engine.hands.session().await?;
    let known = operators::exists(&*session, operator).await?;
    let revisions = games::revisions(&*session, operator, code, limits::GAME_REVISIONS).await?;
    drop(session);
    if !known {
        return engine.acknowledge(Err(Failure::new(Code::NotFound))).await;
    }
    let history = |Revision { config, by, at_unix_s }: &Revision| {
        json!({
            "terms": told(of, config), "actor": by.actor, "role": by.role, "reason": by.reason,
            "at_unix_s": at_unix_s,
        })
    };
    let terms = told(of, revisions.first().map_or(&unset(), |revision| &revision.config));
    let revisions: Vec<_> = revisions.iter().map(history).collect();
    let answer =
        json!({ "operator": operator, "game": code, "terms": terms, "revisions": revisions });
    engine.acknowledge(Reply::json(200, &answer)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice() -> &'static dyn Game {
        game(&GameCode::parse("hilo-dice").unwrap()).unwrap()
    }

    fn set(body: &Value) -> Act {
        Act::Set(serde_json::from_value(body.clone()).unwrap())
    }

    #[test]
    fn what_is_absent_stays_and_null_takes_back() {
        let first = json!({ "stake_max_micro": 500, "commission_ppm": 1000, "reason": "r" });
        let one = set(&first).apply(dice(), &unset()).unwrap();
        assert_eq!(one.params.as_deref(), Some("low_weight=48,high_weight=48,commission_ppm=1000"));
        assert_eq!((one.revision, one.stake_max.map(Micro::get)), (1, Some(500)));
        let two = Act::Suspend.apply(dice(), &one).unwrap();
        assert_eq!(two, Config { revision: 2, suspended: true, ..one.clone() });
        let back = json!({ "stake_max_micro": null, "params": null, "reason": "r" });
        let three = set(&back).apply(dice(), &two).unwrap();
        assert_eq!(three, Config { revision: 3, suspended: true, ..unset() });
    }

    #[test]
    fn what_the_game_does_not_take_is_refused() {
        let code = |body: Value| set(&body).apply(dice(), &unset()).map_err(|failure| failure.code);
        assert_eq!(
            code(json!({ "params": "low_weight=0", "reason": "r" })),
            Err(Code::GameParameters)
        );
        assert_eq!(
            code(json!({ "commission_ppm": 200_001, "reason": "r" })),
            Err(Code::GameParameters)
        );
        assert_eq!(code(json!({ "stake_min_micro": 0, "reason": "r" })), Err(Code::MalformedBody));
        let crossed = json!({ "stake_min_micro": 2, "stake_max_micro": 1, "reason": "r" });
        assert_eq!(code(crossed), Err(Code::MalformedBody));
        let wheel = game(&GameCode::parse("wheel").unwrap()).unwrap();
        let refused = set(&json!({ "commission_ppm": 1, "reason": "r" })).apply(wheel, &unset());
        assert_eq!(refused.unwrap_err().code, Code::GameParameters);
    }
}
