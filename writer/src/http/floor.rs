//! The cluster's own command line sets schedules of timed rounds, and reads what became of rounds found under way.

use super::admin::by;
use super::{Incoming, Operation, parse};
use crate::admin::operators::not_written;
use crate::answer::{Acknowledged, Failure, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::floor::{self, Schedule, Table};
use crate::ledger::operators::Operator;
use crate::limits;
use crate::operations::{self, Entry, MadeBy};
use domicile_core::error::Code;
use domicile_core::games;
use domicile_core::ids::{GameCode, Jurisdiction, OperatorId};
use domicile_core::limits::ROUND_JURISDICTIONS_MAX;
use domicile_core::money::Currency;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleBody {
    game: GameCode,
    currency: Currency,
    jurisdictions: BTreeSet<Jurisdiction>,
    betting_ms: i32,
    pause_ms: i32,
    params: Option<String>,
    #[serde(default = "ScheduleBody::enabled")]
    enabled: bool,
    reason: String,
}

pub(super) async fn handle(engine: &Engine, operation: Operation, incoming: &Incoming) -> Handled {
    match operation {
        Operation::SetSchedule => {
            let operator = incoming.id(OperatorId::parse, Code::NotFound)?;
            let operator = engine.directory.operator(&operator).await?;
            let body: ScheduleBody = parse(&incoming.body)?;
            let by = by(incoming, &body.reason)?;
            set(engine, body.checked(&operator)?, &by).await
        }
        Operation::ListSchedules => list(engine).await,
        Operation::ReadRecovery => {
            let report = json!({ "epoch": engine.epoch, "recovery": engine.recovery.report() });
            engine.acknowledge(Reply::json(200, &report)).await
        }
        _ => Err(Failure::new(Code::NotFound)),
    }
}

impl ScheduleBody {
    const fn enabled() -> bool {
        true
    }

    fn checked(self, operator: &Operator) -> Result<Schedule, Failure> {
        let refuse = |detail: String| Err(Failure::with(Code::MalformedBody, detail));
        if !(1..=ROUND_JURISDICTIONS_MAX).contains(&self.jurisdictions.len()) {
            return refuse("jurisdictions must be 1-64".into());
        }
        for (name, value, range) in [
            ("betting_ms", self.betting_ms, limits::SCHEDULE_BETTING_MS),
            ("pause_ms", self.pause_ms, limits::SCHEDULE_PAUSE_MS),
        ] {
            if !range.contains(&value) {
                return refuse(format!("{name} must be {}-{}", range.start(), range.end()));
            }
        }
        let game = games::game(&self.game).ok_or(Failure::new(Code::GameUnknown))?;
        if let Some(params) = &self.params {
            let refuse = |error: games::GameError| Failure::with(error.code(), error.to_string());
            game.check_params(params).map_err(refuse)?;
        }
        let foreign = self.jurisdictions.iter().find(|code| !operator.jurisdictions.contains(code));
        if let Some(code) = foreign {
            let detail = format!("the operator is not registered for {code}");
            return Err(Failure::with(Code::OperatorForbidden, detail));
        }
        if !operator.games.contains(&self.game) {
            let detail = "the operator does not offer this game";
            return Err(Failure::with(Code::OperatorForbidden, detail));
        }
        Ok(Schedule {
            table: Table {
                operator: operator.id.clone(),
                game: self.game,
                currency: self.currency,
            },
            params: self.params,
            jurisdictions: self.jurisdictions.into_iter().collect(),
            betting_ms: self.betting_ms,
            pause_ms: self.pause_ms,
            enabled: self.enabled,
            revision: 0,
        })
    }
}

async fn set(engine: &Engine, schedule: Schedule, by: &MadeBy) -> Handled {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    floor::set(&tx, engine.epoch, &schedule).await.map_err(not_written)?;
    let table = schedule.table.to_string();
    let (action, after) = ("schedule.set", Some(described(&schedule)));
    let entry = Entry { by, action, subject: &table, before: None, after };
    operations::append(engine, &tx, entry).await?;
    let durable = operations::commit(engine, tx).await?;
    tracing::info!(table, enabled = schedule.enabled, "a schedule is set");
    let reply = json!({
        "operator": schedule.table.operator,
        "game": schedule.table.game,
        "currency": schedule.table.currency,
        "enabled": schedule.enabled,
    });
    Ok(Acknowledged::new(&durable, Reply::json(200, &reply)))
}

async fn list(engine: &Engine) -> Handled {
    let session = engine.hands.session().await?;
    let schedules = floor::list(&*session, limits::FLOOR_TABLES).await?;
    drop(session);
    let all: Vec<Value> = schedules.iter().map(described).collect();
    engine.acknowledge(Reply::json(200, &json!({ "schedules": all }))).await
}

fn described(schedule: &Schedule) -> Value {
    json!({
        "operator": schedule.table.operator,
        "game": schedule.table.game,
        "currency": schedule.table.currency,
        "params": schedule.params,
        "jurisdictions": schedule.jurisdictions,
        "betting_ms": schedule.betting_ms,
        "pause_ms": schedule.pause_ms,
        "enabled": schedule.enabled,
        "revision": schedule.revision,
    })
}
