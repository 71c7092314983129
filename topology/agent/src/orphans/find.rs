//! One lost bet out of the kept tails: all that its receipt has to be matched with; and the wins that tails have asked
//! wallets for.
//!
//! Invariant: one pass over each file, a line in memory at a time. Deliberately absent: believing any of it. Whoever asks
//! holds the receipt, whose commitments the rows have to fit.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use domicile_core::ids::BetId;
use domicile_topology::agent_api::{
    OrphanBet, OrphanBetAnswer, OrphanBetRequest, OrphanGround, OrphanWin, OrphanWinsAnswer,
    OrphanWinsRequest,
};
use serde::Deserialize;
use serde_json::Value;

use super::compare::{LEAVES, Table};
use crate::agent::Agent;
use crate::error::Error;

/// The longest line of a tail that is read, bytes; a row of the ledger is far shorter.
const LINE_MAX_BYTES: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct Line {
    table: String,
    row: Value,
}

impl Agent {
    /// What is kept of a bet here.
    pub fn orphan_bet(&self, request: &OrphanBetRequest) -> Result<OrphanBetAnswer, Error> {
        // The newest tail knows best.
        for tail in self.orphans()?.tails.iter().rev() {
            let found = find(Path::new(&tail.file), request);
            let found = found.map_err(|error| Error::step("read the kept orphans", error))?;
            if let Some(bet) = found {
                return Ok(OrphanBetAnswer { found: Some(bet) });
            }
        }
        Ok(OrphanBetAnswer::default())
    }

    /// What is kept here of the wins of these bets.
    pub fn orphan_wins(&self, request: &OrphanWinsRequest) -> Result<OrphanWinsAnswer, Error> {
        let mut answer = OrphanWinsAnswer::default();
        for tail in &self.orphans()?.tails {
            answer.is_partial |= tail.uncompared.iter().any(|table| table == WALLET_JOBS);
            let found = wins(Path::new(&tail.file), &request.bets);
            let found = found.map_err(|error| Error::step("read the kept orphans", error))?;
            answer.wins.extend(found);
        }
        Ok(answer)
    }
}

/// The table of wallet transactions, as tails name it.
const WALLET_JOBS: &str = Table::WalletJob.name();

fn wins(file: &Path, bets: &[BetId]) -> std::io::Result<Vec<OrphanWin>> {
    let mut wins = Vec::new();
    let mut lines = BufReader::new(File::open(file)?);
    let mut text = String::new();
    while lines.by_ref().take(LINE_MAX_BYTES).read_line(&mut text)? > 0 {
        if text.contains("\"win\"")
            && let Ok(Line { table, row }) = serde_json::from_str(&text)
            && table == WALLET_JOBS
            && let Ok(win) = serde_json::from_value::<WinRow>(row)
            && win.call == "win"
            && bets.contains(&win.bet_id)
        {
            let WinRow { id, bet_id: bet, state, amount_micro, .. } = win;
            wins.push(OrphanWin { bet, id, state, amount_micro });
        }
        text.clear();
    }
    Ok(wins)
}

/// A kept wallet transaction.
#[derive(Deserialize)]
struct WinRow {
    id: String,
    call: String,
    bet_id: BetId,
    state: String,
    amount_micro: i64,
}

fn find(file: &Path, request: &OrphanBetRequest) -> std::io::Result<Option<OrphanBet>> {
    let (round, bet) = (request.round.to_string(), request.bet.to_string());
    let (mut found_bet, mut found_round, mut leaf, mut wallet) = (None, None, None, None);
    let mut lines = BufReader::new(File::open(file)?);
    let mut text = String::new();
    while lines.by_ref().take(LINE_MAX_BYTES).read_line(&mut text)? > 0 {
        if (text.contains(&round) || text.contains(&bet))
            && let Ok(Line { table, row }) = serde_json::from_str(&text)
        {
            let is = |name: &str, id: &str| row.get(name).and_then(Value::as_str) == Some(id);
            let here = is("jurisdiction", request.jurisdiction.as_str());
            match table.as_str() {
                "ledger.round" if here && is("id", &round) => found_round = Some(row),
                "ledger.bet" if here && is("id", &bet) && is("round_id", &round) => {
                    found_bet = Some(row);
                }
                LEAVES
                    if here
                        && is("subject", &round)
                        && (is("kind", "play") || is("kind", "round-settle")) =>
                {
                    leaf = row.get("entry").and_then(Value::as_str).map(str::to_owned);
                }
                "ledger.wallet_job" if is("bet_id", &bet) && is("call", "bet") => {
                    wallet = Some(row);
                }
                _ => {}
            }
        }
        text.clear();
    }
    let ground = found_round.and_then(|row| ground(&row));
    let (record, salt) = (field(found_bet.as_ref(), "record"), field(found_bet.as_ref(), "salt"));
    let bet = record.zip(salt);
    Ok(bet.map(|(record, salt)| OrphanBet { record, salt, ground, leaf, wallet }))
}

fn field(row: Option<&Value>, name: &str) -> Option<String> {
    row?.get(name)?.as_str().map(str::to_owned)
}

fn ground(row: &Value) -> Option<OrphanGround> {
    let of = |name| field(Some(row), name);
    Some(OrphanGround {
        kind: of("kind")?,
        game: of("game")?,
        params: of("params")?,
        state: of("state")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wins_are_found_by_the_bets_they_pay() {
        let id = |n: u8| format!("0190b2f0-1c2d-7e3f-8a4b-00000000000{n}");
        let bet = |n| BetId::parse(&id(n)).unwrap();
        let line = |table: &str, call: &str, bet: u8| {
            let row = json!({
                "id": id(9), "call": call, "bet_id": id(bet), "state": "done", "amount_micro": 7,
            });
            json!({ "table": table, "row": row }).to_string()
        };
        let lines = [
            line(WALLET_JOBS, "rollback", 1),
            line(WALLET_JOBS, "win", 2),
            line("ledger.request", "win", 1),
            line(WALLET_JOBS, "win", 1),
            line(WALLET_JOBS, "bet", 1),
        ];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tail.jsonl");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let wanted =
            OrphanWin { bet: bet(1), id: id(9), state: "done".to_owned(), amount_micro: 7 };
        assert_eq!(wins(&file, &[bet(1)]).unwrap(), [wanted]);
        assert_eq!(wins(&file, &[bet(3)]).unwrap(), []);
    }

    #[test]
    fn a_bet_is_found_with_its_round_leaf_and_stake_and_no_other() {
        let (round, bet) =
            ("0190b2f0-1c2d-7e3f-8a4b-000000000001", "0190b2f0-1c2d-7e3f-8a4b-000000000002");
        let other = "0190b2f0-1c2d-7e3f-8a4b-000000000003";
        let line = |table: &str, row: Value| json!({ "table": table, "row": row }).to_string();
        let lines = [
            line(
                "ledger.round",
                json!({ "jurisdiction": "MT", "id": round, "kind": "play", "game": "g", "params": "p", "state": "settled" }),
            ),
            line(
                LEAVES,
                json!({ "jurisdiction": "MT", "subject": round, "kind": "play", "entry": "e" }),
            ),
            line(
                "ledger.bet",
                json!({ "jurisdiction": "MT", "id": bet, "round_id": round, "record": "r", "salt": "s" }),
            ),
            line("ledger.bet", json!({ "jurisdiction": "DE", "id": other, "round_id": round })),
            line("ledger.wallet_job", json!({ "id": other, "call": "win", "bet_id": bet })),
            line("ledger.wallet_job", json!({ "id": round, "call": "bet", "bet_id": bet })),
        ];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tail.jsonl");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let request = |jurisdiction: &str, bet: &str| OrphanBetRequest {
            jurisdiction: jurisdiction.parse().unwrap(),
            round: domicile_core::ids::RoundId::parse(round).unwrap(),
            bet: domicile_core::ids::BetId::parse(bet).unwrap(),
        };
        let found = find(&file, &request("MT", bet)).unwrap().unwrap();
        assert_eq!(found.leaf.as_deref(), Some("e"));
        assert_eq!((found.record.as_str(), found.salt.as_str()), ("r", "s"));
        assert_eq!(found.ground.unwrap().state, "settled");
        assert_eq!(found.wallet.unwrap()["call"], "bet");
        assert!(find(&file, &request("DE", bet)).unwrap().is_none());
        assert!(find(&file, &request("MT", other)).unwrap().is_none());
    }
}
