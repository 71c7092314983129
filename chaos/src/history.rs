//! What was promised to clients: one line per operation, `invoke` before it is sent, its outcome after.
//!
//! The checker knows nothing of the implementation: acknowledged plays must exist exactly once with the
//! answer that was given, refused ones must not exist, unknown ones may be either, but only one of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How an operation ended for its client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A success was answered: the exact body.
    Acknowledged(Value),
    /// It certainly was not executed.
    Refused(String),
    /// Timeout, lost connection, or an answer that says so.
    Unknown(String),
}

/// One play with its idempotency key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// The key all its attempts carried.
    pub key: String,
    /// Each attempt's outcome, in order; empty while the first is in flight.
    pub attempts: Vec<Outcome>,
}

impl Operation {
    /// The first acknowledgement, if any.
    pub fn acknowledged(&self) -> Option<&Value> {
        self.attempts.iter().find_map(|outcome| match outcome {
            Outcome::Acknowledged(body) => Some(body),
            _ => None,
        })
    }
}

/// All operations of a run. Shared by the load's tasks.
#[derive(Debug, Default)]
pub struct History {
    operations: Mutex<BTreeMap<String, Operation>>,
}

impl History {
    /// A client that panicked while it recorded has left a whole entry, or none.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that an operation is about to be sent.
    pub fn invoke(&self, key: &str) {
        let mut operations = self.lock();
        operations
            .entry(key.to_owned())
            .or_insert_with(|| Operation { key: key.to_owned(), attempts: Vec::new() });
    }

    /// Records how an attempt ended.
    pub fn outcome(&self, key: &str, outcome: Outcome) {
        let mut operations = self.lock();
        if let Some(operation) = operations.get_mut(key) {
            operation.attempts.push(outcome);
        }
    }

    /// Everything recorded so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.lock().values().cloned().collect()
    }

    /// How many operations were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.operations().iter().filter(|operation| operation.acknowledged().is_some()).count()
    }

    /// How many operations are in flight: invoked, with no outcome yet.
    pub fn in_flight(&self) -> usize {
        self.operations().iter().filter(|operation| operation.attempts.is_empty()).count()
    }
}

/// Checks a history against what exists now: round id → how often, per bet row of the ledger.
/// Returns every violation in words.
pub fn violations(operations: &[Operation], exists: &BTreeMap<String, usize>) -> Vec<String> {
    let mut found = Vec::new();
    let mut rounds: BTreeMap<&str, &str> = BTreeMap::new();
    for operation in operations {
        let mut first: Option<&Value> = None;
        for outcome in &operation.attempts {
            let Outcome::Acknowledged(body) = outcome else { continue };
            match first {
                None => first = Some(body),
                Some(before) if before != body => {
                    found.push(format!("{}: two different acknowledgements", operation.key));
                }
                Some(_) => {}
            }
        }
        let Some(round) = first.and_then(|body| body.get("round")?.as_str()) else { continue };
        match exists.get(round) {
            Some(1) => {}
            Some(times) => {
                found.push(format!("{}: round {round} exists {times} times", operation.key));
            }
            None => found.push(format!("{}: acknowledged round {round} is lost", operation.key)),
        }
        if let Some(other) = rounds.insert(round, &operation.key) {
            found.push(format!("{} and {other} were given the same round {round}", operation.key));
        }
    }
    let promised = operations.iter().filter(|operation| operation.acknowledged().is_some()).count();
    let undecided = operations.iter().filter(|operation| {
        operation.acknowledged().is_none()
            && operation.attempts.iter().all(|outcome| !matches!(outcome, Outcome::Refused(_)))
    });
    let most = promised.saturating_add(undecided.count());
    let present: usize = exists.values().sum();
    if present > most {
        found.push(format!("{present} rounds exist, at most {most} were asked for"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn acked(key: &str, rounds: &[&str]) -> Operation {
        let attempts =
            rounds.iter().map(|round| Outcome::Acknowledged(json!({ "round": round }))).collect();
        Operation { key: key.to_owned(), attempts }
    }

    fn exists(rounds: &[(&str, usize)]) -> BTreeMap<String, usize> {
        rounds.iter().map(|(round, times)| ((*round).to_owned(), *times)).collect()
    }

    #[test]
    fn a_good_history_passes() {
        let unknown =
            Operation { key: "c".into(), attempts: vec![Outcome::Unknown("timeout".into())] };
        let operations = [acked("a", &["1", "1"]), acked("b", &["2"]), unknown];
        assert_eq!(violations(&operations, &exists(&[("1", 1), ("2", 1)])), Vec::<String>::new());
        assert!(violations(&operations, &exists(&[("1", 1), ("2", 1), ("3", 1)])).is_empty());
    }

    #[test]
    fn every_seeded_violation_is_found() {
        type Case<'a> = (&'a [Operation], &'a [(&'a str, usize)], &'a str);
        let refused =
            Operation { key: "r".into(), attempts: vec![Outcome::Refused("round-state".into())] };
        let bad: [Case<'_>; 5] = [
            (&[acked("a", &["1"])], &[], "is lost"),
            (&[acked("a", &["1"])], &[("1", 2)], "2 times"),
            (&[acked("a", &["1", "2"])], &[("1", 1)], "two different"),
            (&[acked("a", &["1"]), acked("b", &["1"])], &[("1", 1)], "the same round"),
            (&[refused], &[("9", 1)], "at most 0"),
        ];
        for (operations, rows, words) in bad {
            let found = violations(operations, &exists(rows));
            assert!(found.iter().any(|text| text.contains(words)), "{words}: {found:?}");
        }
    }
}
