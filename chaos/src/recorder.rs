//! The recorder: writes each event before what it tells of goes on, and counts what is known so far.
//!
//! Invariant: when `invoke` returns, its line has been handed to the kernel; a request whose line was not written is not sent.

use anyhow::{Context, Result};
use domicile_oracles::History;
use domicile_oracles::history::{Event, Kind, Mark, Outcome, Read};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is known so far, without reading the file.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    in_flight: AtomicU64,
    highest_epoch: AtomicU64,
}

/// Writes a history.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    path: PathBuf,
    file: Mutex<File>,
    counts: Counts,
}

/// An operation about to be sent.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Who sends it.
    pub client: String,
    /// The idempotency key.
    pub key: String,
    /// What is asked for.
    pub kind: Kind,
    /// What the effect's row will show of the key.
    pub tag: Option<String>,
    /// When it was due.
    pub due: Instant,
}

impl Recorder {
    /// Begins a history in a new file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path)
            .with_context(|| format!("cannot begin the history {}", path.display()))?;
        Ok(Self {
            begun: Instant::now(),
            path: path.to_owned(),
            file: Mutex::new(file),
            counts: Counts::default(),
        })
    }

    fn at_ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The recorder's time now.
    pub fn now_ns(&self) -> u64 {
        self.at_ns(Instant::now())
    }

    fn write(&self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).context("the history cannot be written")
    }

    /// An attempt is about to be sent.
    pub fn invoke(&self, intent: &Intent) -> Result<()> {
        let Intent { client, key, kind, tag, due } = intent.clone();
        let due_ns = self.at_ns(due);
        self.write(&Event::Invoke { at_ns: self.now_ns(), client, key, kind, tag, due_ns })?;
        self.counts.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The attempt has ended.
    pub fn outcome(&self, intent: &Intent, outcome: Outcome) -> Result<()> {
        if let Outcome::Acknowledged(told) = &outcome {
            self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            self.counts.highest_epoch.fetch_max(told.epoch.unwrap_or_default(), Ordering::Relaxed);
        }
        self.counts.in_flight.fetch_sub(1, Ordering::Relaxed);
        let (client, key) = (intent.client.clone(), intent.key.clone());
        self.write(&Event::Outcome { at_ns: self.now_ns(), client, key, outcome })
    }

    /// A proof was read.
    pub fn read(&self, client: &str, asked_ns: u64, read: Read) -> Result<()> {
        let (at_ns, client) = (self.now_ns(), client.to_owned());
        self.write(&Event::Read { asked_ns, at_ns, client, read })
    }

    /// A checkpoint was fetched.
    pub fn checkpoint(&self, source: &str, jurisdiction: &str, note: &str) -> Result<()> {
        self.write(&Event::Checkpoint {
            at_ns: self.now_ns(),
            source: source.to_owned(),
            jurisdiction: jurisdiction.to_owned(),
            note: note.to_owned(),
        })
    }

    /// Somebody saw who is the writer.
    pub fn record(&self, observer: &str, epoch: u64, node: &str) -> Result<()> {
        let (observer, node) = (observer.to_owned(), node.to_owned());
        self.write(&Event::Record { at_ns: self.now_ns(), observer, epoch, node })
    }

    /// Something was done to the system.
    pub fn mark(&self, mark: Mark, detail: &str) -> Result<()> {
        self.write(&Event::Mark { at_ns: self.now_ns(), mark, detail: detail.to_owned() })
    }

    /// How many attempts were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.counts.acknowledged.load(Ordering::Relaxed)
    }

    /// How many attempts are in flight.
    pub fn in_flight(&self) -> u64 {
        self.counts.in_flight.load(Ordering::Relaxed)
    }

    /// The highest epoch that answered.
    pub fn highest_epoch(&self) -> u64 {
        self.counts.highest_epoch.load(Ordering::Relaxed)
    }

    /// Waits until `more` further attempts were acknowledged; false when the time has passed.
    pub async fn acknowledged_more(&self, more: u64, within: Duration) -> bool {
        let wanted = self.acknowledged() + more;
        let begun = Instant::now();
        while self.acknowledged() < wanted {
            if begun.elapsed() >= within {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Everything recorded so far.
    pub fn history(&self) -> Result<History> {
        let text = std::fs::read_to_string(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(History::parse(&text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domicile_oracles::history::Standing;

    #[test]
    fn what_was_sent_stands_in_the_file_before_it_is_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let recorder = Recorder::create(&folder.path().join("history.jsonl")).expect("a history");
        let intent = Intent {
            client: "p".into(),
            key: "k".into(),
            kind: Kind::Play,
            tag: None,
            due: Instant::now(),
        };
        recorder.invoke(&intent).expect("written");
        let before = recorder.history().expect("a history");
        assert_eq!(before.operations[0].standing(), Standing::Unknown);
        assert_eq!(recorder.in_flight(), 1);
        recorder.outcome(&intent, Outcome::Refused("bet-invalid".into())).expect("written");
        let after = recorder.history().expect("a history");
        assert_eq!(after.operations[0].standing(), Standing::Refused);
        assert_eq!((recorder.in_flight(), recorder.acknowledged()), (0, 0));
        assert!(
            Recorder::create(&folder.path().join("history.jsonl")).is_err(),
            "never overwritten"
        );
    }
}
