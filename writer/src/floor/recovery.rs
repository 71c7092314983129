//! What became of rounds and wallet transactions that were found under way: the report of a start or a takeover.
//!
//! Invariants: a round stands in it once per takeover, with the rule that applied and how it ended; it is kept as long as
//! the epoch is served here, and each entry is told to the service's log, so that it outlives the process.

use super::plan::Action;
use crate::ledger::floor::{Latest, Table};
use crate::limits;
use crate::round_state::RoundState;
use domicile_core::ids::RoundId;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// What was found and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Recovered {
    /// The round.
    pub round: RoundId,
    /// Whose it is.
    pub operator: String,
    /// Its game.
    pub game: String,
    /// The currency of its bets.
    pub currency: String,
    /// The state it was found in.
    pub found: &'static str,
    /// The rule: `continue`, `close`, `settle` or `void`.
    pub rule: &'static str,
    /// When, milliseconds since the Unix epoch.
    pub taken_over_at_unix_ms: u64,
    /// The state in which it ended here; absent while it has not.
    pub ended: Option<&'static str>,
    /// Bets whose stakes went back.
    pub bets_refunded: i64,
    /// Those stakes.
    pub refunded_micro: i64,
}

/// The report so far.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Rounds that went on, as they still took bets.
    pub continued: usize,
    /// Rounds that were closed, or had to be, and were settled from their committed seeds.
    pub settled: usize,
    /// Rounds that were voided.
    pub voided: usize,
    /// Rounds, timed or not, that a forced move had cut off and that were voided.
    pub cut_voided: u64,
    /// Bets whose stakes went back.
    pub bets_refunded: i64,
    /// Wins and rollbacks of earlier processes that were taken up; absent until they were counted.
    pub wallet_jobs: Option<u64>,
    /// Entries that are no longer kept.
    pub dropped: u64,
    /// The rounds, in the order in which they were found.
    pub rounds: Vec<Recovered>,
}

/// Notes the report.
#[derive(Debug, Default)]
pub struct Recovery {
    report: Mutex<Report>,
}

impl Recovery {
    /// The report so far.
    pub fn report(&self) -> Report {
        let mut report = self.lock().clone();
        for round in &report.rounds {
            match round.rule {
                "continue" => report.continued += 1,
                "void" => report.voided += 1,
                _ => report.settled += 1,
            }
            report.bets_refunded = report.bets_refunded.saturating_add(round.bets_refunded);
        }
        report
    }

    /// Notes how many wallet transactions were taken up.
    pub fn wallet_jobs(&self, count: u64) {
        self.lock().wallet_jobs = Some(count);
    }

    /// Notes a round that was voided because it was cut off.
    pub(super) fn cut(&self) {
        let mut report = self.lock();
        report.cut_voided = report.cut_voided.saturating_add(1);
    }

    /// Notes a round that was found under way, and what the rules say of it.
    pub(super) fn found(&self, table: &Table, latest: &Latest, action: Action, now_unix_ms: u64) {
        let rule = match action {
            Action::Close => "close",
            Action::Settle => "settle",
            Action::Void(_) => "void",
            _ => "continue",
        };
        let found = latest.state.as_str();
        tracing::info!(round = %latest.round, %table, found, rule, "a round under way is taken over");
        metrics::counter!("domicile_writer_rounds_taken_over_total", "rule" => rule).increment(1);
        let mut report = self.lock();
        if report.rounds.len() >= limits::RECOVERY_ROUNDS {
            report.rounds.remove(0);
            report.dropped = report.dropped.saturating_add(1);
        }
        report.rounds.push(Recovered {
            round: latest.round,
            operator: table.operator.to_string(),
            game: table.game.to_string(),
            currency: table.currency.to_string(),
            found,
            rule,
            taken_over_at_unix_ms: now_unix_ms,
            ended: None,
            bets_refunded: 0,
            refunded_micro: 0,
        });
    }

    /// Notes how a round ended, where it was found under way.
    pub(super) fn ended(&self, round: RoundId, state: RoundState, refunds: (i64, i64)) {
        let mut report = self.lock();
        let mut found = report.rounds.iter_mut().rev();
        let Some(entry) = found.find(|entry| entry.round == round) else { return };
        entry.ended = Some(state.as_str());
        (entry.bets_refunded, entry.refunded_micro) = refunds;
        let (bets, micro) = refunds;
        let ended = state.as_str();
        tracing::info!(%round, rule = entry.rule, ended, bets, micro, "a round that was taken over has ended");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
