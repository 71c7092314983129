//! The offline verifier: from a bundle, an opening and pinned keys to a step-by-step report.
//!
//! Invariants: a field counts only once it is bound to something a pinned key signed; every identifier that
//! appears twice must agree; a round that has not ended is told apart from a proof that fails.
//! Deliberately absent: any way to skip a step, and any key that comes with the file.

mod opening;
mod report;
mod round;

pub use report::{Report, Status, Step, StepId, Verdict};

use crate::{
    bundle::{Bundle, Opening},
    note::VerifierKey,
};
use report::Steps;

/// Verifies a bundle and, if given, the opening of one of its bets.
///
/// `keys` are the pinned keys: the log's, named like its origin, and – for an opening – the cluster's receipt
/// key, `<cluster>/receipt`. Keys of other names are ignored.
pub fn verify_bundle(bundle: &Bundle, opening: Option<&Opening>, keys: &[VerifierKey]) -> Report {
    let mut steps = Steps::default();
    let log = steps.run(StepId::Signature, || round::signed_log(bundle, keys));
    let commit = steps.run(StepId::Commitment, || {
        let log = known(log.as_ref())?;
        let commit = round::commit(bundle, log)?;
        let Some(opening) = opening else {
            let detail = format!("leaf {} of {}", commit.index, log.checkpoint.size);
            return Ok(((commit, None), detail));
        };
        let bet = opening::bet_checkpoint(opening, log, &commit, keys)?;
        let detail = format!(
            "leaf {}; the bet named the checkpoint of size {}, which the log extends",
            commit.index, bet.size
        );
        Ok(((commit, Some(bet)), detail))
    });
    let end = steps.run(StepId::Settlement, || {
        round::end(bundle, known(log.as_ref())?, &known(commit.as_ref())?.0)
    });
    let revealed = || end.as_ref().ok_or_else(round::not_revealed);
    steps.run(StepId::Seed, || round::seed(&known(commit.as_ref())?.0, revealed()?));
    steps.run(StepId::Outcome, || round::outcome(&known(commit.as_ref())?.0, revealed()?));
    steps.run(StepId::Record, || {
        let (commit, bet_checkpoint) = known(commit.as_ref())?;
        let (Some(opening), Some(bet_checkpoint)) = (opening, bet_checkpoint) else {
            return Err(report::Stop::NotApplicable("no opening was given".to_owned()));
        };
        let log = known(log.as_ref())?;
        let bet = opening::Bet::open(opening, log, commit, bet_checkpoint, keys)?;
        match &end {
            Some(end) => bet.settled(log, commit, end),
            None => bet.open_round(),
        }
    });
    steps.report()
}

/// What an earlier step established; `Steps::run` asks for it only when that step passed.
fn known<T>(value: Option<&T>) -> Result<&T, report::Stop> {
    value.ok_or_else(|| report::Stop::Failed("an earlier step failed".to_owned()))
}
