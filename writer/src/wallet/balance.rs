//! What a player has at the operator's wallet, for the player to see.
//!
//! Invariants: it takes one of the places of bets and counts for the breaker like a bet's call; nothing is written and
//! nothing is decided by it – whether a stake can be taken, the wallet says when it is asked for that stake.
//! Deliberately absent: remembering a balance, which would be the wallet's of a moment ago.

use super::line::Places;
use crate::answer::{Failure, Handled, Reply};
use crate::engine::Engine;
use crate::player::Player;
use crate::session;
use domicile_core::error::Code;
use domicile_core::wallet::answer::Answer;
use domicile_core::wallet::exchange::BalanceQuery;
use serde_json::json;

/// Asks the wallet of the player's operator.
pub async fn ask(engine: &Engine, player: &Player) -> Handled {
    let of = &player.session;
    let Some(line) = engine.money.line(&of.operator)? else {
        return Err(Failure::with(Code::NotFound, "the operator has no wallet here"));
    };
    if session::is_revoked(engine, player).await? {
        return engine.acknowledge(Err(Failure::new(Code::SessionRevoked))).await;
    }
    let Some(admission) = line.admit(Places::Bets).await else {
        return Err(Failure::new(Code::WalletUnavailable));
    };
    let query = BalanceQuery {
        id: engine.ids.uuid_v7(),
        player: of.player.clone(),
        session: of.session,
        jurisdiction: player.jurisdiction.clone(),
        game: of.game.clone(),
        currency: of.currency.clone(),
    };
    let asked = engine.unless_closing(line.balance(admission, &query)).await;
    match asked.ok_or(Failure::new(Code::WriterDraining))? {
        Ok(balance_micro) => {
            let told = json!({ "currency": of.currency, "balance_micro": balance_micro });
            engine.acknowledge(Reply::json(200, &told)).await
        }
        Err(Answer::None) => Err(Failure::new(Code::WalletUnavailable)),
        Err(refused) => Err(Failure::with(Code::BalanceRefused, refused.as_str())),
    }
}
