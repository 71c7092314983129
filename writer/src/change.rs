//! A change of the ledger as one transaction: an operator's request with one effect per request id, or an engine's step.
//!
//! Invariants: an effect and the answer it got are stored by the same commit; a repetition gets the stored
//! bytes, also when the first one's outcome was unknown for a while; a signed request without a request id
//! is accepted once. Copies of a request take turns in memory; the stored request's key decides.

use crate::answer::{Acknowledged, Failure, Handled, Reply};
use crate::engine::Engine;
use crate::ledger::requests::{self, NewRequest, RequestId};
use crate::ledger::{self, WriteError};
use crate::limits;
use crate::meters::{self, Entered, Turnover};
use domicile_core::error::Code;
use domicile_core::ids::Jurisdiction;
use domicile_postgres::{Class, Tx};

/// Why a change did not come about.
#[derive(Debug)]
pub enum Halt {
    /// The ledger's state does not permit it.
    Refused(Failure),
    /// Rows changed under it, or the epoch ended.
    Raced,
    /// The database failed before any commit.
    Failed(Failure),
}

impl From<WriteError> for Halt {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Shortfall => Self::Raced,
            WriteError::Database(error) => error.into(),
        }
    }
}

impl From<domicile_postgres::Error> for Halt {
    fn from(error: domicile_postgres::Error) -> Self {
        match error.class() {
            Class::Contention | Class::Duplicate => Self::Raced,
            _ => Self::Failed(error.into()),
        }
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What a change did.
#[derive(Debug)]
pub struct Applied {
    /// The answer.
    pub reply: Reply,
    /// The logs it left pending leaves for.
    pub leaves_for: Vec<Jurisdiction>,
    /// The step a round made.
    pub entered: Option<Entered>,
    /// What a settled round took and paid.
    pub turnover: Option<Turnover>,
}

impl Applied {
    /// A change that has nothing to count and leaves nothing for a log.
    pub const fn quiet(reply: Reply) -> Self {
        Self { reply, leaves_for: Vec::new(), entered: None, turnover: None }
    }

    /// Makes it durable; then it may be told.
    async fn commit(self, engine: &Engine, tx: Tx<'_>) -> Handled {
        let durable = tx.commit(limits::COMMIT_WAIT).await?;
        self.tell(engine);
        Ok(Acknowledged::new(&durable, Ok(self.reply)))
    }

    /// Counts and passes on what is now durable.
    fn tell(&self, engine: &Engine) {
        engine.wake(&self.leaves_for);
        if let Some(step) = &self.entered {
            if step.to.is_terminal() {
                engine.money.wake();
            }
            meters::transition("round", step);
        }
        if let Some(Turnover { game, staked, paid }) = &self.turnover {
            engine.meters.settled(game, *staked, *paid);
        }
    }
}

/// One operator request.
pub trait Change: Send + Sync {
    /// Writes the effect. Runs again when its rows changed meanwhile.
    fn apply(
        &self,
        engine: &Engine,
        tx: &Tx<'_>,
    ) -> impl Future<Output = Result<Applied, Halt>> + Send;
}

/// A request's key and what a repetition means.
#[derive(Debug, Clone)]
pub struct Once {
    /// The key the effect is stored under.
    pub id: RequestId,
    /// Whether a repetition gets the stored answer (there is a request id) or is refused.
    pub repeatable: bool,
}

/// Applies a change once.
pub async fn execute(engine: &Engine, once: &Once, change: &impl Change) -> Handled {
    let copies = (once.id.scope.clone(), once.id.key.clone());
    let crowded = |_crowded| Failure::new(Code::WriterOverloaded);
    let _turn = engine.requests.exclusive(&copies).await.map_err(crowded)?;
    for _ in 0..limits::RACE_ATTEMPTS {
        let mut session = engine.hands.session().await?;
        if let Some(stored) = requests::find(&session, &once.id).await? {
            drop(session);
            let verdict = if once.repeatable {
                stored.replay(&once.id, &engine.keys, Code::RequestIdReused)
            } else {
                Err(Failure::new(Code::RequestReplayed))
            };
            return engine.acknowledge(verdict).await;
        }
        let tx = session.begin().await?;
        let applied = apply(engine, &tx, once, change).await;
        match applied {
            Ok(applied) => return applied.commit(engine, tx).await,
            Err(Halt::Raced) => raced(engine, tx).await?,
            Err(Halt::Refused(refusal)) => {
                tx.rollback().await?;
                // Perhaps this very request had its effect while its outcome was unknown.
                if requests::find(&session, &once.id).await?.is_none() {
                    drop(session);
                    return engine.acknowledge(Err(refusal)).await;
                }
            }
            Err(Halt::Failed(failure)) => return Err(failure),
        }
    }
    Err(Failure::new(Code::WriterOverloaded))
}

/// Applies a change that follows from the ledger's own state: whoever repeats it finds that state changed, so it needs no
/// key.
pub async fn perform(engine: &Engine, change: &impl Change) -> Handled {
    for _ in 0..limits::RACE_ATTEMPTS {
        let mut session = engine.hands.session().await?;
        let tx = session.begin().await?;
        match change.apply(engine, &tx).await {
            Ok(applied) => return applied.commit(engine, tx).await,
            Err(Halt::Raced) => raced(engine, tx).await?,
            Err(Halt::Refused(refusal)) => {
                tx.rollback().await?;
                return Err(refusal);
            }
            Err(Halt::Failed(failure)) => return Err(failure),
        }
    }
    Err(Failure::new(Code::WriterOverloaded))
}

/// Ends a transaction whose rows changed under it; a failure when that was the epoch's end.
async fn raced(engine: &Engine, tx: Tx<'_>) -> Result<(), Failure> {
    let latest = ledger::latest_epoch(&tx).await;
    tx.rollback().await?;
    if latest.is_ok_and(|latest| latest != Some(engine.epoch)) {
        return Err(Failure::new(Code::EpochFenced));
    }
    Ok(())
}

async fn apply(
    engine: &Engine,
    tx: &Tx<'_>,
    once: &Once,
    change: &impl Change,
) -> Result<Applied, Halt> {
    let applied = change.apply(engine, tx).await?;
    let request = NewRequest::new(once.id.clone(), &applied.reply, &engine.keys)?;
    requests::record(tx, engine.epoch, std::iter::once(&request)).await?;
    Ok(applied)
}
