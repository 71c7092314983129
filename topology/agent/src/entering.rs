//! Enters plans that are over into the operations log, through the writer that serves.
//!
//! Plans that agents conducted are entered at once; others after a while, because the command that ran them enters them
//! under its person's name. What has ended stands in the journal, so that nothing is lost with an executor or an agent
//! that dies; the writer enters a plan once, whoever tells of it and however often. Invariants: a task of its own, which
//! nothing waits for; the executor knows nothing of it. Deliberately absent: a record of what was told on this node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domicile_control::{ControlClient, Entered, Error as ControlError, Plans};
use domicile_execute::Ended;
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::agent::Agent;
use crate::submit::{SubmitError, Submitter};

/// How often the journal is looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the command that ran a plan has for entering it.
const LEFT_TO_ITS_COMMAND: Duration = Duration::from_secs(30);
/// Whom the journal names where an agent conducted.
const BY_AGENT: &str = "agent ";

/// Why a plan is not entered yet.
#[derive(Debug, Error)]
enum EnterError {
    #[error("the journal cannot be read or noted in: {0}")]
    Journal(#[from] ControlError),
    #[error("an entry of the journal is not as documented: {0}")]
    Entry(#[from] serde_json::Error),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// What enters them.
pub struct Entering {
    plans: Plans,
    submitter: Submitter,
    /// Plans that were seen to be over, since when, and whether the log knows them.
    seen: HashMap<String, Seen>,
    noted: Entered,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    since: Instant,
    is_entered: bool,
}

impl Entering {
    /// For this agent.
    pub fn new(agent: Arc<Agent>, control: &ControlClient) -> Result<Self, crate::error::Error> {
        let (plans, submitter) = (Plans::new(control), Submitter::new(agent)?);
        Ok(Self { plans, submitter, seen: HashMap::new(), noted: Entered::default() })
    }

    /// Enters for as long as the agent lives.
    pub async fn run(mut self) {
        let mut tick = interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            tick.tick().await;
            let looked = self.look().await;
            if let Err(error) = &looked
                && !is_failing
            {
                tracing::warn!(%error, "a plan that is over is not in the operations log yet");
            }
            is_failing = looked.is_err();
        }
    }

    // In the order in which they began, so that one note says how far it is.
    async fn look(&mut self) -> Result<(), EnterError> {
        let (ids, noted) = tokio::try_join!(self.plans.ids(), self.plans.entered())?;
        if self.noted.is_forgotten_in(&noted) {
            // A region took entries with it: what was entered may be gone.
            self.seen.clear();
        }
        self.noted = noted;
        let up_to = self.noted.up_to.as_ref();
        let known = up_to.and_then(|noted| ids.iter().position(|id| id == noted));
        let open = ids.get(known.map_or(0, |known| known + 1)..).unwrap_or_default();
        self.seen.retain(|id, _| open.contains(id));
        let (mut up_to, mut is_whole, mut settled) = (None, true, Ok(()));
        for id in open {
            match self.settle(id).await {
                Ok(is_settled) => is_whole &= is_settled,
                Err(error) => {
                    (is_whole, settled) = (false, Err(error));
                }
            }
            if is_whole {
                up_to = Some(id);
            }
        }
        if let Some(id) = up_to {
            // Not where it was taken back meanwhile: what was entered before is entered anew.
            self.plans.note_entered(&self.noted, id).await?;
        }
        settled
    }

    // Whether the log knows the plan.
    async fn settle(&mut self, id: &str) -> Result<bool, EnterError> {
        if self.seen.get(id).is_some_and(|seen| seen.is_entered) {
            return Ok(true);
        }
        let Some(stored) = self.plans.find(id).await? else { return Ok(true) };
        let Some(ended) = Ended::read(&stored)? else { return Ok(false) };
        let new = Seen { since: Instant::now(), is_entered: false };
        let seen = self.seen.entry(id.to_owned()).or_insert(new);
        let is_due =
            ended.actor.starts_with(BY_AGENT) || seen.since.elapsed() >= LEFT_TO_ITS_COMMAND;
        if is_due {
            self.submitter.submit(&ended.id, &ended).await?;
            metrics::counter!("domicile_agent_plans_entered_total").increment(1);
            let Ended { id, verb, outcome, .. } = &ended;
            tracing::info!(plan = id, verb, outcome, "entered into the operations log");
            self.seen.insert(id.to_owned(), Seen { is_entered: true, ..new });
        }
        Ok(is_due)
    }
}
