//! Plans, drills, losses and inspectors' tokens in the operations log: what is done to the cluster from outside the writer.
//!
//! Invariant: a plan is entered once by its id, a drill by its report, a loss by its pin, whoever submits it and however often. Of a plan the
//! first to come counts: the person's command that ran it, or an agent that found it over in the journal.

use crate::answer::Reply;
use crate::change::{Applied, Change, Halt, Once};
use crate::engine::Engine;
use crate::ledger::requests::RequestId;
use crate::operations::{self, Entry, MadeBy};
use domicile_core::hex;
use domicile_core::operation;
use domicile_postgres::Tx;
use serde::Deserialize;
use serde_json::json;

/// What was done, and the digest of what says so in full.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordBody {
    /// `plan`, `drill`, `cut` or `inspector-token`.
    pub kind: Kind,
    id: String,
    verb: String,
    outcome: String,
    actor: String,
    sha256: String,
    /// Why.
    pub reason: String,
}

/// What is told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A plan that came to its end or was abandoned: its audit file, or its journal.
    Plan,
    /// A drill: its signed report.
    Drill,
    /// Entries of this log that were lost with a region: the pin that named them.
    Cut,
    /// A token that opens every bet of a jurisdiction: the token itself.
    InspectorToken,
}

impl Kind {
    const fn action(self) -> &'static str {
        match self {
            Self::Plan => "plan.end",
            Self::Drill => "drill.end",
            Self::Cut => "log.cut",
            Self::InspectorToken => "token.inspector",
        }
    }
}

impl RecordBody {
    /// Whether everything fits on its line.
    pub fn is_sound(&self) -> bool {
        let short = |text: &str| (1..=128).contains(&text.len()) && operation::line(text).is_ok();
        hex::decode_32(&self.sha256).is_some()
            && [&self.id, &self.verb, &self.outcome, &self.actor].into_iter().all(|t| short(t))
    }

    /// One entry per plan, and per drill's report.
    pub fn once(&self) -> Once {
        let (scope, key) = match self.kind {
            Kind::Plan => {
                ("operations-plan", operation::digest(self.id.as_bytes()).replace("sha256:", ""))
            }
            Kind::Drill | Kind::Cut | Kind::InspectorToken => {
                ("operations-record", self.sha256.clone())
            }
        };
        let body = format!("{}\n{}", self.kind.action(), self.id);
        let id = RequestId::new(scope.to_owned(), key, "POST", "record", body.as_bytes());
        Once { id, repeatable: true }
    }
}

/// A record on its way into the log.
#[derive(Debug)]
pub struct Submit<'a> {
    /// What it says.
    pub body: &'a RecordBody,
    /// Who submits it.
    pub by: &'a MadeBy,
}

impl Change for Submit<'_> {
    async fn apply(&self, engine: &Engine, tx: &Tx<'_>) -> Result<Applied, Halt> {
        let RecordBody { kind, id, verb, outcome, actor, sha256, .. } = self.body;
        let after = json!({ "verb": verb, "outcome": outcome, "actor": actor, "sha256": sha256 });
        let (action, after) = (kind.action(), Some(after));
        let entry = Entry { by: self.by, action, subject: id, before: None, after };
        let entered = operations::append(engine, tx, entry).await;
        let entered = entered.map_err(|error| Halt::Failed(error.into()))?;
        let reply = Reply::json(201, &json!({ "operation": entered }))?;
        Ok(Applied { leaves_for: operation::log().into_iter().collect(), ..Applied::quiet(reply) })
    }
}
