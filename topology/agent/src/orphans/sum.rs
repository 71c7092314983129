//! What a tail comes to: totals of all of it, and its first rounds by name.

use std::collections::BTreeMap;

use domicile_core::epoch::{Epoch, Lsn};
use domicile_core::ids::{Jurisdiction, OperatorId, RoundId};
use domicile_topology::agent_api::{OrphanRound, OrphanTail, OrphanTotal};
use serde_json::Value;

/// The most rounds of a tail that are answered by name; its file has all of them.
const NAMED_ROUNDS: usize = 5_000;

/// The sum so far.
#[derive(Debug, Default)]
pub(super) struct Sum {
    rows: BTreeMap<String, u64>,
    named: BTreeMap<(Jurisdiction, RoundId), OrphanRound>,
    unnamed: u64,
    totals: BTreeMap<(Jurisdiction, OperatorId, String), OrphanTotal>,
}

impl Sum {
    /// Adds a row of a table.
    pub(super) fn add(&mut self, table: &'static str, row: &Value) {
        let count = self.rows.entry(table.to_owned()).or_default();
        *count = count.saturating_add(1);
        match table {
            "ledger.round" => drop(self.add_round(row, "id", "state")),
            "ledger.bet" => drop(self.add_bet(row)),
            _ => {}
        }
    }

    fn add_round(&mut self, row: &Value, id: &str, state: &str) -> Option<()> {
        let (jurisdiction, operator, currency) = owner(row)?;
        let id = RoundId::parse(text(row, id)?).ok()?;
        let total = self.total(&jurisdiction, &operator, &currency);
        total.rounds = total.rounds.saturating_add(1);
        if self.named.len() >= NAMED_ROUNDS {
            self.unnamed = self.unnamed.saturating_add(1);
            return Some(());
        }
        let state = text(row, state).unwrap_or("kept").to_owned();
        let key = (jurisdiction.clone(), id);
        let round =
            OrphanRound { jurisdiction, id, operator, currency, state, bets: 0, stake_micro: 0 };
        self.named.insert(key, round);
        Some(())
    }

    fn add_bet(&mut self, row: &Value) -> Option<()> {
        let (jurisdiction, operator, currency) = owner(row)?;
        let stake_micro = row.get("stake_micro").and_then(Value::as_u64)?;
        let key = (jurisdiction.clone(), RoundId::parse(text(row, "round_id")?).ok()?);
        // The new history may have the round, and lack a bet on it.
        if !self.named.contains_key(&key) && self.unnamed == 0 {
            self.add_round(row, "round_id", "")?;
        }
        if let Some(round) = self.named.get_mut(&key) {
            round.bets = round.bets.saturating_add(1);
            round.stake_micro = round.stake_micro.saturating_add(stake_micro);
        }
        let total = self.total(&jurisdiction, &operator, &currency);
        total.bets = total.bets.saturating_add(1);
        total.stake_micro = total.stake_micro.saturating_add(stake_micro);
        Some(())
    }

    fn total(
        &mut self,
        jurisdiction: &Jurisdiction,
        operator: &OperatorId,
        currency: &str,
    ) -> &mut OrphanTotal {
        let key = (jurisdiction.clone(), operator.clone(), currency.to_owned());
        self.totals.entry(key).or_insert_with(|| OrphanTotal {
            jurisdiction: jurisdiction.clone(),
            operator: operator.clone(),
            currency: currency.to_owned(),
            rounds: 0,
            bets: 0,
            stake_micro: 0,
        })
    }

    /// The tail with this sum.
    pub(super) fn into_tail(
        self,
        (epoch, fork_lsn): (Epoch, Lsn),
        file: String,
        uncompared: Vec<String>,
    ) -> OrphanTail {
        OrphanTail {
            epoch,
            fork_lsn,
            file,
            rounds: self.named.into_values().collect(),
            unnamed_rounds: self.unnamed,
            totals: self.totals.into_values().collect(),
            rows: self.rows,
            uncompared,
        }
    }
}

fn text<'a>(row: &'a Value, name: &str) -> Option<&'a str> {
    row.get(name).and_then(Value::as_str)
}

fn owner(row: &Value) -> Option<(Jurisdiction, OperatorId, String)> {
    let jurisdiction = Jurisdiction::parse(text(row, "jurisdiction")?).ok()?;
    let operator = OperatorId::parse(text(row, "operator_id")?).ok()?;
    Some((jurisdiction, operator, text(row, "currency")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(number: usize) -> String {
        format!("0190b2f0-1c2d-7e3f-8a4b-{number:012x}")
    }

    fn round(number: usize) -> Value {
        json!({ "jurisdiction": "MT", "id": id(number), "operator_id": "acme", "currency": "EUR", "state": "settled" })
    }

    fn bet(number: usize, stake_micro: u64) -> Value {
        json!({ "jurisdiction": "MT", "id": id(9), "round_id": id(number), "operator_id": "acme", "currency": "EUR",
            "stake_micro": stake_micro })
    }

    #[test]
    fn everything_is_in_the_totals_and_the_first_rounds_are_named() {
        let mut sum = Sum::default();
        for number in 0..=NAMED_ROUNDS {
            sum.add("ledger.round", &round(number));
        }
        for number in 0..=NAMED_ROUNDS {
            sum.add("ledger.bet", &bet(number, 3));
        }
        sum.add("ledger.session", &json!({}));
        let tail = sum.into_tail((Epoch(1), Lsn(1)), String::new(), vec![]);
        assert_eq!((tail.rounds.len(), tail.unnamed_rounds), (NAMED_ROUNDS, 1));
        let count = u64::try_from(NAMED_ROUNDS).unwrap() + 1;
        let total = &tail.totals[0];
        assert_eq!((total.rounds, total.bets, total.stake_micro), (count, count, 3 * count));
        assert_eq!(tail.rows["ledger.session"], 1);
    }

    #[test]
    fn a_lost_bet_on_a_round_that_is_there_names_the_round() {
        let mut sum = Sum::default();
        sum.add("ledger.bet", &bet(1, 5));
        let tail = sum.into_tail((Epoch(1), Lsn(1)), String::new(), vec![]);
        assert_eq!((tail.rounds[0].bets, tail.rounds[0].state.as_str()), (1, "kept"));
        assert_eq!(tail.totals[0].rounds, 1);
    }
}
