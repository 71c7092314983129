//! Which process writes the logs: one of the region's writer processes, for as long as its session at the database lives.
//!
//! Every process has a desk ([`crate::desk`]). The one that holds the epoch's lock there runs the sequencers and the
//! heartbeat; the others learn from the rows what it publishes, and tell it of the leaves they leave. Invariants: a
//! process whose desk is lost signs nothing from that moment on; its successor starts every log at its gate, in the same
//! epoch and on the same log; sequencers begin only when all earlier ones of this process have ended. Two processes that
//! both believe that it is their turn do no harm: the head's row admits one.

use super::sequencer::{self, Sequencer};
use super::standing::{FOLLOW, Stands};
use super::store::signed;
use super::turn::Turn;
use super::{LogState, PublishedCheckpoint};
use crate::desk::{Desk, DeskError, Shared};
use crate::limits;
use domicile_core::epoch::Epoch;
use domicile_core::ids::Jurisdiction;
use domicile_postgres::Pool;
use domicile_service::telemetry;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Where the processes talk about the logs.
const CHANNEL: &str = "domicile_log";
/// Something was published, or the turn is free.
const NEWS: &str = "news";
/// Leaves wait in this log's outbox.
const LEFT: &str = "left ";

/// This process's part in writing the logs.
pub(super) struct Office {
    pub(super) pool: Pool,
    pub(super) epoch: Epoch,
    pub(super) logs: Vec<Arc<Sequencer>>,
    pub(super) turn: Arc<Turn>,
}

impl Office {
    /// Takes part until `stopped` turns true; a turn ends with the batches in hand.
    pub(super) async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut duty = Duty::none();
        let mut was_lost = false;
        while !*stopped.borrow_and_update() {
            let ended = self.attend(&mut duty, &mut stopped).await;
            self.turn.set(false);
            duty.dismiss();
            if let Err(error) = &ended
                && !was_lost
            {
                let error = telemetry::chain(error);
                tracing::warn!(error, "the desk at the database is lost: no log is written here");
            }
            was_lost = ended.is_err();
            // The writer's move waits for this: who is stopped already pauses no more.
            let told = stopped.wait_for(|stopped| *stopped);
            let _told = tokio::time::timeout(limits::DESK_PAUSE, told).await.is_ok();
        }
        duty.end().await;
    }

    async fn attend(
        &self,
        duty: &mut Duty,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), DeskError> {
        let desk = Desk::open(&self.pool, CHANNEL).await?;
        let key = i32::try_from(self.epoch.0).unwrap_or(i32::MAX);
        let mut asked = None::<Instant>;
        while !*stopped.borrow_and_update() {
            let is_due = asked.is_none_or(|asked| asked.elapsed() >= limits::DESK_PAUSE);
            if is_due && !self.turn.is_held() && duty.has_ended() {
                asked = Some(Instant::now());
                if desk.take(Shared::Logs, key).await? {
                    tracing::info!(epoch = %self.epoch, "this process writes the logs");
                    self.turn.set(true);
                    duty.begin(self);
                }
            }
            if self.turn.is_held() {
                desk.show_up().await?;
            } else {
                self.follow(&desk).await?;
            }
            self.pass_on(&desk, stopped).await?;
        }
        duty.end().await;
        self.turn.set(false);
        desk.give_back().await?;
        desk.tell(&[NEWS.to_owned()]).await
    }

    /// Passes words on in both directions, until there is something to look at.
    async fn pass_on(
        &self,
        desk: &Desk,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), DeskError> {
        let until = Instant::now() + limits::DESK_PAUSE;
        while Instant::now() < until && !*stopped.borrow() {
            tokio::select! {
                words = desk.hear() => {
                    self.wake(&words);
                    if !self.turn.is_held() && words.contains(NEWS) {
                        return Ok(());
                    }
                }
                () = self.turn.rung() => {
                    tokio::time::sleep(limits::DESK_GATHER).await;
                    desk.tell(&self.words()).await?;
                }
                () = tokio::time::sleep_until(until) => {}
                _changed = stopped.changed() => {}
            }
        }
        Ok(())
    }

    /// What this process has to tell.
    fn words(&self) -> Vec<String> {
        let left = self.turn.take_left();
        let news = self.turn.take_published().then(|| NEWS.to_owned());
        left.iter().map(|code| format!("{LEFT}{code}")).chain(news).collect()
    }

    /// Leaves of other processes are sequenced like one's own.
    fn wake(&self, words: &BTreeSet<String>) {
        if !self.turn.is_held() {
            return;
        }
        let left =
            words.iter().filter_map(|word| Jurisdiction::parse(word.strip_prefix(LEFT)?).ok());
        for code in left {
            if let Some(log) = self.logs.iter().find(|log| log.log.jurisdiction == code) {
                log.lane.wake.notify_one();
            }
        }
    }

    /// Learns how the logs stand.
    async fn follow(&self, desk: &Desk) -> Result<(), DeskError> {
        let ids = || self.logs.iter().map(|sequencer| &sequencer.log);
        let codes: Vec<_> = ids().map(|log| log.jurisdiction.as_str()).collect();
        let epochs: Vec<_> = ids().map(|log| log.log_epoch).collect();
        let rows = desk.query(FOLLOW, &[&codes, &epochs, &signed(self.epoch.0)]).await?;
        for stands in rows.iter().map(Stands::from_row) {
            let mut logs = self.logs.iter();
            let log = logs.find(|log| log.log.jurisdiction.as_str() == stands.jurisdiction);
            if let Some(log) = log {
                log.follow(&stands);
            }
        }
        Ok(())
    }
}

impl Sequencer {
    /// Shows what another process has left.
    fn follow(&self, stands: &Stands) {
        let lane = &self.lane;
        lane.state.send_if_modified(|state| {
            let changed = *state != stands.state;
            state.clone_from(&stands.state);
            changed
        });
        let is_complete = |kept: &super::GateEvidence| kept.checkpoint.is_some();
        if !lane.evidence.load_full().is_some_and(|kept| is_complete(&kept)) {
            let evidence = stands.evidence.as_deref();
            let evidence = evidence.and_then(|text| serde_json::from_str(text).ok());
            lane.evidence.store(evidence.map(Arc::new));
        }
        let signed = stands.published.as_ref().map_or(0, |(size, _)| *size);
        let waits = self.terms.tenure.standing.one_copy() && stands.size > signed;
        lane.unconfirmed.store(waits, Ordering::Release);
        let Some((size, note)) = &stands.published else { return };
        if lane.latest.borrow().as_ref().is_some_and(|known| known.size >= *size) {
            return;
        }
        match self.place.signer.open(note) {
            Some(opened) if stands.state == LogState::Live => {
                let (size, root) = (opened.size, opened.root);
                lane.show(PublishedCheckpoint { size, root, note: note.as_str().into() });
            }
            Some(_) => {}
            None => {
                let jurisdiction = &self.log.jurisdiction;
                tracing::error!(%jurisdiction, size, "the ledger holds a checkpoint that our key did not sign");
            }
        }
    }
}

/// The tasks of a turn.
struct Duty {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Duty {
    fn none() -> Self {
        Self { stop: watch::Sender::new(true), tasks: Vec::new() }
    }

    fn begin(&mut self, office: &Office) {
        self.stop = watch::Sender::new(false);
        let stopped = || self.stop.subscribe();
        let sequencers = office.logs.iter().map(|log| {
            let log = Arc::clone(log);
            tokio::spawn(log.run(stopped()))
        });
        self.tasks = sequencers.collect();
        let jurisdictions = office.logs.iter().map(|log| log.log.jurisdiction.clone()).collect();
        let beating =
            sequencer::heartbeat(office.pool.clone(), office.epoch, jurisdictions, stopped());
        self.tasks.push(tokio::spawn(beating));
    }

    /// Tells them to end, without waiting.
    fn dismiss(&self) {
        self.stop.send_replace(true);
    }

    fn has_ended(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }

    /// Lets each one finish the batch it is in, and waits for all.
    async fn end(&mut self) {
        self.dismiss();
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a log task ended abnormally");
            }
        }
    }
}
