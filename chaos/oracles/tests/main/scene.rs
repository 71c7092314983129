//! A small run in which everything is as promised, for tests to spoil.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domicile_oracles::history::{Acknowledged, Event, History, Kind, Mark, Outcome, Read};
use domicile_oracles::observation::{
    Booked, Effect, HeldLog, Holder, Money, Observation, Observations, Stake, Wallet,
};
use domicile_oracles::verdict::{Judgement, Limits, Oracle, judge};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A run, before it is judged.
pub(crate) struct Scene {
    pub(crate) events: Vec<Event>,
    pub(crate) observations: Observations,
    pub(crate) limits: Limits,
}

pub(crate) fn told(effect: &str, epoch: u64) -> Acknowledged {
    Acknowledged {
        effect: effect.into(),
        digest: format!("d-{effect}"),
        body_sha256: format!("b-{effect}"),
        epoch: Some(epoch),
        node: Some(if epoch == 1 { "writer-mt" } else { "writer-de" }.into()),
        replayed: false,
    }
}

pub(crate) fn invoke(millis: u64, key: &str, kind: Kind) -> Event {
    let tag = matches!(kind, Kind::Play | Kind::Bet).then(|| format!("t-{key}"));
    let at_ns = millis * 1_000_000;
    Event::Invoke { at_ns, client: "c".into(), key: key.into(), kind, tag, due_ns: at_ns }
}

pub(crate) fn outcome(millis: u64, key: &str, outcome: Outcome) -> Event {
    Event::Outcome { at_ns: millis * 1_000_000, client: "c".into(), key: key.into(), outcome }
}

pub(crate) fn mark(millis: u64, mark: Mark) -> Event {
    Event::Mark { at_ns: millis * 1_000_000, mark, detail: "test".into() }
}

pub(crate) fn record(observer: &str, epoch: u64, node: &str) -> Event {
    Event::Record { at_ns: 0, observer: observer.into(), epoch, node: node.into() }
}

pub(crate) fn read(
    millis: u64,
    effect: &str,
    found: bool,
    asked_size: u64,
    log_size: u64,
) -> Event {
    let answer = Read {
        node: "reader-mt".into(),
        jurisdiction: "MT".into(),
        effect: effect.into(),
        found,
        asked_size,
        log_size,
        lag_ms: 20,
    };
    let at_ns = millis * 1_000_000;
    Event::Read { asked_ns: at_ns - 1_000_000, at_ns, client: "r".into(), read: answer }
}

pub(crate) fn effect(name: &str, key: &str) -> Effect {
    let tag = name.starts_with("bet/").then(|| format!("t-{key}"));
    Effect { effect: name.into(), digest: format!("d-{name}"), tag, jurisdiction: "MT".into() }
}

pub(crate) fn leaf(number: u64) -> String {
    let hash = Sha256::digest(number.to_be_bytes());
    hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A note over the first `size` leaves, its root by the definition of RFC 6962.
pub(crate) fn note(size: u64) -> String {
    fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                let (left, right) = (root(left), root(right));
                Sha256::new()
                    .chain_update([1])
                    .chain_update(left)
                    .chain_update(right)
                    .finalize()
                    .into()
            }
        }
    }
    let leaves: Vec<[u8; 32]> =
        (0..size).map(|number| Sha256::digest(number.to_be_bytes()).into()).collect();
    format!("run/MT/1\n{size}\n{}\n\n— sig\n", STANDARD.encode(root(&leaves)))
}

fn node(name: &str, holder: Holder) -> Observation {
    let leaves = (0..5).map(|number| (number, leaf(number))).collect();
    let log = HeldLog { leaves, leaves_altered: 0, checkpoints: vec![note(2), note(5)] };
    let ledger = holder == Holder::Ledger;
    Observation {
        node: name.into(),
        effects: vec![effect("bet/1", "a"), effect("bet/2", "b"), effect("round/7", "o")],
        jurisdictions: ["MT".to_owned()].into(),
        logs: BTreeMap::from([("MT/1".to_owned(), log)]),
        epochs: if ledger {
            vec![(1, "writer-mt".into()), (2, "writer-de".into())]
        } else {
            vec![]
        },
        server_log: vec!["LOG:  database system is ready to accept connections".into()],
        holder,
    }
}

fn stake(bet: &str, payout_micro: Option<i64>, round: &str) -> Stake {
    Stake {
        bet: bet.into(),
        currency: "EUR".into(),
        jurisdiction: "MT".into(),
        stake_micro: 10,
        payout_micro,
        round: round.into(),
    }
}

pub(crate) fn booked(call: &str, bet: &str, amount_micro: i64) -> Booked {
    let stake = format!("s-{bet}");
    let reference = (call != "bet").then(|| stake.clone());
    let id = if call == "bet" { stake } else { format!("{call}-{bet}") };
    let (call, bet, currency) = (call.into(), bet.into(), "EUR".into());
    Booked { call, id, reference, bet, currency, amount_micro, times: 1 }
}

/// A bet that won, one that lost, one given back, one on a round that goes on, and two stakes that came to nothing.
fn money() -> Money {
    let stakes = vec![
        stake("1", Some(19), "settled"),
        stake("2", Some(0), "settled"),
        stake("3", Some(10), "voided"),
        stake("4", None, "open"),
    ];
    let mut entries: Vec<Booked> =
        ["1", "2", "3", "4", "5"].iter().map(|bet| booked("bet", bet, 10)).collect();
    entries.extend([
        booked("win", "1", 19),
        booked("rollback", "3", 10),
        booked("rollback", "5", 10),
        Booked { times: 0, ..booked("rollback", "6", 10) },
    ]);
    let euros = |amount| BTreeMap::from([("EUR".to_owned(), amount)]);
    let wallet = Wallet {
        entries,
        given_micro: euros(1_000),
        balances_micro: euros(1_000 - 50 + 39),
        ..Wallet::default()
    };
    let ledgers = ["ledger-mt", "ledger-de"].map(|node| (node.to_owned(), stakes.clone()));
    Money { ledgers: ledgers.into(), wallet: Some(wallet) }
}

impl Scene {
    /// A failover: one play before, one undecided and sent again, one refused, a shared round opened after it.
    pub(crate) fn good() -> Self {
        let acknowledged = |effect, epoch| Outcome::Acknowledged(told(effect, epoch));
        let events = vec![
            invoke(1, "a", Kind::Play),
            outcome(3, "a", acknowledged("bet/1", 1)),
            invoke(4, "b", Kind::Play),
            mark(5, Mark::Fault),
            outcome(9, "b", Outcome::Unknown("timeout".into())),
            invoke(10, "b", Kind::Play),
            invoke(11, "r", Kind::Play),
            outcome(12, "r", Outcome::Refused("bet-invalid".into())),
            outcome(20, "b", acknowledged("bet/2", 2)),
            invoke(21, "u", Kind::Play),
            invoke(22, "o", Kind::Open),
            outcome(25, "o", acknowledged("round/7", 2)),
            mark(26, Mark::Healed),
            read(27, "bet/1", true, 2, 2),
            read(30, "bet/1", true, 2, 5),
            invoke(31, "o2", Kind::Open),
            outcome(40, "o2", Outcome::Unknown("lost".into())),
            invoke(41, "c", Kind::Play),
            outcome(42, "c", acknowledged("bet/3", 2)),
            mark(43, Mark::LoadStopped),
            record("status", 1, "writer-mt"),
            record("status", 2, "writer-de"),
            Event::Checkpoint {
                at_ns: 2,
                source: "router-mt".into(),
                jurisdiction: "MT".into(),
                note: note(3),
            },
        ];
        let reader = Holder::Reader(["MT".to_owned()].into());
        let mut nodes = vec![
            node("ledger-mt", Holder::Ledger),
            node("ledger-de", Holder::Ledger),
            node("reader-mt", reader),
        ];
        for node in &mut nodes {
            node.effects.push(effect("bet/3", "c"));
        }
        let observations = Observations { nodes, unseen: BTreeMap::new(), money: money() };
        let limits = Limits {
            gap_max_ms: Some(20),
            new_epoch_max_ms: Some(20),
            lag_max_ms: [("MT".to_owned(), 1_000)].into(),
            failed_max: Some(3),
            ..Limits::default()
        };
        Self { events, observations, limits }
    }

    pub(crate) fn judge(&self) -> Judgement {
        let history = History::of(self.events.clone()).expect("a history");
        judge(&history, &self.observations, &self.limits)
    }

    /// The oracles that find something wrong.
    pub(crate) fn rejected_by(&self) -> Vec<Oracle> {
        let verdicts = self.judge().verdicts;
        verdicts.iter().filter(|verdict| verdict.broken > 0).map(|verdict| verdict.oracle).collect()
    }
}
