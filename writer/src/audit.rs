//! The conservation check over the whole ledger: one at a time, beside the requests, for as long as it takes.
//!
//! Who asks waits a moment and asks again under the check's id. Invariants: what is told was read in one snapshot before a
//! commit that waited for the second region; pages bound the memory; a check ends with its engine or after
//! [`limits::AUDIT_LONGEST`], because its snapshot holds up the cleaning of old rows.

use crate::answer::{Acknowledged, Failure, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::conservation as rows;
use crate::limits;
use domicile_core::conservation::{Audit, Auditor};
use domicile_core::error::Code;
use domicile_postgres::Durable;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use uuid::Uuid;

/// How a check ended; nothing while it goes on.
type Outcome = Option<Result<(Durable, Arc<Audit>), Failure>>;

/// The check that was begun last.
#[derive(Debug, Default)]
pub struct Audits {
    latest: Mutex<Option<(Uuid, watch::Receiver<Outcome>)>>,
}

impl Audits {
    /// The check of this id, or the one that goes on, or a new one.
    fn find(
        &self,
        engine: &Arc<Engine>,
        wanted: Option<Uuid>,
    ) -> Result<(Uuid, watch::Receiver<Outcome>), Failure> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let known = latest.clone();
        if let Some(wanted) = wanted {
            let known = known.filter(|(id, _)| *id == wanted);
            return known.ok_or(Failure::with(Code::NotFound, "no such check, or no longer"));
        }
        if let Some(going) = known.filter(|(_, outcome)| outcome.borrow().is_none()) {
            return Ok(going);
        }
        let (sender, outcome) = watch::channel(None);
        let begun = (engine.ids.uuid_v4(), outcome);
        *latest = Some(begun.clone());
        let engine = Arc::clone(engine);
        tokio::spawn(async move {
            let judging = tokio::time::timeout(limits::AUDIT_LONGEST, judge(&engine));
            let judged = match engine.unless_closing(judging).await {
                Some(Ok(judged)) => judged,
                Some(Err(_elapsed)) => {
                    Err(Failure::with(Code::Database, "the check took too long"))
                }
                None => Err(Failure::new(Code::WriterDraining)),
            };
            sender.send_replace(Some(judged));
        });
        Ok(begun)
    }
}

/// Answers how the check stands, waiting a moment for its end.
pub async fn look(engine: &Arc<Engine>, wanted: Option<Uuid>) -> Handled {
    let (audit, mut outcome) = engine.audits.find(engine, wanted)?;
    let ended = tokio::time::timeout(limits::AUDIT_ANSWER_WAIT, outcome.wait_for(Option::is_some));
    let ended = match ended.await {
        Ok(Ok(ended)) => ended.clone(),
        // It goes on, or its task is gone: then who asks again is told.
        Ok(Err(_)) | Err(_) => None,
    };
    match ended {
        None => engine.acknowledge(Reply::json(200, &json!({ "audit": audit }))).await,
        Some(Ok((durable, judged))) => {
            let answer = json!({ "audit": audit, "holds": judged.holds(), "judgement": &*judged });
            Ok(Acknowledged::new(&durable, Reply::json(200, &answer)))
        }
        Some(Err(failure)) => Err(failure),
    }
}

async fn judge(engine: &Engine) -> Result<(Durable, Arc<Audit>), Failure> {
    let mut session = engine.hands.session().await?;
    let tx = session.begin().await?;
    rows::begin(&tx).await?;
    let mut auditor = Auditor::default();
    let mut jurisdiction = String::new();
    while let Some(next) = rows::next_jurisdiction(&tx, &jurisdiction).await? {
        let mut after = Some(Uuid::nil());
        while let Some(from) = after {
            after = rows::bets(&tx, &mut auditor, &next, (from, limits::AUDIT_PAGE_ROWS)).await?;
        }
        jurisdiction = next;
    }
    let mut after = Some(Uuid::nil());
    while let Some(from) = after {
        after = rows::jobs(&tx, &mut auditor, (from, limits::AUDIT_PAGE_ROWS)).await?;
    }
    let durable = tx.commit(limits::COMMIT_WAIT).await?;
    Ok((durable, Arc::new(auditor.finish())))
}
