//! The history of a run: what each client sent and was told, one JSON document per line.
//!
//! Invariants: `invoke` stands in the file before the request is sent, so that a request in flight when everything
//! ends is known; times are nanoseconds of the recorder's own monotonic clock.
//! Deliberately absent: wall clocks. Nothing is ordered by them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// What kind of operation was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An instant play.
    Play,
    /// A bet in a shared round.
    Bet,
    /// A shared round's beginning.
    Open,
    /// No more bets.
    Close,
    /// A shared round's outcome.
    Settle,
}

/// What an acknowledgement said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// The effect that was named, such as `bet/0198…`.
    pub effect: String,
    /// SHA-256 over the fields that the effect's row must show as well.
    pub digest: String,
    /// SHA-256 of the whole answer: a repetition gets the same bytes.
    pub body_sha256: String,
    /// The epoch that answered, if it was told.
    pub epoch: Option<u64>,
    /// The node or region that answered, if it was told.
    pub node: Option<String>,
    /// Whether an earlier attempt's answer was repeated.
    pub replayed: bool,
}

/// How one attempt ended for its client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A success was answered.
    Acknowledged(Acknowledged),
    /// This attempt certainly did nothing: the stable code.
    Refused(String),
    /// Timeout, lost connection, or an answer that says so.
    Unknown(String),
}

/// A read of a round's proof, answered by a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The reader that answered.
    pub node: String,
    /// Whose rows were asked for.
    pub jurisdiction: String,
    /// The effect that was looked for.
    pub effect: String,
    /// Whether it was there; `false` only when the reader said that there is no such thing.
    pub found: bool,
    /// The log size the client asked for at least.
    pub asked_size: u64,
    /// The log size the answer is from.
    pub log_size: u64,
    /// How far behind the reader said it was, in milliseconds.
    pub lag_ms: u64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// An attempt is about to be sent.
    Invoke {
        /// When.
        at_ns: u64,
        /// Who sends it.
        client: String,
        /// The idempotency key, the same for all attempts.
        key: String,
        /// What is asked for.
        kind: Kind,
        /// What the effect's row will show of the key, when the request can carry it.
        tag: Option<String>,
        /// When it was due; the client may have been too busy.
        due_ns: u64,
    },
    /// The client's pending attempt with this key has ended.
    Outcome {
        /// When.
        at_ns: u64,
        /// Who sent it.
        client: String,
        /// The key.
        key: String,
        /// How.
        outcome: Outcome,
    },
    /// A proof was read.
    Read {
        /// When it was asked for.
        asked_ns: u64,
        /// When it was answered.
        at_ns: u64,
        /// Who asked.
        client: String,
        /// What was answered.
        read: Read,
    },
    /// A checkpoint was fetched from outside.
    Checkpoint {
        /// When.
        at_ns: u64,
        /// From where.
        source: String,
        /// Whose log.
        jurisdiction: String,
        /// The note, as served.
        note: String,
    },
    /// Somebody saw who is the writer.
    Record {
        /// When.
        at_ns: u64,
        /// Who looked.
        observer: String,
        /// The epoch.
        epoch: u64,
        /// The writer's node.
        node: String,
    },
    /// Something was done to the system.
    Mark {
        /// When.
        at_ns: u64,
        /// `fault`, `healed`, `action`, `decided` or `load-stopped`.
        mark: Mark,
        /// What exactly.
        detail: String,
    },
}

/// What was done to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// A fault was injected.
    Fault,
    /// It was taken away.
    Healed,
    /// The operator gave a command.
    Action,
    /// The command ended.
    ActionDone,
    /// The system has all its copies again.
    Redundant,
    /// No new operation begins.
    LoadStopped,
}

/// One attempt of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it was sent.
    pub invoked_ns: u64,
    /// When and how it ended; nothing while it is in flight.
    pub ended: Option<(u64, Outcome)>,
}

/// All attempts with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who.
    pub client: String,
    /// The key.
    pub key: String,
    /// What was asked for.
    pub kind: Kind,
    /// What the effect's row shows of the key.
    pub tag: Option<String>,
    /// When the first attempt was due.
    pub due_ns: u64,
    /// In the order they were sent.
    pub attempts: Vec<Attempt>,
}

/// What a client knows in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It was told of the effect.
    Acknowledged(&'a Acknowledged),
    /// Every attempt certainly did nothing.
    Refused,
    /// It may have happened.
    Unknown,
}

impl Operation {
    /// Every acknowledgement, with the time its attempt was sent and the time it was told.
    pub fn acknowledgements(&self) -> impl Iterator<Item = (u64, u64, &Acknowledged)> {
        self.attempts.iter().filter_map(|attempt| match &attempt.ended {
            Some((at, Outcome::Acknowledged(told))) => Some((attempt.invoked_ns, *at, told)),
            _ => None,
        })
    }

    /// What the client knows in the end.
    pub fn standing(&self) -> Standing<'_> {
        if let Some((_, _, told)) = self.acknowledgements().next() {
            return Standing::Acknowledged(told);
        }
        let refused = |attempt: &Attempt| matches!(attempt.ended, Some((_, Outcome::Refused(_))));
        if self.attempts.iter().all(refused) { Standing::Refused } else { Standing::Unknown }
    }
}

/// Why a history cannot be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// A line is no event.
    #[error("line {line} is no event")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// An outcome without its invocation.
    #[error("line {line}: an outcome of `{key}`, which no attempt waits for")]
    Orphan {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
    },
}

/// A whole history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// By client and key: two clients that use one key are a mistake of the load, not of the system.
    pub operations: Vec<Operation>,
    /// Everything else, in order.
    pub events: Vec<Event>,
}

impl History {
    /// Reads the lines of a file. A last line without its line feed was being written when the recorder ended.
    pub fn parse(text: &str) -> Result<Self, HistoryError> {
        let complete = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or(""));
        let mut events = Vec::new();
        for (number, line) in complete.lines().enumerate() {
            let event = serde_json::from_str(line)
                .map_err(|source| HistoryError::Line { line: number + 1, source })?;
            events.push(event);
        }
        Self::of(events)
    }

    /// Puts events together that belong to one operation.
    pub fn of(events: Vec<Event>) -> Result<Self, HistoryError> {
        let mut history = Self::default();
        let mut index: BTreeMap<String, usize> = BTreeMap::new();
        for (number, event) in events.into_iter().enumerate() {
            match event {
                Event::Invoke { at_ns, client, key, kind, tag, due_ns } => {
                    let next = history.operations.len();
                    let place = *index.entry(key.clone()).or_insert(next);
                    if place == next {
                        let attempts = Vec::new();
                        let operation = Operation { client, key, kind, tag, due_ns, attempts };
                        history.operations.push(operation);
                    }
                    if let Some(operation) = history.operations.get_mut(place) {
                        operation.attempts.push(Attempt { invoked_ns: at_ns, ended: None });
                    }
                }
                Event::Outcome { at_ns, key, outcome, .. } => {
                    let operation =
                        index.get(&key).and_then(|place| history.operations.get_mut(*place));
                    let pending = operation.and_then(|operation| {
                        operation.attempts.iter_mut().find(|attempt| attempt.ended.is_none())
                    });
                    let Some(attempt) = pending else {
                        return Err(HistoryError::Orphan { line: number + 1, key });
                    };
                    attempt.ended = Some((at_ns, outcome));
                }
                other => history.events.push(other),
            }
        }
        Ok(history)
    }

    /// When something was first done to the system.
    pub fn marked(&self, wanted: Mark) -> Option<u64> {
        self.events.iter().find_map(|event| match event {
            Event::Mark { at_ns, mark, .. } if *mark == wanted => Some(*at_ns),
            _ => None,
        })
    }
}
