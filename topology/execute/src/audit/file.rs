//! Writing the file: a thread that takes entries in order, and never keeps the plan waiting.

use super::chain::{Line, Verified, hash, verify};
use crate::entry::Entry;
use domicile_topology::plan::Plan;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that may wait for the disk; what does not fit is added when the plan ends or goes on.
const MAX_WAITING_LINES: usize = 1_024;
/// How much is read at once in search of the last line break.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long another writer of the file is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The pause between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// What the thread is given.
enum Work {
    Begins(Box<Plan>),
    Entry { plan: String, number: u32, entry: Box<Entry> },
}

/// The thread, and the way to it.
type Writer = (SyncSender<Work>, JoinHandle<Result<Verified, String>>);

/// The file of one run; without a path nothing is written.
#[derive(Debug, Default)]
pub(crate) struct AuditFile {
    thread: Option<Writer>,
    fault: Option<String>,
}

impl AuditFile {
    /// Opens the file, or notes why not: the move matters more than its record on this disk.
    pub(crate) fn open(path: Option<&Path>) -> Self {
        let Some(path) = path.map(Path::to_owned) else { return Self::default() };
        let (sender, receiver) = sync_channel(MAX_WAITING_LINES);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        match thread.spawn(move || write_all(&path, &receiver).map_err(|error| error.to_string())) {
            Ok(handle) => Self { thread: Some((sender, handle)), fault: None },
            Err(error) => Self { thread: None, fault: Some(error.to_string()) },
        }
    }

    /// A plan of this file; written unless it is there.
    pub(crate) fn begins(&mut self, plan: &Plan) {
        self.send(Work::Begins(Box::new(plan.clone())));
    }

    /// An entry; written unless it is there.
    pub(crate) fn entry(&mut self, plan: &str, number: u32, entry: &Entry) {
        let (plan, entry) = (plan.to_owned(), Box::new(entry.clone()));
        self.send(Work::Entry { plan, number, entry });
    }

    fn send(&mut self, work: Work) {
        let Some((sender, _)) = &self.thread else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send(work) {
            self.fault = Some("the disk does not keep up; entries are missing".to_owned());
        }
    }

    /// Waits until all is on disk; what the file holds now, and what went wrong.
    pub(crate) async fn close(self) -> (Option<Verified>, Option<String>) {
        let Some((sender, handle)) = self.thread else { return (None, self.fault) };
        drop(sender);
        let joined = tokio::task::spawn_blocking(move || handle.join()).await;
        match joined {
            Ok(Ok(Ok(verified))) => (Some(verified), self.fault),
            Ok(Ok(Err(fault))) => (None, Some(fault)),
            Ok(Err(_)) | Err(_) => (None, Some("the audit thread ended unexpectedly".to_owned())),
        }
    }
}

fn write_all(path: &PathBuf, work: &Receiver<Work>) -> std::io::Result<Verified> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    lock(&file)?;
    cut_torn_line(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let mut verified = verify(BufReader::new(&file)).map_err(std::io::Error::other)?;
    while let Ok(work) = work.recv() {
        append(&mut file, &mut verified, work)?;
    }
    file.sync_all()?;
    Ok(verified)
}

/// Waits for whoever else writes: an executor that fell behind may have lines left.
fn lock(file: &File) -> std::io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= LOCK_WAIT => {
                return Err(std::io::Error::other("another executor writes to it"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
}

fn append(file: &mut File, verified: &mut Verified, work: Work) -> std::io::Result<()> {
    let previous = verified.head.clone();
    let line = match work {
        Work::Begins(plan) => {
            Line { previous, plan: plan.id.clone(), number: 0, begins: Some(*plan), entry: None }
        }
        Work::Entry { plan, number, entry } => {
            Line { previous, plan, number, begins: None, entry: Some(*entry) }
        }
    };
    if line.number != verified.next(&line.plan) {
        // It is there already; or one before it is missing, which the next run adds with this one.
        return Ok(());
    }
    let mut text = serde_json::to_vec(&line)?;
    verified.head = hash(&text);
    verified.lines = verified.lines.saturating_add(1);
    verified.plans.insert(line.plan, line.number);
    text.push(b'\n');
    file.write_all(&text)
}

/// Removes what a killed writer left of a last line.
fn cut_torn_line(file: &mut File) -> std::io::Result<()> {
    let mut kept = file.seek(SeekFrom::End(0))?;
    let end = kept;
    let mut chunk = vec![0; CHUNK_BYTES];
    while kept > 0 {
        let begin = kept.saturating_sub(u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX));
        let length = usize::try_from(kept - begin).unwrap_or(CHUNK_BYTES);
        let part = chunk.get_mut(..length).unwrap_or_default();
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        let last = part.iter().rposition(|byte| *byte == b'\n');
        kept = last.map_or(begin, |at| begin + u64::try_from(at).unwrap_or_default() + 1);
        if last.is_some() {
            break;
        }
    }
    if kept < end {
        file.set_len(kept)?;
    }
    Ok(())
}
