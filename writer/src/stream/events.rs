//! Which events a round's state stands for: pure.
//!
//! A round has four ids of its own, from its number: opened, closed, settled, voided – in this order. Invariants: whatever
//! state a round is found in, its events and their ids are the same, but for one that was seen closed and then was voided;
//! a round is told of only once its commitment is covered by a published checkpoint and bets are taken.

use crate::ledger::rounds_seen::{RoundSeen, Timed};
use crate::round_state::RoundState;
use domicile_core::hex;
use serde_json::{Value, json};

/// Ids of one round.
const IDS_PER_ROUND: u64 = 4;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: u64,
    /// What happened.
    pub name: &'static str,
    /// The particulars.
    pub data: Value,
}

impl Event {
    /// As it goes over the wire.
    pub fn wire(&self) -> String {
        format!("id: {}\nevent: {}\ndata: {}\n\n", self.id, self.name, self.data)
    }
}

/// The last event of a stream, which says why it ends. It has no id, so that the client goes on where it was.
pub fn last(reason: &str) -> String {
    format!("event: end\ndata: {}\n\n", json!({ "reason": reason }))
}

/// The id before a round's first event.
pub const fn before(ordinal: u64) -> u64 {
    ordinal.saturating_mul(IDS_PER_ROUND).saturating_sub(1)
}

/// The events of a round so far.
pub fn of_round((round, left_ms): &Timed) -> Vec<Event> {
    let mut events = Vec::new();
    let (true, Some(size)) = (round.has_begun, round.checkpoint_size) else { return events };
    let first = round.ordinal.saturating_mul(IDS_PER_ROUND);
    let opened = json!({
        "round": round.round,
        "game": round.game,
        "params": round.params,
        "currency": round.currency,
        "commitment": hex::encode(&round.commitment),
        "checkpoint_size": size,
        "closes_in_ms": if round.state == RoundState::Open { *left_ms } else { 0 },
    });
    events.push(Event { id: first, name: "round-opened", data: opened });
    if matches!(round.state, RoundState::Closed | RoundState::Settled) {
        let data = json!({ "round": round.round });
        events.push(Event { id: first.saturating_add(1), name: "round-closed", data });
    }
    events.extend(ended(round, first));
    events
}

fn ended(round: &RoundSeen, first: u64) -> Option<Event> {
    let (place, name) = match round.state {
        RoundState::Settled => (2, "round-settled"),
        RoundState::Voided => (3, "round-voided"),
        RoundState::Open | RoundState::Closed => return None,
    };
    let mut data = json!({ "round": round.round, "seed": round.seed_hex });
    if let (Some(outcome), Value::Object(members)) = (&round.outcome, &mut data) {
        members.insert("outcome".into(), json!(outcome));
    }
    Some(Event { id: first.saturating_add(place), name, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_core::ids::RoundId;

    fn round(state: RoundState) -> Timed {
        let seen = RoundSeen {
            round: RoundId(uuid::Uuid::nil()),
            ordinal: 5,
            game: "wheel".into(),
            params: "p".into(),
            currency: "EUR".into(),
            commitment: vec![7; 32],
            state,
            outcome: (state == RoundState::Settled).then(|| "3".into()),
            checkpoint_size: Some(9),
            has_begun: true,
            seed_hex: state.is_terminal().then(|| "ab".into()),
        };
        (seen, 1_200)
    }

    fn told(round: &Timed) -> Vec<(u64, &'static str)> {
        of_round(round).iter().map(|event| (event.id, event.name)).collect()
    }

    #[test]
    fn each_state_stands_for_its_events() {
        let (opened, closed) = ((20, "round-opened"), (21, "round-closed"));
        for (state, expected) in [
            (RoundState::Open, vec![opened]),
            (RoundState::Closed, vec![opened, closed]),
            (RoundState::Settled, vec![opened, closed, (22, "round-settled")]),
            (RoundState::Voided, vec![opened, (23, "round-voided")]),
        ] {
            assert_eq!(told(&round(state)), expected, "{state}");
            assert!(told(&round(state)).iter().all(|(id, _)| *id > before(5)));
        }
    }

    #[test]
    fn nothing_is_told_before_the_commitment_is_covered_and_bets_are_taken() {
        let (mut uncovered, mut early) = (round(RoundState::Open), round(RoundState::Open));
        uncovered.0.checkpoint_size = None;
        early.0.has_begun = false;
        assert_eq!((told(&uncovered), told(&early)), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_seed_is_told_at_the_end_only() {
        for state in RoundState::ALL {
            let events = of_round(&round(state));
            let with_seed = events.iter().filter(|event| event.data["seed"].is_string()).count();
            assert_eq!(with_seed, usize::from(state.is_terminal()), "{state}");
        }
        let opened = &of_round(&round(RoundState::Settled))[0];
        assert_eq!(opened.data["closes_in_ms"], 0, "a window that is over is over");
        assert_eq!(of_round(&round(RoundState::Open))[0].data["closes_in_ms"], 1_200);
    }

    #[test]
    fn the_wire_form_is_that_of_server_sent_events() {
        let event = Event { id: 3, name: "round-closed", data: json!({ "round": "r" }) };
        assert_eq!(event.wire(), "id: 3\nevent: round-closed\ndata: {\"round\":\"r\"}\n\n");
        assert_eq!(last("too-slow"), "event: end\ndata: {\"reason\":\"too-slow\"}\n\n");
    }
}
