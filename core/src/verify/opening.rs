//! The private half: one bet, from its record and salt to the log.

use super::{
    report::{Stop, failed},
    round::{Commit, End, Log, Terminal, not_revealed},
};
use crate::{
    bundle::Opening,
    checkpoint::Checkpoint,
    log::{
        Hash, leaf_hash,
        proof::{verify_consistency, verify_inclusion},
    },
    money::Micro,
    note::VerifierKey,
    receipt::Receipt,
    record::{self, BetRecord},
};

/// Step 2, private half: the checkpoint the bet named is signed, covers the commit leaf, and the log extends it.
pub(super) fn bet_checkpoint(
    opening: &Opening,
    log: &Log,
    commit: &Commit,
    keys: &[VerifierKey],
) -> Result<Checkpoint, Stop> {
    let named = match Checkpoint::open(&opening.bet_checkpoint, keys) {
        Ok(named) => named,
        Err(why) => return failed(format!("the bet's checkpoint: {why}")),
    };
    if named.origin != log.origin {
        return failed("the bet's checkpoint belongs to another log");
    }
    if named.size <= commit.index {
        return failed("the bet's checkpoint does not cover the commitment");
    }
    let Checkpoint { size, root, .. } = &log.checkpoint;
    match verify_consistency(named.size, *size, &named.root, root, &opening.consistency) {
        Ok(()) => Ok(named),
        Err(why) => failed(format!("the log does not extend the bet's checkpoint: {why}")),
    }
}

/// A bet whose record, salt and receipt agree with one another and with the commitment it was placed under.
pub(super) struct Bet<'a> {
    opening: &'a Opening,
    record: BetRecord,
    commitment: Hash,
}

impl<'a> Bet<'a> {
    /// Opens the record and checks everything that does not depend on the round's end.
    pub(super) fn open(
        opening: &'a Opening,
        log: &Log,
        commit: &Commit,
        named: &Checkpoint,
        keys: &[VerifierKey],
    ) -> Result<Self, Stop> {
        let record = match BetRecord::parse(&opening.record) {
            Ok(record) => record,
            Err(why) => return failed(why.to_string()),
        };
        let of_this_round = record.round == commit.round
            && opening.round == record.round
            && opening.bet == record.bet
            && opening.jurisdiction == record.jurisdiction
            && log.origin.jurisdiction == record.jurisdiction;
        if !of_this_round {
            return failed("the record is of another round, bet or jurisdiction");
        }
        if record.commitment != commit.commitment {
            return failed("the bet was placed under another commitment");
        }
        if (record.checkpoint_size, record.checkpoint_root) != (named.size, named.root) {
            return failed("the record names another checkpoint than the opening shows");
        }
        let commitment = record::commitment(&opening.record, &opening.salt);
        let bet = Self { opening, record, commitment };
        bet.check_receipt(log, keys)?;
        Ok(bet)
    }

    fn check_receipt(&self, log: &Log, keys: &[VerifierKey]) -> Result<(), Stop> {
        let receipt = match Receipt::open(&self.opening.receipt, keys) {
            Ok(receipt) => receipt,
            Err(why) => return failed(format!("the receipt: {why}")),
        };
        // Only the epoch is the receipt's own; everything else the record states too.
        let expected = Receipt {
            jurisdiction: self.record.jurisdiction.clone(),
            cluster: log.origin.cluster.clone(),
            round: self.record.round,
            bet: self.record.bet,
            session: self.record.session,
            commitment: self.record.commitment,
            checkpoint_size: self.record.checkpoint_size,
            checkpoint_root: self.record.checkpoint_root,
            record: self.commitment,
            stake_micro: self.record.stake,
            currency: self.record.currency.clone(),
            accepted_epoch: receipt.accepted_epoch,
        };
        if receipt == expected { Ok(()) } else { failed("the receipt is of another bet") }
    }

    /// While the round is open there is only the receipt.
    pub(super) fn open_round(&self) -> Result<((), String), Stop> {
        if self.opening.payout_micro.is_some() || self.opening.inclusion.is_some() {
            return failed("the opening states a payout, but the round has not ended");
        }
        Err(not_revealed())
    }

    /// Step 6: the log committed to this record, and the payout follows from it.
    ///
    /// The record names the root of the bet's checkpoint and the terminal leaf names the record, so that
    /// checkpoint cannot hold the terminal leaf: the bet came before the seed was revealed.
    pub(super) fn settled(
        &self,
        log: &Log,
        commit: &Commit,
        end: &End,
    ) -> Result<((), String), Stop> {
        match &end.leaf {
            Terminal::Play(play) => {
                if self.opening.inclusion.is_some() || play.record != self.commitment {
                    return failed("the record and salt do not open the leaf's commitment");
                }
                if play.client_seed != self.record.client_seed {
                    return failed("the leaf states another client seed than the record");
                }
            }
            Terminal::Settle(_) | Terminal::Void(_) => self.check_inclusion(log, end)?,
        }
        let payout = self.payout(commit, end)?;
        if self.opening.payout_micro != Some(payout) {
            return failed(format!("the payout should be {payout} micro-units"));
        }
        Ok(((), format!("stake {}, payout {payout} {}", self.record.stake, self.record.currency)))
    }

    fn check_inclusion(&self, log: &Log, end: &End) -> Result<(), Stop> {
        let bets = end.bets().and_then(|bets| bets.of(&log.origin.jurisdiction));
        let (Some(bets), Some(place)) = (bets, &self.opening.inclusion) else {
            return failed("the opening does not place the record among the round's bets");
        };
        if place.count != bets.count {
            return failed("the opening states another number of bets than the leaf");
        }
        let leaf = leaf_hash(&self.commitment);
        match verify_inclusion(place.index, bets.count, &leaf, &place.path, &bets.root) {
            Ok(()) => Ok(()),
            Err(_) => failed("the record and salt do not open a bet of the leaf"),
        }
    }

    /// What the bet pays: by the game's rules, or the stake back when the round was voided.
    fn payout(&self, commit: &Commit, end: &End) -> Result<Micro, Stop> {
        let Some(outcome) = end.outcome() else { return Ok(self.record.stake) };
        let BetRecord { stake, selection, .. } = &self.record;
        commit
            .game()
            .and_then(|game| {
                game.payout(&commit.params, *stake, selection, outcome)
                    .map_err(|why| why.to_string())
            })
            .map_err(Stop::Failed)
    }
}
