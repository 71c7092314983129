//! What the kept rows of a lost bet say, held against its receipt. Pure.
//!
//! Invariant: nothing in the rows is believed that the receipt, the seed or the game does not bear out. The exceptions are
//! game and parameters where the ledger has lost the chain or round too, and the roots over a shared round's bets: they are
//! as the node kept them.

use crate::answer::Failure;
use crate::ledger::loss_claims::Stake;
use domicile_core::error::Code;
use domicile_core::games;
use domicile_core::hex;
use domicile_core::ids::GameCode;
use domicile_core::leaf::{Leaf, Play, RoundSettle};
use domicile_core::lines::Text;
use domicile_core::money::Micro;
use domicile_core::outcome::{Draws, play_context, round_context};
use domicile_core::receipt::Receipt;
use domicile_core::record::{self, BetRecord};
use domicile_core::seed::{Seed, verify_chain};
use domicile_topology::agent_api::{OrphanBet, OrphanGround};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

/// A lost bet as it was.
#[derive(Debug)]
pub(super) struct KeptBet {
    /// Its private record.
    pub(super) record: BetRecord,
    /// The end that was revealed.
    pub(super) played: Option<Played>,
    /// What took its stake at the operator's wallet.
    pub(super) stake: Option<Stake>,
}

/// The kept row of a stake, as Postgres spells it in JSON.
#[derive(Deserialize)]
struct StakeRow {
    id: Uuid,
    bet_id: Uuid,
    amount_micro: i64,
    body_hash: String,
}

/// How a play, or the round of a bet, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Played {
    /// The game it was.
    pub(super) game: GameCode,
    /// The game's parameters.
    pub(super) params: String,
    /// What the seed gave.
    pub(super) outcome: String,
    /// What that pays.
    pub(super) payout: Micro,
}

fn unfit(detail: &'static str) -> Failure {
    Failure::with(Code::LossEvidence, detail)
}

/// Reads the rows of the bet that the receipt is for.
pub(super) fn read(receipt: &Receipt, kept: &OrphanBet) -> Result<KeptBet, Failure> {
    let salt = kept.salt.strip_prefix("\\x").and_then(hex::decode_32);
    let salt = salt.ok_or(unfit("the salt is not 32 bytes"))?;
    if record::commitment(&kept.record, &salt) != receipt.record {
        return Err(unfit("the record is not the one that the receipt commits to"));
    }
    let record = BetRecord::parse(&kept.record).map_err(|_not_one| unfit("no bet record"))?;
    let said = (&record.jurisdiction, record.round, record.bet, record.session, record.commitment);
    let promised =
        (&receipt.jurisdiction, receipt.round, receipt.bet, receipt.session, receipt.commitment);
    let stakes = (record.stake, &record.currency) == (receipt.stake_micro, &receipt.currency);
    if said != promised || !stakes {
        return Err(unfit("the record and the receipt are about different bets"));
    }
    let played = match (&kept.ground, &kept.leaf) {
        (Some(ground), Some(leaf)) if ground.state == "settled" => {
            Some(ended(receipt, &record, ground, leaf)?)
        }
        _ => None,
    };
    let stake = kept.wallet.as_ref().map(|row| stake(&record, row)).transpose()?;
    Ok(KeptBet { record, played, stake })
}

/// Who bet and how much is the record's to say; the row adds the ids that the wallet knows.
fn stake(record: &BetRecord, row: &Value) -> Result<Stake, Failure> {
    let unreadable = "the wallet transaction is not one that took this stake";
    let read: StakeRow = serde_json::from_value(row.clone()).map_err(|_other| unfit(unreadable))?;
    let game = row.get("game").and_then(Value::as_str).map(GameCode::parse);
    let game = game.and_then(Result::ok).ok_or(unfit(unreadable))?;
    let body_hash = read.body_hash.strip_prefix("\\x").and_then(hex::decode_32);
    let fits = read.bet_id == record.bet.0 && read.amount_micro == record.stake.as_i64();
    Ok(Stake {
        id: read.id,
        operator: record.operator.clone(),
        player: record.player.clone(),
        game,
        body_hash: body_hash.filter(|_| fits).ok_or(unfit(unreadable))?,
    })
}

/// The end that the seed, revealed in the leaf, gives.
fn ended(
    receipt: &Receipt,
    record: &BetRecord,
    ground: &OrphanGround,
    leaf: &str,
) -> Result<Played, Failure> {
    let code = GameCode::parse(&ground.game).map_err(|_unknown| unfit("no game code"))?;
    let leaf = Leaf::parse(leaf.as_bytes()).map_err(|_not_one| unfit("no leaf"))?;
    let (seed, context, stated) = match leaf {
        Leaf::Play(play) => of_play(receipt, record, (&code, &ground.params), play)?,
        Leaf::RoundSettle(round) => of_round(receipt, (&code, &ground.params), round)?,
        _ => return Err(unfit("the leaf is neither a play's nor a settled round's")),
    };
    let game = games::game(&code).ok_or(Failure::new(Code::GameUnknown))?;
    let params = &ground.params;
    let mut source = Draws::new(&seed, context.as_bytes());
    let refused = |_error| unfit("the game does not take this bet");
    let drawn = game.outcome(params, &mut source).map_err(refused)?;
    if drawn != stated.as_str() {
        return Err(unfit("the seed does not give the stated outcome"));
    }
    let payout = game.payout(params, record.stake, &record.selection, &drawn).map_err(refused)?;
    Ok(Played { game: code, params: params.clone(), outcome: drawn, payout })
}

/// A play's seed, what it was drawn for, and the outcome that its leaf states.
fn of_play(
    receipt: &Receipt,
    record: &BetRecord,
    (game, params): (&GameCode, &str),
    leaf: Play,
) -> Result<(Seed, String, Text), Failure> {
    let Play { jurisdiction, position, round, seed, client_seed, outcome, record: stated, .. } =
        leaf;
    let is_its = jurisdiction == receipt.jurisdiction && round == receipt.round;
    if !is_its || stated != receipt.record || client_seed != record.client_seed {
        return Err(unfit("the leaf is about another play"));
    }
    let seed = Seed::new(seed);
    if !verify_chain(&seed, position, &receipt.commitment) {
        return Err(unfit("the revealed seed does not lead to the receipt's commitment"));
    }
    let context = play_context(game, params, round, position, &client_seed, &stated);
    Ok((seed, context, outcome))
}

/// The same of a shared round.
fn of_round(
    receipt: &Receipt,
    (game, params): (&GameCode, &str),
    leaf: RoundSettle,
) -> Result<(Seed, String, Text), Failure> {
    let RoundSettle { jurisdiction, round, seed, outcome, bets, .. } = leaf;
    if jurisdiction != receipt.jurisdiction || round != receipt.round {
        return Err(unfit("the leaf is about another round"));
    }
    let seed = Seed::new(seed);
    if seed.commitment() != receipt.commitment {
        return Err(unfit("the revealed seed is not the one that the receipt's commitment fixes"));
    }
    if bets.of(&receipt.jurisdiction).is_none_or(|bets| bets.count == 0) {
        return Err(unfit("the round was settled without a bet of this jurisdiction"));
    }
    let roots = bets.as_slice().iter().map(|bets| (&bets.jurisdiction, bets.count, &bets.root));
    let context = round_context(game, params, round, roots);
    Ok((seed, context, outcome))
}
