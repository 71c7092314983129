//! A player's order: the body of a play or a bet, read strictly, and what it becomes.
//!
//! Invariants: the record, the receipt and the leaf say the same about a bet, because they are made here
//! from one value; the checkpoint they name is a published one that covers the commitment.

use crate::answer::Failure;
use crate::engine::Engine;
use crate::player::Player;
use domicile_core::checkpoint::Checkpoint;
use domicile_core::error::Code;
use domicile_core::games::Game;
use domicile_core::hex;
use domicile_core::ids::{BetId, RoundId};
use domicile_core::money::Micro;
use domicile_core::receipt::Receipt;
use domicile_core::record::{self, BetRecord};
use serde::Deserialize;

/// The body as it arrives.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    stake_micro: u64,
    selection: String,
    client_seed: String,
    commitment: String,
    checkpoint_size: Option<u64>,
}

/// A well-formed order.
#[derive(Debug, Clone)]
pub struct Order {
    /// The stake.
    pub stake: Micro,
    /// What is bet on.
    pub selection: String,
    /// The player's entropy.
    pub client_seed: [u8; 32],
    /// The commitment the player bets under.
    pub commitment: [u8; 32],
    /// The published checkpoint the player names.
    pub checkpoint_size: Option<u64>,
}

impl Order {
    /// Reads the body of a play or bet.
    pub fn parse(body: &[u8]) -> Result<Self, Failure> {
        let body: OrderBody = crate::http::parse(body)?;
        let invalid = |detail: &'static str| Failure::with(Code::BetInvalid, detail);
        let hash = |text: &str, detail| hex::decode_32(text).ok_or_else(|| invalid(detail));
        let stake = Micro::new(body.stake_micro).ok().filter(|stake| *stake > Micro::ZERO);
        Ok(Self {
            stake: stake.ok_or_else(|| invalid("stake_micro must be positive and within range"))?,
            client_seed: hash(&body.client_seed, "client_seed must be 64 lower-case hex digits")?,
            commitment: hash(&body.commitment, "commitment must be 64 lower-case hex digits")?,
            selection: body.selection,
            checkpoint_size: body.checkpoint_size,
        })
    }

    /// Refuses a selection or stake the game does not take.
    pub fn check(&self, game: &dyn Game, params: &str) -> Result<(), Failure> {
        let refuse =
            |error: domicile_core::games::GameError| Failure::with(error.code(), error.to_string());
        game.check_selection(params, &self.selection).map_err(refuse)?;
        game.max_payout(params, self.stake, &self.selection).map_err(refuse)?;
        Ok(())
    }
}

/// Where a bet stands: its round and the published checkpoint it names.
#[derive(Debug, Clone, Copy)]
pub struct Ground {
    /// The round.
    pub round: RoundId,
    /// The bet.
    pub bet: BetId,
    /// Size of the checkpoint.
    pub checkpoint_size: u64,
    /// Its root.
    pub checkpoint_root: [u8; 32],
}

/// The private record of a bet with its salt and commitment.
#[derive(Debug)]
pub struct SaltedRecord {
    /// What the record says.
    pub record: BetRecord,
    /// The exact text.
    pub text: String,
    /// The salt.
    pub salt: [u8; 32],
    /// The commitment.
    pub commitment: [u8; 32],
}

impl SaltedRecord {
    /// Writes the record of an order.
    pub fn new(player: &Player, order: &Order, ground: Ground, salt: [u8; 32]) -> Self {
        let session = &player.session;
        let record = BetRecord {
            jurisdiction: player.jurisdiction.clone(),
            operator: session.operator.clone(),
            player: session.player.clone(),
            session: session.session,
            round: ground.round,
            bet: ground.bet,
            currency: session.currency.clone(),
            stake: order.stake,
            selection: order.selection.clone(),
            client_seed: order.client_seed,
            commitment: order.commitment,
            checkpoint_size: ground.checkpoint_size,
            checkpoint_root: ground.checkpoint_root,
        };
        let text = record.encode();
        let commitment = record::commitment(&text, &salt);
        Self { record, text, salt, commitment }
    }

    /// Signs the receipt of this bet.
    pub fn receipt(&self, engine: &Engine) -> Result<String, Failure> {
        let record = &self.record;
        let receipt = Receipt {
            jurisdiction: record.jurisdiction.clone(),
            cluster: engine.cluster.clone(),
            round: record.round,
            bet: record.bet,
            session: record.session,
            commitment: record.commitment,
            checkpoint_size: record.checkpoint_size,
            checkpoint_root: record.checkpoint_root,
            record: self.commitment,
            stake_micro: record.stake,
            currency: record.currency.clone(),
            accepted_epoch: engine.epoch,
        };
        receipt.sign(&engine.keys.receipt).map_err(|error| Failure::because(Code::Internal, &error))
    }
}

/// The root of a published checkpoint of ours that covers `commit_index`; refuses one that does not.
pub fn covering_root(note: Option<&str>, commit_index: u64) -> Result<(u64, [u8; 32]), Failure> {
    let note = note.ok_or(Failure::new(Code::CheckpointUnknown))?;
    let end = note.find("\n\n").map_or(note.len(), |blank| blank + 1);
    let text = note.get(..end).unwrap_or_default();
    let checkpoint =
        Checkpoint::parse(text).map_err(|error| Failure::because(Code::Internal, &error))?;
    if checkpoint.size <= commit_index {
        let detail = "the checkpoint was published before the commitment";
        return Err(Failure::with(Code::CheckpointUnknown, detail));
    }
    Ok((checkpoint.size, checkpoint.root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body() -> serde_json::Value {
        json!({ "stake_micro": 1_000_000, "selection": "high", "client_seed": "00".repeat(32),
            "commitment": "11".repeat(32), "checkpoint_size": 7 })
    }

    #[test]
    fn orders_are_read_strictly() {
        let order = Order::parse(body().to_string().as_bytes()).unwrap();
        assert_eq!((order.stake.get(), order.checkpoint_size), (1_000_000, Some(7)));
        let mut cases = Vec::new();
        for (field, value) in [
            ("stake_micro", json!(0)),
            ("stake_micro", json!(u64::MAX)),
            ("client_seed", json!("AA".repeat(32))),
            ("commitment", json!("1")),
        ] {
            let mut altered = body();
            altered[field] = value;
            cases.push((altered, Code::BetInvalid));
        }
        let mut unknown = body();
        unknown["extra"] = json!(1);
        cases.push((unknown, Code::MalformedBody));
        cases.push((json!({ "stake_micro": -1 }), Code::MalformedBody));
        for (case, code) in cases {
            assert_eq!(Order::parse(case.to_string().as_bytes()).unwrap_err().code, code, "{case}");
        }
    }
}
